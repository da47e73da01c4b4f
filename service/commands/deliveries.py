"""``ausculta deliveries``: what has not arrived, why, since when, and what a person decides about it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from kernel import backlog
from kernel.backlog import DeliveryFilter, QueuedDelivery
from kernel.errors import Category, Problem
from service.commands.command_context import CommandContext, ConfigOption, command_context
from service.commands.output import console
from service.operations import deliveries as operations

app = typer.Typer(no_args_is_help=True, help="What has not arrived at a destination.")

DeliveryArgument = Annotated[str, typer.Argument(help="Id of a delivery.")]
ReasonOption = Annotated[str, typer.Option(help="Why; recorded. No patient data.")]
DestinationOption = Annotated[str | None, typer.Option(help="Only those to this destination.")]
CategoryOption = Annotated[str | None, typer.Option(help="Only those whose last problem is of this category.")]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        help="Only those queued at this time (UTC) or later.",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
    ),
]


@app.command("list")
def list_deliveries(
    destination: DestinationOption = None,
    category: CategoryOption = None,
    since: SinceOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what is pending or parked, the oldest first, and for each destination how much and since when."""
    with command_context(config) as context:
        _print_backlogs(context)
        for status in ("parked", "pending"):
            wanted = _filter(destination, category, since, status)
            with context.database.read() as connection:
                _print(status, backlog.listing(connection, wanted))


@app.command()
def show(delivery: DeliveryArgument, config: ConfigOption = None) -> None:
    """Show one delivery with the peer's own words, which may name a patient; the access is recorded."""
    with command_context(config) as context:
        opened = operations.open_delivery(context.operations, context.principal, delivery)
    found = opened.delivery
    typer.echo(f"{found.id} to {found.destination}: {found.status}, {found.attempts} attempts, result {found.subject}")
    typer.echo(f"{found.category or 'no problem'}: {found.problem or ''}")
    typer.echo(opened.answer or "the peer said nothing")


@app.command()
def park(delivery: DeliveryArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Take a pending delivery out of the queue, so that those behind it go on."""
    with command_context(config) as context:
        operations.park(context.operations, context.principal, delivery, reason)
    typer.echo("it is parked")


@app.command()
def dismiss(delivery: DeliveryArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Decide that a pending or parked delivery is never sent."""
    with command_context(config) as context:
        operations.dismiss(context.operations, context.principal, delivery, reason)
    typer.echo("it is dismissed and will not be sent")


@app.command()
def replay(
    delivery: Annotated[str | None, typer.Argument(help="Id of a delivery; without it, all that are selected.")] = None,
    destination: DestinationOption = None,
    category: CategoryOption = None,
    since: SinceOption = None,
    config: ConfigOption = None,
) -> None:
    """Send a parked delivery again, or every parked one that is selected; one that is held is tried at once."""
    wanted = _filter(destination, category, since, "parked")
    _check_one_or_many(delivery, wanted)
    with command_context(config) as context:
        if delivery is not None:
            operations.replay(context.operations, context.principal, delivery)
            typer.echo("it waits to be sent")
        else:
            replayed = operations.replay_all(context.operations, context.principal, wanted)
            typer.echo(f"{replayed} deliveries wait to be sent")


def _check_one_or_many(delivery: str | None, wanted: DeliveryFilter) -> None:
    is_filtered = wanted != DeliveryFilter(status="parked")
    if (delivery is None) != is_filtered:
        raise Problem(Category.INCORRECT, "name a delivery, or select by --destination, --category or --since")


def _filter(
    destination: str | None, category: str | None, since: datetime | None, status: str | None
) -> DeliveryFilter:
    if category is not None and category not in set(Category):
        raise Problem(Category.INCORRECT, f"the category must be one of {', '.join(Category)}")
    at = since if since is None or since.tzinfo else since.replace(tzinfo=UTC)
    return DeliveryFilter(status=status, destination=destination, category=category, since=at)


def _print_backlogs(context: CommandContext) -> None:
    now = context.clock.now()
    with context.database.read() as connection:
        found = backlog.backlogs(connection, now)
    table = Table("destination", "pending", "overdue", "parked", "oldest", "paused until", title="Destinations")
    for one in found:
        oldest = min(one.oldest.values(), default=None)
        age = "" if oldest is None else str(timedelta(seconds=int((now - oldest).total_seconds())))
        paused = "" if one.paused_until is None else f"{_at(one.paused_until)}: {one.problem}"
        counts = (str(one.counts.get("pending", 0)), str(one.overdue), str(one.counts.get("parked", 0)))
        table.add_row(one.destination, *counts, age, escape(paused))
    console().print(table)


def _print(status: str, found: list[QueuedDelivery]) -> None:
    table = Table("delivery", "destination", "result", "queued", "attempts", "next", "reason", title=status)
    for one in found:
        reason = "" if one.category is None else f"{one.category}: {one.problem}"
        held = "" if one.next_at is None or status == "parked" else _at(one.next_at)
        row = (one.id, one.destination, one.subject[:12], _at(one.created_at), str(one.attempts), held, escape(reason))
        table.add_row(*row)
    console().print(table)


def _at(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")
