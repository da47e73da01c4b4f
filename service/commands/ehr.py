"""``ausculta ehr``: whether the hospital's FHIR server is there and takes what we send."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The hospital's own FHIR server.")


@app.callback()
def group() -> None:
    """Keep ``check`` a command of a group, so that others can join it."""


@app.command()
def check(url: Annotated[str, typer.Argument(help="Its FHIR base URL.")]) -> None:
    """Read its CapabilityStatement and say whether results can be written there."""
    import httpx

    from fhir_adapter.ehr.upstream import Upstream

    with httpx.Client(trust_env=False) as client:
        typer.echo(Upstream(url, client).check())
