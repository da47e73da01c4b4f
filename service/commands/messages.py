"""``ausculta messages``: HL7 v2 messages that correct or withdraw what is not stored."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from kernel import inbox
from service.commands.command_context import ConfigOption, command_context
from service.commands.output import console
from service.operations import messages as operations

app = typer.Typer(no_args_is_help=True, help="HL7 v2 messages that correct or withdraw what is not stored.")

MessageArgument = Annotated[str, typer.Argument(help="Id of the message.")]
ReasonOption = Annotated[str, typer.Option(help="Why; recorded. No patient data.")]


@app.command("list")
def list_messages(config: ConfigOption = None) -> None:
    """Show the messages that wait for a person, the newest first."""
    with command_context(config) as context, context.database.read() as connection:
        found = inbox.unmatched(connection)
    table = Table("message", "sender", "received", title="Messages that met nothing stored")
    for one in found:
        table.add_row(one.id, escape(one.source), one.received_at.isoformat(timespec="seconds"))
    console().print(table)


@app.command()
def show(message: MessageArgument, config: ConfigOption = None) -> None:
    """Show a message as it was sent, which is patient data; the access is recorded."""
    with command_context(config) as context:
        raw = operations.open_message(context.operations, context.principal, message)
    text = raw.decode(errors="replace").replace("\r", "\n")
    typer.echo("".join(it if it.isprintable() or it == "\n" else "?" for it in text))


@app.command()
def dismiss(message: MessageArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Decide that nothing more is to be done about a message."""
    with command_context(config) as context:
        operations.dismiss(context.operations, context.principal, message, reason)
    typer.echo("it is dismissed")
