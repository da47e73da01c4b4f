"""``ausculta jobs``: what waits, what waits for a person, and trying it again."""

from collections.abc import Callable
from typing import Annotated, TypeAlias

import typer
from rich.table import Table

from kernel.errors import Category, Problem
from privacy.principal import Principal
from service.commands.command_context import CommandContext, ConfigOption, command_context
from service.commands.output import console
from service.operations import OperationContext
from service.operations.deliveries import replay as replay_delivery
from service.operations.jobs import replay_job

Operation: TypeAlias = Callable[[OperationContext, Principal, str], None]

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
    console().print(table)


@app.command()
def replay(
    name: Annotated[str, typer.Argument(help="Id of a parked job or delivery.")], config: ConfigOption = None
) -> None:
    """Try a parked job or delivery again."""
    with command_context(config) as context:
        if not any(_replay(context, operation, name) for operation in (replay_job, replay_delivery)):
            raise Problem(Category.NOT_FOUND, f"nothing parked has the id {name}")
    typer.echo("it waits to be tried again")


def _replay(context: CommandContext, operation: Operation, name: str) -> bool:
    try:
        operation(context.operations, context.principal, name)
    except Problem as problem:
        if problem.category is not Category.NOT_FOUND:
            raise
        return False
    return True


def _print(context: CommandContext, status: str | None) -> None:
    with context.database.read() as connection:
        found = context.jobs.listing(connection, status)
    table = Table("job", "step", "status", "attempts", "due", "reason", title="Jobs")
    for job in found:
        reason = "" if job.problem is None else f"{job.problem.category}: {job.problem.detail}"
        due = job.scheduled_at.isoformat(timespec="seconds")
        table.add_row(job.id, job.step, job.status, str(job.attempts), due, reason)
    console().print(table)
