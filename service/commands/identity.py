"""``ausculta identity``: what contradicts what is known of its patient, and what a person decides about it."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fhir_adapter.same_person import Person
from service.commands.command_context import ConfigOption, command_context
from service.commands.output import console
from service.operations import identity as operations

app = typer.Typer(no_args_is_help=True, help="What contradicts what is known of its patient.")

HoldArgument = Annotated[str, typer.Argument(help="Id of what is held.")]
ReasonOption = Annotated[str, typer.Option(help="Why; recorded. No patient data.")]
EveryOption = Annotated[bool, typer.Option("--all", help="Also what was decided.")]


@app.command("list")
def list_holds(
    every: EveryOption = False,  # noqa: FBT002 - typer's way
    config: ConfigOption = None,
) -> None:
    """Show what is held, the newest first."""
    with command_context(config) as context, context.database.read() as connection:
        found = context.operations.holds.listing(connection, None if every else "open")
    table = Table("hold", "what", "contradiction", "patient", "since", "state", title="Patient identity in doubt")
    for one in found:
        what = "study" if one.kind == "study" else f"{one.messages} messages of {one.subject}"
        since = one.created_at.isoformat(timespec="seconds")
        table.add_row(one.id, escape(what), one.why, one.patient.removeprefix("Patient/")[:12], since, one.state)
    console().print(table)


@app.command()
def show(hold: HoldArgument, config: ConfigOption = None) -> None:
    """Show both statements about the person, which is patient data; the access is recorded."""
    with command_context(config) as context:
        opened = operations.open_hold(context.operations, context.principal, hold)
    found = opened.hold
    typer.echo(f"{found.id}: {found.state}, {found.why}")
    typer.echo(f"about {found.patient}, from the {found.kind} {found.subject}")
    typer.echo(f"known:  {_line(opened.known)}")
    for person in opened.stated:
        typer.echo(f"stated: {_line(person)}")


@app.command()
def accept(hold: HoldArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Decide that it is of the patient: its messages are converted, its study is read."""
    with command_context(config) as context:
        operations.accept(context.operations, context.principal, hold, reason)
    typer.echo("it is accepted as the patient's")


@app.command()
def reject(hold: HoldArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Decide that it is not of the patient: its messages are never read, its study gets no score."""
    with command_context(config) as context:
        operations.reject(context.operations, context.principal, hold, reason)
    typer.echo("it is rejected")


def _line(person: Person) -> str:
    names = "; ".join(" ".join((f"{name.family},", *name.given)) for name in person.names)
    return " | ".join(text or "not stated" for text in (names, person.birth_date, person.sex))
