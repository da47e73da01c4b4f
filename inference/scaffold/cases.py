"""Golden cases from the declarations alone, which a model with another weight answers otherwise than the sealed one.

Each measured code has several values at different times of its window, so that a change, a slope and a spread are
numbers. In the first cases every feature lies at the same place of its plausible range; in the mixed ones each lies at
another, since a model whose features are all high answers 1 whatever one of them weighs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from inference.contract import Admission
from inference.features.records import FeatureSpec, Source
from inference.features.values import Gap
from inference.features.windows import window_of
from inference.golden import FOLDER, case_content, case_file, case_names
from inference.manifest import Manifest
from kernel.errors import Category, Problem

_AT: Final = datetime.fromisoformat("2026-01-15T12:00:00+00:00")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class _Case:
    #: Different in each case: how many values there are, which answers are given, and how old the patient is.
    number: int
    #: Where in its plausible range a feature lies; None: each at another place.
    part: float | None = None
    #: Whether places are taken of the whole range; else by ratios, as most values lie near the low end.
    evenly: bool = False

    def place(self, code: int) -> float:
        """Return where in its range a code lies, by the number of the code."""
        return 0.2 + 0.6 * ((self.number * 0.618 + code * 0.382) % 1) if self.part is None else self.part

    @property
    def values(self) -> int:
        """Return how many values a window has."""
        return 2 + self.number % 3

    @property
    def rise(self) -> float:
        """Return by how much of its range a value rises, or falls."""
        return (0.02, -0.01, 0.03, -0.02)[self.number % 4]


_CASES: Final[Mapping[str, _Case]] = {
    "low": _Case(number=0, part=0.25, evenly=True),
    "middle": _Case(number=1, part=0.5, evenly=True),
    "high": _Case(number=2, part=0.75, evenly=True),
    "third": _Case(number=3, part=1 / 3),
    "half": _Case(number=4, part=0.5),
    "two-thirds": _Case(number=5, part=2 / 3),
    **{f"mixed-{number}": _Case(number=5 + number) for number in range(1, 7)},
}


def make_cases(files: Iterable[str], manifest: Manifest, features: tuple[FeatureSpec, ...]) -> Mapping[str, bytes]:
    """Return golden cases, without answers, for a folder that has none: name in the folder -> content.

    Parameters
    ----------
    files
        Names of the folder's files.
    manifest
        Its declaration.
    features
        Its features.

    Raises
    ------
    Problem
        ``incorrect`` when the folder has no case and none can be made: of images, or without plausible ranges.
    """
    if case_names(files):
        return {}
    if manifest.input.kind != "facts":
        raise Problem(Category.INCORRECT, f"{FOLDER} must hold a case, such as golden/one.json: the input of a patient")
    return {case_file(name): case_content({"input": _input(case, manifest, features)}) for name, case in _CASES.items()}


def _input(case: _Case, manifest: Manifest, features: Sequence[FeatureSpec]) -> dict[str, Any]:
    wanted = (60, 45, 75)[case.number % 3]
    age = max(manifest.limits.min_age_years or 0, min(wanted, manifest.limits.max_age_years or wanted))
    sex = ("female", "male")[case.number // 2 % 2]
    admission = _admission(features)
    admitted = {} if admission is None else {"admitted": _seconds(admission.start)}
    return {
        "subject": {"reference": "Patient/golden", "birth_date": f"{2025 - age}-01-02", "sex": sex},
        "at": _AT.isoformat(),
        **admitted,
        "facts": [*_measured(case, features, admission), *_stated(case, features)],
    }


def _admission(features: Sequence[FeatureSpec]) -> Admission | None:
    """Return an admission before every window that begins with it ends; None where none does."""
    offsets = [spec.offset for spec in features if spec.since_admission]
    if not offsets:
        return None
    return Admission(start=_AT - timedelta(hours=float(max(offsets)) + 1), source="")


def _measured(case: _Case, features: Sequence[FeatureSpec], admission: Admission | None) -> Iterator[dict[str, Any]]:
    """Yield the values of each code once, at the times of all features that read it."""
    by_code: dict[tuple[str, str], list[FeatureSpec]] = {}
    for spec in features:
        if spec.sources:
            by_code.setdefault((spec.sources[0].system, spec.sources[0].code), []).append(spec)
    for number, specs in enumerate(by_code.values()):
        times = sorted({time for spec in specs for time in _times(case, spec, admission)})
        for place, time in enumerate(times):
            part = case.place(number) + case.rise * (place / max(1, len(times) - 1) - 0.5)
            yield {**_fact(case, specs, number, part), "at": time}


def _times(case: _Case, spec: FeatureSpec, admission: Admission | None) -> Iterator[int]:
    """Yield times within the window of a feature, in seconds relative to the moment."""
    span = window_of(spec)(_AT, admission)
    if isinstance(span, Gap):
        return
    until = span.until or _AT
    since = until - _DAY if span.since is None else span.since
    for number in range(1, case.values + 1):
        yield _seconds(since + (until - since) * number / (case.values + 1))


def _seconds(time: datetime) -> int:
    return int((time - _AT).total_seconds())


def _fact(case: _Case, specs: Sequence[FeatureSpec], number: int, part: float) -> dict[str, Any]:
    source = specs[0].sources[0]
    fact = {"system": source.system, "code": source.code}
    if source.statuses and "final" not in source.statuses:
        fact["status"] = min(source.statuses)
    if source.answers:
        spelled = {word: spelling for spelling, word in reversed(tuple(source.answers.items()))}
        return fact | {"answer": list(spelled.values())[(case.number + number) % len(spelled)]}
    return fact | {"value": _value(case, _range(specs, source), part), "unit": source.unit}


def _range(specs: Sequence[FeatureSpec], source: Source) -> tuple[Decimal, Decimal]:
    """Return the range that is plausible to every feature that reads a code in the same unit."""
    same = [spec.sources[0] for spec in specs if spec.sources[0].unit == source.unit]
    ranges = [one.plausible for one in same if one.plausible is not None]
    if not ranges:
        detail = f"{specs[0].name} needs a plausible range, from which golden cases are made"
        raise Problem(Category.INCORRECT, f"features.yaml: {detail}; or write a case into {FOLDER}")
    return max(low for low, _ in ranges), min(high for _, high in ranges)


def _value(case: _Case, plausible: tuple[Decimal, Decimal], part: float) -> str:
    low, high = map(float, plausible)
    if case.evenly or low < 0:
        value = low + (high - low) * part
    else:
        value = low * (high / low) ** part if low > 0 else high * part**2
    return format(Decimal(f"{value:.5g}"), "f")


def _stated(case: _Case, features: Sequence[FeatureSpec]) -> Iterator[dict[str, Any]]:
    """Yield conditions and medications: in each case of every second feature of them."""
    for number, spec in enumerate(spec for spec in features if spec.stated):
        if (case.number + number) % 2:
            stated = spec.stated[0]
            code = next(iter((*stated.codes.codes, *stated.codes.prefixes)))
            status = {"status": min(stated.statuses)} if stated.statuses else {}
            before = _seconds(_AT - timedelta(hours=float(spec.offset) + 1))
            yield {"system": stated.codes.system, "code": code, "kind": min(stated.kinds), **status, "at": before}
