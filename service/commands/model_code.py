"""``ausculta models`` on the code that models bring: which of it may run, in a process of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inference.folder import ModelFolder
from service.commands.command_context import ConfigOption, command_context
from service.commands.output import console
from service.operations import model_code as operations

if TYPE_CHECKING:
    from inference.isolated.child_process import ProcessLimits

ReasonOption = Annotated[str, typer.Option(help="Why; recorded.")]


def allow_code(
    folder: Annotated[Path, typer.Argument(help="A sealed model folder; nothing of it is run.")],
    reason: ReasonOption = "",
    digest: Annotated[str | None, typer.Option("--digest", help="The digest that was reviewed.")] = None,
    config: ConfigOption = None,
) -> None:
    """Allow the code of a folder to run, in a process of its own: exactly these files, with these limits."""
    with command_context(config) as context:
        model = operations.allow_code(context.operations, context.principal, folder.resolve(), reason, digest=digest)
    limits = _limits(model)
    typer.echo(f"{model.manifest.name} {model.manifest.version}: its code is allowed ({model.digest})")
    typer.echo(f"    limits: {limits.memory_mb} MiB, {limits.seconds:g} s for a batch")
    typer.echo(f"    code: {', '.join(sorted(name for name in model.files if name.endswith('.py')))}")


def withdraw_code(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str | None, typer.Option("--version", help="Which version; all by default.")] = None,
    reason: ReasonOption = "",
    config: ConfigOption = None,
) -> None:
    """Withdraw that: from the next prediction on the model says that its code is not allowed."""
    with command_context(config) as context:
        withdrawn = operations.withdraw_code(context.operations, context.principal, name, reason, version=version)
    for one in withdrawn:
        typer.echo(f"{one.name} {one.version}: its code is not allowed any more ({one.digest})")


def allowed_code(config: ConfigOption = None) -> None:
    """Show which code may run: the digest, who allowed it, when and why."""
    with command_context(config) as context:
        found = operations.allowed_code(context.operations)
    shown = console()
    for one in found:
        shown.print(f"[bold]{one.name}[/] {one.version}  sha256 {one.digest}")
        shown.print(f"    allowed by {one.allowed_by}, {one.allowed_at:%Y-%m-%d %H:%M} UTC: ", end="")
        shown.print(one.reason, markup=False)


def _limits(model: ModelFolder) -> "ProcessLimits":
    from inference.runners.process import process_limits
    from inference.yaml_mapping import YamlMapping

    return process_limits(YamlMapping("model.yaml.runner", model.manifest.runner_options))
