"""Feature specs compiled to plain closures, and what they find in one patient's facts.

A fact counts when it was both true and available at the instant of the prediction: ``effective`` and ``issued`` are not
after it, by more than the declared tolerance of clocks. A value that cannot be used (in the future, without a time or a
status, a bound such as ``<85``, unknown unit or answer, outside the plausible range) is treated as missing with its own
reason; an older value never steps in for a newer one that cannot be used. Nothing was measured after it was stored: a
value with a later time stands at the moment of its storing, and one that is measured after that is newer. Which of
several values counts is decided in :mod:`inference.features.choose`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

from inference.contract import FactsInput, FeatureStatus, FeatureUse, GapKind, InputUsed, RowInput
from inference.features.compiled import Feature, answer, compile_feature
from inference.features.index import Index, index_facts, index_patient
from inference.features.records import FeatureSpec
from inference.features.rows import RowFeature, row_feature
from inference.features.transform import transformed
from inference.features.values import FeatureValue, Gap

__all__ = [
    "GAP_WORDS",
    "Extraction",
    "Extractor",
    "FeatureValue",
    "Index",
    "compile_features",
    "gap_uses",
    "index_facts",
    "refusal_of",
]

GAP_WORDS: Final[Mapping[GapKind, str]] = MappingProxyType(
    {
        "missing": "missing",
        "implausible": "implausible",
        "unreadable": "unreadable",
        "absent": "stated as absent:",
        "untimed": "untimed:",
        "unstated": "no status:",
        "old": "too old:",
        "future": "in the future:",
        "contradictory": "contradictory:",
        "limit": "known only as a limit:",
    }
)
"""Kind of a gap -> how a refusal names it, before the titles of the features."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """All features of a model, for one patient at one instant."""

    #: Feature name -> reading; ``None`` where the policy leaves it unknown.
    readings: Mapping[str, FeatureValue | None]
    #: Titles of the features without which the model refuses.
    missing: tuple[str, ...]
    #: The refusal in words; empty when nothing is missing.
    reason: str
    #: What was read, for people.
    inputs: tuple[InputUsed, ...]
    #: What became of each feature.
    features: tuple[FeatureUse, ...] = ()
    #: Feature name -> what a clinician calls it.
    titles: Mapping[str, str] = field(default_factory=dict)


Extractor: TypeAlias = Callable[[FactsInput], Extraction]


def compile_features(specs: Sequence[FeatureSpec]) -> Extractor:
    """Compile specs once; the result is called per patient.

    Parameters
    ----------
    specs
        In the order in which refusals and inputs are to be listed.

    Returns
    -------
    Extractor
        A pure function.
    """
    made = [spec for spec in specs if spec.missing_of is None]
    return partial(
        _extract,
        tuple(specs),
        tuple((spec.name, compile_feature(spec)) for spec in made),
        tuple((spec.name, row_feature(spec)) for spec in made),
        MappingProxyType({spec.name: spec.title for spec in specs} | {_shown(spec): spec.title for spec in specs}),
    )


def refusal_of(gaps: Mapping[GapKind, Sequence[tuple[str, str]]]) -> str:
    """Return the features without a value in words: by kind of gap, each with its title and what its values state."""
    return "; ".join(
        f"{GAP_WORDS[kind]} {', '.join(f'{title} ({detail})' if detail else title for title, detail in named)}"
        for kind, named in gaps.items()
    )


def gap_uses(name: str, gap: Gap, status: FeatureStatus, value: Decimal | str | None = None) -> Iterator[FeatureUse]:
    """Yield what became of a feature without a value that can be used, once for each value that takes part.

    Parameters
    ----------
    name
        The feature's name.
    gap
        Why it has no value.
    status
        How that is recorded.
    value
        What stands in for it.
    """
    for source in (gap.source, *gap.others):
        yield FeatureUse(
            name=name, value=value, unit=None, status=status, source=source, why=gap.kind, detail=gap.detail
        )


def _extract(
    specs: Sequence[FeatureSpec],
    of_facts: Sequence[tuple[str, Feature]],
    of_rows: Sequence[tuple[str, RowFeature]],
    titles: Mapping[str, str],
    given: FactsInput,
) -> Extraction:
    if isinstance(given, RowInput):
        found = {name: read(given.row) for name, read in of_rows}
    else:
        patient = index_patient(given)
        found = {name: feature(patient) for name, feature in of_facts}
    readings: dict[str, FeatureValue | None] = {}
    uses: list[FeatureUse] = []
    inputs: dict[InputUsed, None] = {}
    gaps: dict[GapKind, dict[tuple[str, str], None]] = {}
    for spec in specs:
        one = found[spec.name] if spec.missing_of is None else _indicator(spec.missing_of, specs, found)
        readings[spec.name] = settled = _settle(spec, one)
        uses += _uses(spec.name, one, settled)
        if settled is not None:
            inputs |= dict.fromkeys(_inputs(_shown(spec), settled))
        if isinstance(one, Gap) and spec.missing == "refuse":
            gaps.setdefault(one.kind, {})[spec.title, one.detail] = None
    named = {kind: tuple(titled) for kind, titled in gaps.items()}
    return Extraction(
        readings=MappingProxyType(readings),
        missing=tuple(title for titled in named.values() for title, _ in titled),
        reason=refusal_of(named),
        inputs=tuple(inputs),
        features=tuple(uses),
        titles=titles,
    )


def _shown(spec: FeatureSpec) -> str:
    """Return the name under which a feature is shown: of one that became several, the name in the file."""
    return spec.declared or spec.name


def _inputs(name: str, reading: FeatureValue) -> Iterator[InputUsed]:
    for source in reading.sources:
        yield InputUsed(name=name, value=reading.in_unit, unit=reading.unit, effective=reading.effective, source=source)


def _indicator(name: str, specs: Sequence[FeatureSpec], found: Mapping[str, FeatureValue | Gap]) -> FeatureValue:
    """Return 1 where a feature has no value, else 0; those of one answer each are missing together."""
    named = next(spec for spec in specs if name in {spec.name, spec.declared})
    return answer(holds=isinstance(found[named.name], Gap))


def _uses(name: str, found: FeatureValue | Gap, settled: FeatureValue | None) -> Iterator[FeatureUse]:
    """Yield what became of a feature; of the values that an aggregate left out, the newest of each kind comes first."""
    value, unit = (None, None) if settled is None else (_read_as(settled), settled.unit)
    if isinstance(found, FeatureValue):
        for gap in {gap.kind: gap for gap in found.left_out}.values():
            yield from gap_uses(name, gap, _STATUS.get(gap.kind, "dropped"))
        source = next(iter(found.sources), None)
        yield FeatureUse(name=name, value=value, unit=unit, status="used", source=source)
        return
    status = _STATUS.get(found.kind, "dropped")
    if status == "missing" and settled is not None:
        status = "imputed"
    yield from gap_uses(name, found, status, value)


_STATUS: Final[Mapping[GapKind, FeatureStatus]] = MappingProxyType(
    {"missing": "missing", "old": "missing", "implausible": "implausible"}
)
"""Kind of a gap -> status of the feature; every other kind is a value that was dropped."""


def _read_as(settled: FeatureValue) -> Decimal | str:
    """Return what was measured; of a feature about one answer, whether that one was given."""
    return settled.value if isinstance(settled.measured, str) else settled.in_unit


def _settle(spec: FeatureSpec, found: FeatureValue | Gap) -> FeatureValue | None:
    if isinstance(found, FeatureValue):
        return found
    if spec.missing == "default" and spec.default is not None:
        value = transformed(spec.default, spec.transform)
        assert value is not None  # checked when the declaration was read
        stated = spec.default if spec.transform else None
        return FeatureValue(value=value, unit=None, code="", effective=None, sources=(), measured=stated)
    return None
