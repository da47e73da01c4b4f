"""``ausculta results``: results that a person acts on."""

from typing import Annotated

import typer

from kernel.errors import Category, Problem
from service.commands.command_context import ConfigOption, command_context

app = typer.Typer(no_args_is_help=True, help="Results that a person acts on.")


@app.callback()
def group() -> None:
    """Keep ``ask-again`` a command of a group, so that others can join it."""


@app.command("ask-again")
def ask_again(
    result: Annotated[str | None, typer.Argument(help="Id of a result that is not available.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Every patient and study whose newest result of this model failed or was stopped."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Run a model again where it gave no prediction; what it says now replaces what was delivered."""
    if (result is None) == (model is None):
        raise Problem(Category.INCORRECT, "give the id of one result, or --model")
    from service.operations import results as operations

    with command_context(config) as context:
        if result is not None:
            operations.ask_again(context.operations, context.principal, result)
            asked = 1
        else:
            asked = operations.ask_all_again(context.operations, context.principal, model or "")
    typer.echo(f"waiting to be run again: {asked}")
