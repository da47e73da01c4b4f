"""``ausculta models table``: what a model would have been given, for each patient and moment, as a table."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from fhir_adapter.bulk.lines import files
from inference.features.spec import parse_features
from inference.folder import FEATURES, MANIFEST
from inference.manifest import parse_manifest
from inference.views import View, compile_view
from inference.yaml_mapping import read_yaml
from kernel.clock import SystemClock
from kernel.errors import Category, Problem
from service.commands.command_context import ConfigOption, read_settings
from service.commands.output import console
from service.settings import Settings
from service.training.reading import Known
from service.training.rows import TableModel
from service.training.table import Progress, TableRequest, make_table, make_view_table

_SHOWN_EVERY: Final = 2**18
"""Bytes between two updates of the bar."""


def table(  # noqa: PLR0913, PLR0917 - one parameter for each option
    paths: Annotated[list[Path], typer.Argument(help="NDJSON files of resources, Bundles, and folders of them.")],
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.", dir_okay=False)],
    model: Annotated[
        Path | None, typer.Option(help="A model folder; features.yaml is enough, with --moments.", file_okay=False)
    ] = None,
    moments: Annotated[
        Path | None,
        typer.Option(help="CSV file with the columns patient and time; without it, when the trigger runs the model."),
    ] = None,
    known: Annotated[
        Known, typer.Option(help="When a resource became known: meta.lastUpdated, or issued.")
    ] = Known.STORED,
    meds: Annotated[Path | None, typer.Option(help="Folder for the same data as MEDS.", file_okay=False)] = None,
    view: Annotated[
        Path | None, typer.Option(help="A ViewDefinition; its rows are written instead.", dir_okay=False)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write the training table of a model: its features for each patient and moment, as the server computes them.

    With --view the rows of a SQL-on-FHIR ViewDefinition are written instead.
    """
    _require_one(model, view)
    if view is not None:
        with _progress(paths) as progress:
            count = make_view_table(_view(view), paths, out, progress)
        typer.echo(f"{out.name}: {count} rows")
        return
    assert model is not None
    settings = read_settings(config)
    request = TableRequest(
        model=_model(model, settings),
        paths=paths,
        known=known,
        moments=moments,
        out=out,
        meds=meds,
        made_at=SystemClock().now(),
    )
    with _progress(paths) as progress:
        made = make_table(request, progress)
    left_out = f"; {made.of_nobody} resources name no patient and were left out" if made.of_nobody else ""
    typer.echo(f"{out.name}: {made.rows} rows, of which the model would refuse {made.refused}{left_out}")


def _require_one(model: Path | None, view: Path | None) -> None:
    if (model is None) == (view is None):
        raise Problem(Category.INCORRECT, "say --model or --view, and not both")


def _model(folder: Path, settings: Settings) -> TableModel:
    """Read what a folder declares; it need not be sealed, for its weights may be what is trained on the table."""
    from service.application import identifier_conventions  # takes long to import

    manifest_file, features_file = folder / MANIFEST, folder / FEATURES
    features = parse_features(read_yaml(FEATURES, features_file.read_bytes() if features_file.is_file() else None))
    has_manifest = manifest_file.is_file()
    manifest = parse_manifest(read_yaml(MANIFEST, manifest_file.read_bytes())) if has_manifest else None
    settle = 0.0
    if manifest is not None:
        settle = settings.settle_s.get(manifest.name, float(manifest.trigger.settle_seconds or 0))
    return TableModel(
        features=features,
        manifest=manifest,
        clock_tolerance=timedelta(seconds=settings.clock_tolerance_s),
        identifier_order=identifier_conventions(settings).order(),
        settle=timedelta(seconds=settle),
    )


def _view(path: Path) -> View:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as failure:
        raise Problem(Category.INCORRECT, f"{path.name} is not JSON", diagnostics=str(failure)) from failure
    return compile_view(content)


@contextmanager
def _progress(paths: list[Path]) -> Iterator[Progress]:
    """Show how much of the files was read, and how many patients are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    sizes = {path: path.stat().st_size for path in files(paths) if path.exists()}
    done: dict[Path, int] = {}
    with Bars(*columns, console=console()) as bars:
        reading = bars.add_task("reading", total=sum(sizes.values()))
        patients = bars.add_task("patients", total=None, visible=False)

        def read(path: Path, size: int) -> None:
            if size - done.get(path, -_SHOWN_EVERY) >= _SHOWN_EVERY or size == sizes.get(path):
                done[path] = size
                bars.update(reading, completed=sum(done.values()))

        def patient(number: int, total: int) -> None:
            bars.update(patients, completed=number, total=total, visible=True)

        yield Progress(read=read, patients=patient)
        bars.update(reading, completed=sum(sizes.values()))
