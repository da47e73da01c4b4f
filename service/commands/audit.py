"""``ausculta audit``: prove that the record is whole, and hand it over."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from privacy.checkpoints import FILE
from privacy.verify import export as export_events
from privacy.verify import verify as verify_log
from service.commands.command_context import ConfigOption, command_context

app = typer.Typer(no_args_is_help=True, help="Prove that the record is whole, and hand it over.")


@app.command()
def verify(
    checkpoints: Annotated[
        Path | None, typer.Option(help="Signed checkpoints to hold it against; a copy kept elsewhere proves most.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Find an edited, removed, reordered or truncated event; exit 1 when there is one."""
    with command_context(config) as context:
        file = checkpoints or context.settings.data_dir / FILE
        with context.database.read() as connection:
            report = verify_log(connection, context.keys, file)
    typer.echo(f"events: {report.size}\nroot:   {report.root.hex()}")
    for problem in report.problems:
        typer.echo(f"ALTERED: {problem}")
    typer.echo("the record is whole" if report.ok else "the record is NOT whole")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def export(config: ConfigOption = None) -> None:
    """Write every AuditEvent as NDJSON to standard output, in order."""
    with command_context(config) as context, context.database.read() as connection:
        for line in export_events(connection):
            sys.stdout.buffer.write(line)
