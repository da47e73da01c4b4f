"""``ausculta jobs``: what waits, what waits for a person, and trying it again."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kernel.db import Transaction
from kernel.errors import Category, Problem
from service.commands.desk import ConfigOption, Desk, at_desk

app = typer.Typer(no_args_is_help=True, help="What waits, and what waits for a person.")


@app.command("list")
def list_jobs(config: ConfigOption = None) -> None:
    """Show every job."""
    with at_desk(config) as desk:
        _print(desk, None)


@app.command()
def parked(config: ConfigOption = None) -> None:
    """Show the jobs and deliveries that wait for a person, each with its reason."""
    with at_desk(config) as desk:
        _print(desk, "parked")
        with desk.database.read() as connection:
            deliveries = desk.outbox.parked(connection)
    table = Table("delivery", "destination", "result", "attempts", "reason", title="Parked deliveries")
    for delivery in deliveries:
        reason = delivery.problem or ""
        table.add_row(delivery.id, delivery.destination, delivery.about[:12], str(delivery.attempts), reason)
    Console().print(table)


@app.command()
def replay(
    name: Annotated[str, typer.Argument(help="Id of a parked job or delivery.")], config: ConfigOption = None
) -> None:
    """Try a parked job or delivery again."""
    with at_desk(config) as desk:

        def again(tx: Transaction) -> bool:
            for command, replay_one in (("job-replayed", desk.jobs.replay), ("delivery-replayed", desk.outbox.replay)):
                if replay_one(tx, name):
                    desk.command(tx, command, f"urn:uuid:{name}")
                    return True
            return False

        if not desk.database.write(again):
            raise Problem(Category.NOT_FOUND, f"nothing parked has the id {name}")
    typer.echo("it waits to be tried again")


def _print(desk: Desk, status: str | None) -> None:
    with desk.database.read() as connection:
        found = desk.jobs.listing(connection, status)
    table = Table("job", "step", "status", "attempts", "due", "reason", title="Jobs")
    for job in found:
        reason = "" if job.problem is None else f"{job.problem.category}: {job.problem.detail}"
        due = job.scheduled_at.isoformat(timespec="seconds")
        table.add_row(job.id, job.step, job.status, str(job.attempts), due, reason)
    Console().print(table)
