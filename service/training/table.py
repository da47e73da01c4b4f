"""Makes a table of files of resources: the training table of a model, or the rows of a ViewDefinition."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fhir_adapter.store.document import exact_values
from inference.views import View
from kernel.errors import Category, Problem
from service.training.history import Medications, history_of
from service.training.meds import MedsEvents, meds_dataset, subject_id
from service.training.parquet import Kind, ParquetTable, parquet_table
from service.training.reading import Known, read_moments, read_resources, resources
from service.training.rows import Rows, TableModel
from service.training.spool import Spool, open_spool

_HEAD: Final[Mapping[str, Kind]] = MappingProxyType(
    {"patient": "text", "subject_id": "whole", "time": "time", "refused": "text"}
)
_WHOLE: Final = frozenset({"integer", "positiveInt", "unsignedInt"})


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is called while a table is made."""

    #: With a file and how many of its bytes were read.
    read: Callable[[Path, int], None]
    #: With how many patients are done, and of how many.
    patients: Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class TableRequest:
    """Which training table is wanted."""

    model: TableModel
    paths: Sequence[Path]
    known: Known
    #: CSV file of patients and times; None: the moments at which the model's trigger runs it.
    moments: Path | None
    #: The Parquet file.
    out: Path
    #: Folder of a MEDS dataset; None: none is written.
    meds: Path | None
    made_at: datetime


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a training table has."""

    rows: int
    #: Rows for which the model would refuse to answer.
    refused: int
    #: Resources that were left out because they name no ``Patient/<id>``.
    of_nobody: int


def make_table(request: TableRequest, progress: Progress) -> Made:
    """Make a training table; memory holds the resources of one patient.

    Parameters
    ----------
    request
        What is wanted.
    progress
        What is called meanwhile.

    Raises
    ------
    Problem
        ``incorrect``, naming the file and line, or the key, that is wrong.
    """
    model = request.model
    rows = Rows(model)
    triggers = None if model.manifest is None else model.manifest.trigger
    if request.moments is None and (triggers is None or triggers.kind != "codes"):
        raise Problem(Category.INCORRECT, "no codes of Observations trigger the model; see --moments")
    with ExitStack() as opened:
        table = opened.enter_context(parquet_table(request.out, {**_HEAD, **model.columns}))
        spool = opened.enter_context(open_spool(request.out))
        found = resources(request.paths, progress.read)
        of_nobody = read_resources(found, spool, model.needs, request.known)
        if request.moments is not None:
            read_moments(request.moments, spool)
        events = _events(request, opened)
        refused = _write(request, spool, rows, table, events, progress)
        return Made(rows=table.count, refused=refused, of_nobody=of_nobody)


def _events(request: TableRequest, opened: ExitStack) -> MedsEvents | None:
    if request.meds is None:
        return None
    return opened.enter_context(meds_dataset(request.meds, request.meds.name, request.made_at))


def _write(
    request: TableRequest,
    spool: Spool,
    rows: Rows,
    table: ParquetTable,
    events: MedsEvents | None,
    progress: Progress,
) -> int:
    """Write the rows, and the events; return how many rows are of a refusal."""
    names, stated = tuple(request.model.columns), request.model.needs.stated
    medications, refused = Medications(spool), 0
    total = spool.count()
    for number, patient in enumerate(spool.patients(), start=1):
        history = history_of(patient, stated, medications)
        if request.moments is None or patient.moments:
            for row in rows.of(history):
                values = [row.values[name] for name in names]
                table.add((row.patient, subject_id(row.patient), row.at, row.refused, *values))
                refused += bool(row.refused)
        if events is not None and patient.versions:
            events.add(history)
        progress.patients(number, total)
    return refused


def make_view_table(view: View, paths: Sequence[Path], out: Path, progress: Progress) -> int:
    """Write the rows that a view makes of the resources of files; return how many.

    Parameters
    ----------
    view
        The view.
    paths
        Files and folders.
    out
        The Parquet file.
    progress
        What is called meanwhile.

    Raises
    ------
    Problem
        ``incorrect``, naming the file and line of a resource that the view makes no row of.
    """
    kinds = [_kind(type_, column.collection) for type_, column in zip(view.types, view.definition.columns, strict=True)]
    resource_type = view.definition.resource
    with parquet_table(out, dict(zip(view.columns, kinds, strict=True))) as table:
        for place, resource, content in resources(paths, progress.read):
            if resource["resourceType"] == resource_type:
                _add_rows(view, content, place, table)
        return table.count


def _add_rows(view: View, content: bytes, place: str, table: ParquetTable) -> None:
    try:
        for row in view.rows(exact_values(content)):
            table.add(row)
    except Problem as problem:
        detail = f"{place}: {problem.detail}"
        raise Problem(problem.category, detail, diagnostics=problem.diagnostics) from problem


def _kind(type_: str, collection: bool) -> Kind:  # noqa: FBT001 - of one column
    if collection:
        return "numbers" if type_ == "decimal" or type_ in _WHOLE else "texts"
    if type_ in _WHOLE:
        return "whole"
    return {"decimal": "number", "boolean": "boolean"}.get(type_, "text")  # type: ignore[return-value]
