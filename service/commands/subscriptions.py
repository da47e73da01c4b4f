"""``ausculta subscriptions``: to whom notifications are sent, what waits, and what a person decides about it."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from service.commands.command_context import ConfigOption, command_context
from service.commands.output import console
from service.operations import subscriptions as operations

app = typer.Typer(no_args_is_help=True, help="What clients have subscribed to.")

SubscriptionArgument = Annotated[str, typer.Argument(help="Id of a Subscription.")]
ReasonOption = Annotated[str, typer.Option(help="Why; recorded. No patient data.")]


@app.command("list")
def list_subscriptions(config: ConfigOption = None) -> None:
    """Show every subscription: its state, how many events it has, how many wait, and the last problem."""
    with command_context(config) as context:
        found = operations.listing(context.operations)
    table = Table("subscription", "state", "events", "waiting", "failing since", "next", "problem")
    for one in found:
        since, after = (it.isoformat(timespec="seconds") if it else "" for it in (one.failing_since, one.next_at))
        waiting = str(one.events - one.sent)
        table.add_row(one.id, one.state, str(one.events), waiting, since, after, escape(one.problem or ""))
    console().print(table)


@app.command()
def replay(subscription: SubscriptionArgument, config: ConfigOption = None) -> None:
    """Send what waits at once, also for a subscription in error."""
    with command_context(config) as context:
        operations.replay(context.operations, context.principal, subscription)
    typer.echo("its events wait to be sent")


@app.command()
def stop(subscription: SubscriptionArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Send nothing more for a subscription, until its client requests it again."""
    with command_context(config) as context:
        operations.stop(context.operations, context.principal, subscription, reason)
    typer.echo("it is off")
