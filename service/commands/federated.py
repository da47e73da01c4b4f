"""``ausculta federated``: train across hospitals without moving patients."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from kernel.db import Transaction
from kernel.errors import Category, Problem
from service.commands.command_context import CommandContext, ConfigOption, command_context
from service.commands.output import console
from service.operations.models import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from federated.server_app import RoundReport
    from federated.simulate import SimulationResult
    from federated.task import Measured

MODEL: Final = "heart-disease-federated"
"""The model that a simulation makes."""

app = typer.Typer(no_args_is_help=True, help="Train across hospitals without moving patients.")


@app.callback()
def group() -> None:
    """Keep ``simulate`` a command of a group, so that others can join it."""


@app.command()
def simulate(
    data: Annotated[Path, typer.Argument(help="Folder of the UCI heart disease data, a file for each hospital.")],
    rounds: Annotated[int, typer.Option(help="Rounds of training.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Decides who is kept for testing.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Train a logistic model across four hospitals on this machine and register it as shadow.

    Every round goes into the ledger with a Provenance and an AuditEvent. Printed is the area under the ROC curve of
    the common model at each hospital, beside that of the hospital's own.
    """
    try:
        from federated.simulate import simulate as run
    except ModuleNotFoundError as failure:
        raise Problem(
            Category.UNSUPPORTED, "federated learning needs the extra: pip install ausculta[federated]"
        ) from failure
    from federated.ledger import Ledger

    with command_context(config) as context:
        run_name = context.ids.new()
        ledger = Ledger(context.audit, context.clock, _prepare_resource(context), context.principal)

        def note(report: "RoundReport") -> None:
            context.database.write(ledger.prepare(run_name, report))
            typer.echo(f"round {report.round} ({report.kind}) is in the ledger: {report.digest[:12]}")

        result = run(data, rounds=rounds, seed=seed, report=note)
        console().print(_table(result.rounds))
        _register(context, result, run_name)


def _prepare_resource(context: CommandContext) -> "Callable[[dict[str, Any]], Callable[[Transaction], object]]":
    """Return what prepares a resource of the ledger for the FHIR store."""
    from fhir_adapter.store.validate import Validator
    from fhir_adapter.store.write import StoreWriter

    writer = StoreWriter(Validator(), context.audit, (), context.clock, context.ids)

    def prepare(resource: dict[str, Any]) -> "Callable[[Transaction], object]":
        prepared = writer.prepare([resource])
        return lambda tx: writer.apply(tx, prepared, context.principal)

    return prepare


def _register(context: CommandContext, result: "SimulationResult", run: str) -> None:
    from federated.model_folder import write_model

    folder = context.settings.data_dir / "models" / f"federated-{run}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_model(result, folder, version=_next_version(context))
    model = register(context.operations, context.principal, folder)
    typer.echo(f"{model.manifest.name} {model.manifest.version} is registered as shadow ({model.digest[:12]})")


def _next_version(context: CommandContext) -> str:
    from inference import registry

    with context.database.read() as connection:
        registered = [row for row in registry.everything(connection) if row.name == MODEL]
    return f"1.0.{len(registered)}"


def _table(rounds: "tuple[RoundReport, ...]") -> Table:
    sites = [site.site for site in rounds[-1].sites]
    table = Table("round", *sites, title="Area under the ROC curve on each hospital's own test patients")
    for report in rounds:
        if report.kind == "training":
            table.add_row(str(report.round), *(_auc(site.federated) for site in report.sites))
    table.add_section()
    table.add_row("own model", *(_auc(site.alone) for site in rounds[-1].sites))
    return table


def _auc(measured: "Measured | None") -> str:
    if measured is None or measured.auc is None or not measured.meaningful:
        few = "" if measured is None else f" ({measured.negatives} without disease)"
        return f"not meaningful{few}"
    return f"{measured.auc:.3f}"
