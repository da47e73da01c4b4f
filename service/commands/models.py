"""``ausculta models``: which models there are, what they may do, and the switch that stops them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from inference import registry
from inference.models import MODELS
from kernel.errors import Category, Problem
from service.addresses import remote_hosts
from service.commands import model_code, model_folders
from service.commands.command_context import CommandContext, ConfigOption, command_context, read_settings
from service.commands.models_table import table
from service.operations import models as operations
from service.registration import register_bundled

app = typer.Typer(no_args_is_help=True, help="Which models there are, and what they may do.")

NameArgument = Annotated[str, typer.Argument(help="The model's name.")]
VersionOption = Annotated[str | None, typer.Option("--version", help="Which version; the active or newest by default.")]


app.command()(table)


@app.command("list")
def list_models(config: ConfigOption = None) -> None:
    """Show every model: version, status, digest, intended use, owner, since when."""
    with command_context(config) as context:
        _register_bundled(context)
        with context.database.read() as connection:
            rows = registry.everything(connection)
    console = Console(soft_wrap=True, highlight=False)
    for row in rows:
        status = f"stopped ({row.stop_reason})" if row.stopped else row.status
        if row.brings_code:
            status += "; code allowed" if row.code_allowed else "; code not allowed"
        console.print(f"[bold]{row.name}[/] {row.version}  {status} since {row.changed_at:%Y-%m-%d %H:%M} UTC")
        console.print(f"    {row.title}. {row.intended_use}")
        console.print(f"    owner {row.owner} · added {row.added_at:%Y-%m-%d} · sha256 {row.digest}")


@app.command()
def show(name: NameArgument, version: VersionOption = None, config: ConfigOption = None) -> None:
    """Show a model's card."""
    with command_context(config) as context:
        _register_bundled(context)
        row = operations.find(context.operations, name, version)
    Console().print(Markdown(row.identity().card))


@app.command()
def add(folder: Annotated[Path, typer.Argument(help="A model folder.")], config: ConfigOption = None) -> None:
    """Register a model folder as shadow, after its sums and golden cases were checked."""
    with command_context(config) as context:
        model = operations.register(context.operations, context.principal, folder.resolve())
    typer.echo(f"{model.manifest.name} {model.manifest.version} is registered as shadow ({model.digest[:12]})")


app.command()(model_folders.new)
for _of_code in (model_code.allow_code, model_code.withdraw_code, model_code.allowed_code):
    app.command()(_of_code)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="The model's name, or a folder that is not added yet.")],
    version: VersionOption = None,
    record: Annotated[bool, typer.Option("--record", help="Write card, golden answers and sums first.")] = False,  # noqa: FBT002 - typer's way
    on: Annotated[Path | None, typer.Option("--on", help="Run it on a FHIR Bundle of one patient.")] = None,
    run_code: Annotated[bool, typer.Option("--run-code", help="Run the folder's code, isolated.")] = False,  # noqa: FBT002 - typer's way
    config: ConfigOption = None,
) -> None:
    """Check a model's files against their sums, and its answers against its golden cases."""
    if Path(name).is_dir():
        hosts = remote_hosts(read_settings(config))
        folder = Path(name).resolve()
        model_folders.verify_folder(folder, record=record, bundle=on, hosts=hosts, run_code=run_code)
        return
    if record or on is not None:
        raise Problem(Category.INCORRECT, f"--record and --on are for a folder; {name} is none")
    if run_code:
        raise Problem(Category.INCORRECT, f"--run-code is for a folder; of {name} the permission decides")
    with command_context(config) as context:
        _register_bundled(context)
        row = operations.verify(context.operations, context.principal, name, version)
    typer.echo(f"{row.name} {row.version}: files and golden cases are as registered ({row.digest})")


@app.command()
def train(
    name: NameArgument,
    data: Annotated[Path, typer.Argument(help="The training data.")],
    out: Annotated[Path, typer.Argument(help="Folder for the new model; it must not exist.")],
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
) -> None:
    """Train a model again with its own committed script."""
    import importlib

    if name not in MODELS:
        raise Problem(Category.NOT_FOUND, f"there is no bundled model {name}")
    try:
        script = importlib.import_module(f"{MODELS[name]}.train")
    except ModuleNotFoundError as failure:
        raise Problem(Category.UNSUPPORTED, f"{name} is not a trained model") from failure
    report = script.train(data, out, seed=seed)
    typer.echo(str(report))


@app.command()
def activate(
    name: NameArgument,
    version: Annotated[
        str | None, typer.Option("--version", help="Which version; by default the one in shadow, where there is one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Let a model's results be delivered, from now on.

    Without --version it is the version in shadow that is activated, where there is one. A stop stays: see resume.
    """
    with command_context(config) as context:
        _register_bundled(context)
        row = operations.activate(context.operations, context.principal, name, version)
    stopped = f", and still stopped ({row.stop_reason}): see ausculta models resume" if row.stopped else ""
    typer.echo(f"{row.name} {row.version} is active{stopped}")


@app.command()
def retire(name: NameArgument, version: VersionOption = None, config: ConfigOption = None) -> None:
    """Take a model out of service: it does not run until it is activated again."""
    with command_context(config) as context:
        _register_bundled(context)
        row = operations.retire(context.operations, context.principal, name, version)
    typer.echo(f"{row.name} {row.version} is retired")


@app.command()
def rollback(name: NameArgument, config: ConfigOption = None) -> None:
    """Activate the version before the active one again; the active one is retired."""
    with command_context(config) as context:
        row = operations.rollback(context.operations, context.principal, name)
    typer.echo(f"{row.name} {row.version} is active")


@app.command()
def stop(
    name: Annotated[str | None, typer.Argument(help="The model's name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Stop every model.")] = False,  # noqa: FBT002 - typer's way
    reason: Annotated[str, typer.Option(help="Shown in place of every result.")] = "stopped by the operator",
    config: ConfigOption = None,
) -> None:
    """Stop a model, or all, from the next result on; what would have been a result says so instead."""
    if (name is None) == (not every):
        raise Problem(Category.INCORRECT, "name one model, or say --all")
    with command_context(config) as context:
        _register_bundled_once(context)
        stopped = operations.stop(context.operations, context.principal, name, reason)
    typer.echo(f"stopped: {stopped} model version(s)")


@app.command()
def resume(
    name: Annotated[str | None, typer.Argument(help="The model's name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Resume every model.")] = False,  # noqa: FBT002 - typer's way
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "resumed by the operator",
    config: ConfigOption = None,
) -> None:
    """Take back the stop of a model, or of all; what a version may do (shadow, active, retired) stays as it is."""
    if (name is None) == (not every):
        raise Problem(Category.INCORRECT, "name one model, or say --all")
    with command_context(config) as context:
        resumed = operations.resume(context.operations, context.principal, name, reason)
    typer.echo(f"resumed: {resumed} model version(s)")


def _register_bundled(context: CommandContext) -> None:
    """Make sure the models that came with the software are there; a command may be the first to open a database."""
    register_bundled(context.database, context.operations.model_files, context.clock)


def _register_bundled_once(context: CommandContext) -> None:
    """Do so only in a database without any model, for a switch must not wait."""
    with context.database.read() as connection:
        registered = registry.everything(connection)
    if not registered:
        _register_bundled(context)
