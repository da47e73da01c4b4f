"""``ausculta jobs``: what waits, what waits for a person, and trying it again."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kernel.db import Transaction
from kernel.errors import Category, Problem
from service.commands.command_context import CommandContext, ConfigOption, command_context

app = typer.Typer(no_args_is_help=True, help="What waits, and what waits for a person.")


@app.command("list")
def list_jobs(config: ConfigOption = None) -> None:
    """Show every job."""
    with command_context(config) as context:
        _print(context, None)


@app.command()
def parked(config: ConfigOption = None) -> None:
    """Show the jobs and deliveries that wait for a person, each with its reason."""
    with command_context(config) as context:
        _print(context, "parked")
        with context.database.read() as connection:
            deliveries = context.outbox.parked(connection)
    table = Table("delivery", "destination", "result", "attempts", "reason", title="Parked deliveries")
    for delivery in deliveries:
        reason = delivery.problem or ""
        table.add_row(delivery.id, delivery.destination, delivery.subject[:12], str(delivery.attempts), reason)
    Console().print(table)


@app.command()
def replay(
    name: Annotated[str, typer.Argument(help="Id of a parked job or delivery.")], config: ConfigOption = None
) -> None:
    """Try a parked job or delivery again."""
    with command_context(config) as context:

        def again(tx: Transaction) -> bool:
            for command, replay_one in (
                ("job-replayed", context.jobs.replay),
                ("delivery-replayed", context.outbox.replay),
            ):
                if replay_one(tx, name):
                    context.command(tx, command, f"urn:uuid:{name}")
                    return True
            return False

        if not context.database.write(again):
            raise Problem(Category.NOT_FOUND, f"nothing parked has the id {name}")
    typer.echo("it waits to be tried again")


def _print(context: CommandContext, status: str | None) -> None:
    with context.database.read() as connection:
        found = context.jobs.listing(connection, status)
    table = Table("job", "step", "status", "attempts", "due", "reason", title="Jobs")
    for job in found:
        reason = "" if job.problem is None else f"{job.problem.category}: {job.problem.detail}"
        due = job.scheduled_at.isoformat(timespec="seconds")
        table.add_row(job.id, job.step, job.status, str(job.attempts), due, reason)
    Console().print(table)
