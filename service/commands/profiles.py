"""``ausculta profiles``: the profiles that ``$validate`` knows."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.command_context import ConfigOption, command_context

app = typer.Typer(no_args_is_help=True, help="The FHIR profiles that $validate knows.")


@app.command()
def add(
    package: Annotated[Path, typer.Argument(help="A package (.tgz) or a folder, with snapshots.")],
    config: ConfigOption = None,
) -> None:
    """Add a package of profiles, or replace the one of the same name; a running server knows it at once."""
    from service.operations import profiles as operations

    with command_context(config) as context:
        folder = context.settings.data_dir / operations.PROFILES
        count = operations.add(context.operations, context.principal, folder, package)
    typer.echo(f"{count} profiles are known from {package.name}")


@app.command("list")
def list_profiles(config: ConfigOption = None) -> None:
    """Show the canonicals of all profiles and extensions that are known."""
    from fhir_adapter.validation.profiles import Profiles
    from fhir_adapter.validation.table import r4
    from service.operations.profiles import PROFILES

    with command_context(config) as context:
        known = Profiles(r4(), context.settings.data_dir / PROFILES)
    for url in known.urls():
        typer.echo(url)
