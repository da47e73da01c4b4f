"""The page of one result: what was stored of it, what was written for it, and what became of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from markupsafe import Markup
from sqlalchemy import Connection, or_, select

from fhir_adapter.store.document import exact_values
from inference.manifest import OutputSpec
from kernel.errors import Problem
from kernel.tables import audit_log
from service.console import plots, reading
from service.console.queries import deliveries_about, events_in, models_in, result_row, result_urn
from service.console.records import (
    ArtefactShown,
    AuditRow,
    FeatureShown,
    InputShown,
    ModelShown,
    OutputShown,
    ResultPage,
)
from service.console.scales import scale_of
from service.console.services import ConsoleData
from service.results import StoredResult

EVENTS_OF_A_RESULT: Final = 12

_WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "there was no value",
        "implausible": "the value is outside its declared limits",
        "unreadable": "the value or its unit could not be read",
        "absent": "the sender stated that there is no value",
        "untimed": "the value states no time",
        "unstated": "the value states no status",
        "old": "the newest value was too old",
        "future": "the time of the value was in the future",
    }
)
"""``FeatureUse.why`` in words."""

_STANDS_IN: Final = "a declared default stands in"
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {"imputed": _STANDS_IN, "dropped": "the value could not be read", "implausible": _WHY["implausible"]}
    | {"missing": _WHY["missing"]}
)
"""Status of a feature in words, for results of releases that did not store why."""

Json: TypeAlias = dict[str, Any]


def result_page(data: ConsoleData, row: StoredResult) -> ResultPage:
    """Read everything about one result.

    Parameters
    ----------
    data
        The components that the console reads.
    row
        The result, as it is stored.
    """
    with data.database.read() as connection:
        written = {reference: _resource(data, connection, reference) for reference in row.resources}
        return ResultPage(
            row=result_row(row, deliveries_about(connection, [row.id])[row.id]),
            model=next((model for model in models_in(data, connection) if _is_of(model, row)), None),
            digest=row.digest,
            study=row.study,
            state=row.state,
            superseded_by=row.superseded_by,
            latency_ms=row.latency_ms,
            software_version=row.software_version,
            findings=_findings(data, connection, row, [content for content in written.values() if content]),
            features=tuple(_feature(feature) for feature in row.features),
            inputs=_inputs(data, connection, row.inputs),
            resources=tuple(written),
            provenance=tuple(
                reading.provenance(reference, content)
                for reference, content in written.items()
                if content and content["resourceType"] == "Provenance"
            ),
            audit=_audit_of_result(connection, row),
            image=row.image,
            heat_map=row.heat_map,
            masks=tuple(_artefact(one) for one in row.artefacts if one["kind"] == "mask"),
        )


def _findings(
    data: ConsoleData, connection: Connection, row: StoredResult, written: Sequence[Json]
) -> tuple[OutputShown, ...]:
    """Return the findings as their resources state them, each drawn by what the row and the manifest say of it."""
    found = reading.findings(written)
    declared = data.catalogue.one(connection, row.model, row.version)
    outputs = () if declared is None else declared.manifest.outputs
    about = {pair for content in written for pair in reading.codes(content)}
    fitting = [output for output in outputs if (output.system, output.code) in about] or list(outputs)
    if row.kind == "prediction" and len(fitting) == len(found):
        found = tuple(_plotted(finding, output) for finding, output in zip(found, fitting, strict=True))
    if len(row.outputs) == len(found):
        found = tuple(_drawn(finding, output) for finding, output in zip(found, row.outputs, strict=True))
    return found


def _drawn(finding: OutputShown, output: Mapping[str, Any]) -> OutputShown:
    """Draw a class set and a time series; their numbers stay beside the drawing."""
    detail: Mapping[str, Any] = output.get("detail") or {}
    drawing: Markup | None = None
    if output["kind"] == "class-set":
        drawing = plots.bars([(str(name), float(share)) for name, share in detail["probabilities"]], finding.title)
    elif output["kind"] == "time-series":
        drawing = plots.course(detail["times"], detail["values"], finding.title)
    return finding if drawing is None else replace(finding, plot=drawing)


def _feature(feature: Mapping[str, Any]) -> FeatureShown:
    return FeatureShown(
        name=str(feature["name"]).replace("_", " "),
        value="" if feature["value"] is None else str(feature["value"]),
        unit=str(feature["unit"] or ""),
        status=str(feature["status"]),
        why=_why(feature),
    )


def _why(feature: Mapping[str, Any]) -> str:
    """Return why a value was not used, and what stands in."""
    why, status = feature.get("why"), str(feature["status"])
    if why is None:
        return _STATUSES.get(status, "")
    said = _WHY.get(str(why), str(why))
    return said if feature["value"] is None else f"{said}; {_STANDS_IN}"


def _artefact(artefact: Mapping[str, Any]) -> ArtefactShown:
    return ArtefactShown(name=str(artefact["name"]), geometry=str(artefact["geometry"]))


def _plotted(finding: OutputShown, output: OutputSpec) -> OutputShown:
    scale = scale_of(output)
    try:
        value = Decimal(finding.value or "")
    except InvalidOperation:
        return finding
    if scale is None:
        return finding
    label = " ".join(part for part in (finding.value, finding.band) if part)
    return replace(finding, plot=plots.on_scale(scale, float(value), label), plot_note=scale.note)


def _is_of(model: ModelShown, row: StoredResult) -> bool:
    return (model.name, model.version) == (row.model, row.version)


def _resource(data: ConsoleData, connection: Connection, reference: str) -> Json | None:
    """Return the content of a versioned reference; none when it is not one, or no longer there."""
    kind, _, rest = reference.partition("/")
    name, _, version = rest.partition("/_history/")
    if not (kind.isalpha() and name and version.isdigit()):
        return None
    try:
        return exact_values(data.store.vread(connection, kind, name, int(version)).content)
    except Problem:
        return None


def _inputs(data: ConsoleData, connection: Connection, references: Iterable[str]) -> tuple[InputShown, ...]:
    return tuple(
        shown for reference in references for shown in reading.inputs(reference, _resource(data, connection, reference))
    )


def _audit_of_result(connection: Connection, row: StoredResult) -> tuple[AuditRow, ...]:
    urn = result_urn(row.id)
    named = or_(audit_log.c.entity == urn, audit_log.c.entity.startswith(f"{urn}#"), audit_log.c.patient == row.subject)
    wanted = select(audit_log).where(named).order_by(audit_log.c.seq.desc()).limit(EVENTS_OF_A_RESULT)
    return events_in(connection, wanted)
