"""``model.yaml`` read and checked."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, cast, get_args

from inference.contract import InputKind, OutputKind
from inference.manifest.legacy import normalise
from inference.manifest.records import (
    Band,
    ChangePlan,
    EncounterEvent,
    InputSpec,
    Limits,
    Manifest,
    OutputSpec,
    Selection,
    Trigger,
    TriggerKind,
)
from inference.yaml_mapping import YamlMapping, as_number
from kernel.errors import Category, Problem

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
#: FHIR R4, datatypes.html: a result with another one could not be stored.
_URI: Final = re.compile(r"\S+")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")

_DICOM: Final = frozenset({"modalities", "sop_classes", "body_parts", "body_part_required", "series_description"})

_RULES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "facts": frozenset(),
        "series": frozenset({"hours", "step_hours"}),
        "image": _DICOM | {"views", "min_side", "min_contrast"},
        "volume": _DICOM | {"slice_thickness_mm", "min_slices"},
        "text": frozenset({"document_types"}),
        "study": frozenset(),
    }
)
"""Kind of an input -> the selection rules that it may declare."""

MOST_STEPS: Final = 10_000
"""Steps of a time series' grid at most."""

_NEEDED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "series": frozenset({"hours", "step_hours"}),
        "image": frozenset({"modalities"}),
        "volume": frozenset({"modalities"}),
    }
)
"""Kind of an input -> the selection rules that it must declare."""


def parse_manifest(content: object) -> Manifest:
    """Read the content of ``model.yaml``, of the present or the first form.

    Parameters
    ----------
    content
        What YAML or JSON holds.

    Returns
    -------
    Manifest
        The checked declaration.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    table = YamlMapping("model.yaml", normalise(content))
    manifest = Manifest(
        name=_matching(table, "name", NAME),
        version=_version(table),
        title=table.text("title"),
        intended_use=table.text("intended_use"),
        owner=table.text("owner"),
        demonstration=table.take("demonstration", bool),
        users=_some(table, "users"),
        trigger=_trigger(table.table("trigger")),
        input=_only_input(table),
        runner=_runner(table),
        outputs=tuple(_output(output) for output in table.tables("outputs")),
        limits=_limits(table.table("limits")),
        warnings=table.texts("warnings"),
        change_plan=_change_plan(table.table("change_plan")),
        runner_options=_runner_options(table),
    )
    table.done()
    if not manifest.outputs:
        raise Problem(Category.INCORRECT, "model.yaml.outputs must not be empty")
    return manifest


def _runner(table: YamlMapping) -> str:
    """Return the kind of the runner, which stands alone (``linear``) or beside its options (``{kind: onnx, ...}``)."""
    stated = table.take("runner", object)
    return table.table("runner").text("kind") if isinstance(stated, Mapping) else table.text("runner")


def _runner_options(table: YamlMapping) -> Mapping[str, object]:
    stated = table.take("runner", object)
    options = stated.items() if isinstance(stated, Mapping) else ()
    return MappingProxyType({str(key): value for key, value in options if key != "kind"})


def _trigger(table: YamlMapping) -> Trigger:
    kind = cast("TriggerKind", table.choice("kind", "codes", "schedule", "document", "study"))
    trigger = Trigger(kind=kind)
    if kind == "codes":
        settle = _positive(table, "settle_seconds") if table.has("settle_seconds") else None
        trigger = Trigger(kind=kind, codes=_some(table, "codes"), settle_seconds=settle)
    elif kind == "schedule":
        trigger = Trigger(
            kind=kind,
            cadence_hours=_positive(table, "cadence_hours") if table.has("cadence_hours") else None,
            events=tuple(_event(table, event) for event in table.texts("events")),
        )
        if trigger.cadence_hours is None and not trigger.events:
            raise Problem(Category.INCORRECT, f"{table.place} must have cadence_hours or events")
    elif kind == "document":
        trigger = Trigger(kind=kind, document_types=table.texts("document_types"))
    table.done()
    return trigger


def _event(table: YamlMapping, event: str) -> EncounterEvent:
    if event not in {"admission", "discharge"}:
        raise Problem(Category.INCORRECT, f"{table.place}.events must be of: admission, discharge")
    return cast("EncounterEvent", event)


def _only_input(table: YamlMapping) -> InputSpec:
    inputs = table.tables("inputs")
    if len(inputs) != 1:
        detail = "must have one entry; several inputs of one examination are the parts of an input of kind study"
        raise Problem(Category.INCORRECT, f"{table.place}.inputs {detail}")
    return _input(inputs[0], *_RULES)


def _input(table: YamlMapping, *kinds: str) -> InputSpec:
    kind = cast("InputKind", table.choice("kind", *kinds))
    for rule in sorted(_NEEDED.get(kind, ())):
        if not table.has(rule):
            raise Problem(Category.INCORRECT, f"{table.place}.{rule} is missing")
    parts = table.tables("parts") if kind == "study" else ()
    selection = _selection(table, _RULES[kind])
    _check_grid(table, selection)
    spec = InputSpec(
        name=_matching(table, "name", NAME),
        kind=kind,
        selection=selection,
        parts=tuple(_input(part, *(other for other in _RULES if other != "study")) for part in parts),
    )
    table.done()
    names = [part.name for part in spec.parts]
    if kind == "study" and (not names or len(names) != len(set(names))):
        raise Problem(Category.INCORRECT, f"{table.place}.parts must have entries of different names")
    return spec


def _check_grid(table: YamlMapping, selection: Selection) -> None:
    if selection.hours is None or selection.step_hours is None:
        return
    if selection.hours % selection.step_hours or selection.hours / selection.step_hours > MOST_STEPS:
        detail = f"must be a multiple of step_hours, of {MOST_STEPS} steps at most"
        raise Problem(Category.INCORRECT, f"{table.place}.hours {detail}")


def _selection(table: YamlMapping, rules: frozenset[str]) -> Selection:
    def has(key: str) -> bool:
        return key in rules and table.has(key)

    return Selection(
        modalities=_some(table, "modalities") if has("modalities") else (),
        sop_classes=table.texts("sop_classes") if has("sop_classes") else (),
        body_parts=table.texts("body_parts") if has("body_parts") else (),
        body_part_required=table.take("body_part_required", bool) if has("body_part_required") else False,
        views=table.texts("views") if has("views") else (),
        series_description=_pattern(table, "series_description") if has("series_description") else None,
        slice_thickness_mm=_range(table, "slice_thickness_mm") if has("slice_thickness_mm") else None,
        min_slices=table.take("min_slices", int) if has("min_slices") else 1,
        min_side=table.take("min_side", int) if has("min_side") else 1,
        min_contrast=float(table.number("min_contrast")) if has("min_contrast") else 0.0,
        document_types=table.texts("document_types") if has("document_types") else (),
        hours=_positive(table, "hours") if has("hours") else None,
        step_hours=_positive(table, "step_hours") if has("step_hours") else None,
    )


def _pattern(table: YamlMapping, key: str) -> re.Pattern[str]:
    try:
        return re.compile(table.text(key), re.IGNORECASE)
    except re.error as failure:
        raise Problem(Category.INCORRECT, f"{table.place}.{key} is no regular expression") from failure


def _range(table: YamlMapping, key: str) -> tuple[Decimal, Decimal]:
    place = f"{table.place}.{key}"
    bounds = [as_number(place, bound) for bound in table.take(key, list)]
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise Problem(Category.INCORRECT, f"{place} must be two numbers, from low to high")
    return bounds[0], bounds[1]


def _positive(table: YamlMapping, key: str) -> Decimal:
    value = table.number(key)
    if value <= 0:
        raise Problem(Category.INCORRECT, f"{table.place}.{key} must be above 0")
    return value


def _limits(table: YamlMapping) -> Limits:
    limits = Limits(
        min_age_years=table.take("min_age_years", int) if table.has("min_age_years") else None,
        max_age_years=table.take("max_age_years", int) if table.has("max_age_years") else None,
        spread_hours=_positive(table, "spread_hours") if table.has("spread_hours") else None,
        max_without_value=table.take("max_without_value", int) if table.has("max_without_value") else None,
        imputed_at_most=table.number("imputed_at_most") if table.has("imputed_at_most") else None,
    )
    table.done()
    if (limits.min_age_years or 0) > (limits.max_age_years if limits.max_age_years is not None else math.inf):
        raise Problem(Category.INCORRECT, f"{table.place}.max_age_years must not be below min_age_years")
    if limits.max_without_value is not None and limits.max_without_value < 0:
        raise Problem(Category.INCORRECT, f"{table.place}.max_without_value must not be below 0")
    if limits.imputed_at_most is not None and not 0 <= limits.imputed_at_most <= 1:
        raise Problem(Category.INCORRECT, f"{table.place}.imputed_at_most must be a share, from 0 to 1")
    return limits


def _uri(table: YamlMapping, key: str) -> str:
    text = table.text(key)
    if _URI.fullmatch(text) is None:
        raise Problem(Category.INCORRECT, f"{table.place}.{key} is no uri of FHIR")
    return text


def _output(table: YamlMapping) -> OutputSpec:
    output = OutputSpec(
        name=table.text("name"),
        system=_uri(table, "system"),
        code=table.text("code"),
        display=table.text("display"),
        kind=cast("OutputKind", table.choice("kind", *get_args(OutputKind))),
        unit=table.text("unit") if table.has("unit") else None,
        future=table.take("future", bool),
        bands=tuple(_band(band) for band in table.tables("bands")),
    )
    table.done()
    bounds = [band.at_least for band in output.bands if band.at_least is not None]
    if bounds != sorted(bounds):
        raise Problem(Category.INCORRECT, f"{table.place}.bands must be given from low to high")
    if output.kind == "probability" and (len(bounds) != len(output.bands) or not bounds or bounds[0] != 0):
        raise Problem(Category.INCORRECT, f"{table.place}.bands must each have at_least, the first of them 0")
    if output.kind == "probability" and bounds[-1] > 1:
        raise Problem(
            Category.INCORRECT, f"{table.place}.bands: at_least of a probability is from 0 to 1: 0.5, and not 50"
        )
    if output.kind == "class-set" and len(output.bands) < 2:
        raise Problem(Category.INCORRECT, f"{table.place}.bands must name at least two classes")
    return output


def _band(table: YamlMapping) -> Band:
    band = Band(name=table.text("name"), at_least=table.number("at_least") if table.has("at_least") else None)
    table.done()
    return band


def _change_plan(table: YamlMapping) -> ChangePlan:
    plan = ChangePlan(allowed=table.texts("allowed"), acceptance=_some(table, "acceptance"))
    table.done()
    return plan


def _some(table: YamlMapping, key: str) -> tuple[str, ...]:
    values = table.texts(key)
    if not values:
        raise Problem(Category.INCORRECT, f"{table.place}.{key} must be a list with at least one entry")
    return values


def _version(table: YamlMapping) -> str:
    if isinstance(table.take("version", object), int | float):
        raise Problem(Category.INCORRECT, f'{table.place}.version must be three numbers in quotation marks, as "1.0.0"')
    return _matching(table, "version", _VERSION)


def _matching(table: YamlMapping, key: str, form: re.Pattern[str]) -> str:
    value = table.text(key)
    if not form.fullmatch(value):
        raise Problem(Category.INCORRECT, f"{table.place}.{key} must have the form {form.pattern}")
    return value
