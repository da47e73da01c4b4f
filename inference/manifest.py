"""``model.yaml``: what a model is, for whom, on what, and what it may never be used on."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias, cast

from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

OutputKind: TypeAlias = Literal["score", "probability", "category"]

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What arriving data makes the model run."""

    #: Whether the model reads facts about a patient or one image.
    kind: Literal["facts", "image"]
    #: Codes (LOINC) any of which, arriving, is a reason to run; for ``facts``.
    codes: tuple[str, ...]
    #: DICOM modalities; for ``image``.
    modalities: tuple[str, ...]
    #: Body parts; for ``image``. An image that names none is accepted.
    body_parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Outside these the model declines."""

    #: Completed years of age; a patient whose age is unknown is declined too.
    min_age_years: int | None
    #: View positions; an image that names none is accepted.
    views: tuple[str, ...]
    #: Least rows and columns of an image.
    min_side: int
    #: Least standard deviation of an image's pixels: below it, nothing is on it.
    min_contrast: float


@dataclass(frozen=True, kw_only=True)
class Band:
    """A class of an output's value."""

    name: str
    #: Lower bound of the value, inclusive; ``None`` where the model's own rule decides.
    at_least: Decimal | None


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """What the model says, in codes."""

    name: str
    system: str
    code: str
    display: str
    kind: OutputKind
    unit: str | None
    #: True: risk of a future event. False: a finding that is present now.
    future: bool
    #: From low to high.
    bands: tuple[Band, ...]

    def band(self, value: float) -> str:
        """Return the name of the highest band that ``value`` reaches."""
        reached = [band.name for band in self.bands if band.at_least is not None and value >= band.at_least]
        return reached[-1]


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """What may change without a new approval, and what a change must first show (FDA PCCP guidance, 2024)."""

    allowed: tuple[str, ...]
    acceptance: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A model's ``model.yaml``."""

    name: str
    version: str
    title: str
    intended_use: str
    owner: str
    demonstration: bool
    #: Who may act on its results.
    users: tuple[str, ...]
    trigger: Trigger
    #: A key of :data:`inference.runners.RUNNERS`.
    runner: str
    outputs: tuple[OutputSpec, ...]
    limits: Limits
    #: What a reader of the card must know, one sentence each.
    warnings: tuple[str, ...]
    change_plan: ChangePlan


def parse_manifest(content: object) -> Manifest:
    """Read the content of ``model.yaml``.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    table = YamlMapping("model.yaml", content)
    manifest = Manifest(
        name=_matching(table, "name", _NAME),
        version=_matching(table, "version", _VERSION),
        title=table.text("title"),
        intended_use=table.text("intended_use"),
        owner=table.text("owner"),
        demonstration=table.take("demonstration", bool),
        users=_some(table, "users"),
        trigger=_trigger(table.table("trigger")),
        runner=table.text("runner"),
        outputs=tuple(_output(output) for output in table.tables("outputs")),
        limits=_limits(table.table("limits")),
        warnings=table.texts("warnings"),
        change_plan=_change_plan(table.table("change_plan")),
    )
    table.done()
    if not manifest.outputs:
        raise Problem(Category.INCORRECT, "model.yaml.outputs must not be empty")
    return manifest


def _trigger(table: YamlMapping) -> Trigger:
    kind = cast("Literal['facts', 'image']", table.choice("kind", "facts", "image"))
    trigger = Trigger(
        kind=kind,
        codes=_some(table, "codes") if kind == "facts" else (),
        modalities=_some(table, "modalities") if kind == "image" else (),
        body_parts=_some(table, "body_parts") if kind == "image" else (),
    )
    table.done()
    return trigger


def _limits(table: YamlMapping) -> Limits:
    limits = Limits(
        min_age_years=table.take("min_age_years", int) if table.has("min_age_years") else None,
        views=table.texts("views"),
        min_side=table.take("min_side", int) if table.has("min_side") else 1,
        min_contrast=float(table.number("min_contrast")) if table.has("min_contrast") else 0.0,
    )
    table.done()
    return limits


def _output(table: YamlMapping) -> OutputSpec:
    output = OutputSpec(
        name=table.text("name"),
        system=table.text("system"),
        code=table.text("code"),
        display=table.text("display"),
        kind=cast("OutputKind", table.choice("kind", "score", "probability", "category")),
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


def _matching(table: YamlMapping, key: str, form: re.Pattern[str]) -> str:
    value = table.text(key)
    if not form.fullmatch(value):
        raise Problem(Category.INCORRECT, f"{table.place}.{key} must have the form {form.pattern}")
    return value
