"""What a model returns: outputs by kind, and the outcome that carries them or the reason why there are none."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference.contract.inputs import Subject, Unusable

OutputKind: TypeAlias = Literal[
    "score", "probability", "category", "class-set", "interval", "time-series", "mask", "spans"
]


@dataclass(frozen=True, kw_only=True)
class InputUsed:
    """One input that took part in a result, as a person should see it."""

    #: The feature's name.
    name: str
    #: The value that the model read, in ``unit``.
    value: Decimal | str | None
    #: UCUM unit of the value.
    unit: str | None
    #: When it was true of the subject.
    effective: datetime | None
    #: Versioned reference to where it was read.
    source: str


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """Every class with its probability, in the order of the manifest's bands."""

    probabilities: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A range that holds the true value with the stated probability."""

    low: float
    high: float
    #: In (0, 1), such as 0.9.
    coverage: float


@dataclass(frozen=True, kw_only=True)
class TimeSeries:
    """One value for each time, ascending."""

    times: tuple[datetime, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class MaskReference:
    """A segmentation: the name of the artefact that holds it; voxels never lie inside a result."""

    artefact: str


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a text."""

    #: Offsets in characters, the end exclusive.
    start: int
    end: int
    #: Class of the part.
    label: str


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Parts of a text, by ascending start."""

    spans: tuple[Span, ...]


OutputDetail: TypeAlias = ClassSet | Interval | TimeSeries | MaskReference | Spans


def as_plain(detail: OutputDetail) -> dict[str, Any]:
    """Return a detail as JSON values; a time becomes text in ISO 8601."""
    return {name: _plain(value) for name, value in asdict(detail).items()}


def from_plain(kind: OutputKind, plain: Mapping[str, Any]) -> OutputDetail | None:
    """Return the detail that :func:`as_plain` gave as JSON values; None for a kind that has none.

    Parameters
    ----------
    kind
        Of the output.
    plain
        What :func:`as_plain` returned.
    """
    make = _FROM_PLAIN.get(kind)
    return None if make is None else make(plain)


_FROM_PLAIN: Final[Mapping[OutputKind, Callable[[Mapping[str, Any]], OutputDetail]]] = MappingProxyType(
    {
        "class-set": lambda plain: ClassSet(
            probabilities=tuple((name, share) for name, share in plain["probabilities"])
        ),
        "interval": lambda plain: Interval(**plain),
        "time-series": lambda plain: TimeSeries(
            times=tuple(datetime.fromisoformat(time) for time in plain["times"]), values=tuple(plain["values"])
        ),
        "mask": lambda plain: MaskReference(**plain),
        "spans": lambda plain: Spans(spans=tuple(Span(**span) for span in plain["spans"])),
    }
)
"""Kind of an output -> what makes its detail of JSON values."""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of a model, in the codes of its manifest."""

    #: Name within the model.
    name: str
    #: Code system of ``code``.
    system: str
    #: What the output is about.
    code: str
    #: ``code`` in words.
    display: str
    #: How ``value`` and ``detail`` are to be read.
    kind: OutputKind
    #: Points; probability; probability of the most likely class; point estimate of an interval; last value of a time
    #: series; segmented part of the image in [0, 1]; number of spans. Absent for a category.
    value: float | None
    #: UCUM unit of ``value``.
    unit: str | None
    #: The value's class, such as ``low-medium`` or ``positive``.
    band: str
    #: What a clinician reads; always begins with the notice that it is AI-generated.
    text: str
    #: True for the risk of a future event, False for a finding that is present now.
    future: bool
    #: The rest of an output that is more than one number.
    detail: OutputDetail | None = None


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model made a result, exactly."""

    name: str
    version: str
    #: SHA-256 (hex) of the folder's ``SHA256SUMS``, hence of every file in it.
    digest: str
    title: str
    intended_use: str
    owner: str
    #: Made to show the system at work, not for care.
    demonstration: bool
    #: The model card, Markdown.
    card: str = field(repr=False)
    #: ``shadow``, ``active`` or ``retired``.
    status: str


REVIEW: Final = "AI-generated, not reviewed by a person."
"""Begins every text of every result, in every protocol."""

DEMONSTRATION: Final = "Demonstration model, not for clinical use."
"""Follows it where that is so."""


def notice(*, demonstration: bool) -> str:
    """Return the notice that every text of every result begins with."""
    return f"{REVIEW} {DEMONSTRATION}" if demonstration else REVIEW


def opened(text: str, *, demonstration: bool) -> str:
    """Return ``text`` with the notice before it, once.

    Parameters
    ----------
    text
        Text of a result; one that begins with :data:`REVIEW` is returned unchanged.
    demonstration
        Whether the model is for demonstration only, which adds :data:`DEMONSTRATION`.
    """
    return text if text.startswith(REVIEW) else f"{notice(demonstration=demonstration)} {text}"


FeatureStatus: TypeAlias = Literal["used", "imputed", "dropped", "implausible", "missing"]
GapKind: TypeAlias = Literal["missing", "implausible", "old", "future", "contradictory", "limit"] | Unusable


@dataclass(frozen=True, kw_only=True)
class FeatureUse:
    """What became of one feature of a model, for monitoring and review."""

    #: The feature's name.
    name: str
    #: What was measured, in ``unit``, before any transform; None when the model read nothing.
    value: Decimal | str | None
    #: UCUM unit of the value.
    unit: str | None
    #: ``imputed``: missing, a declared default stands in; ``dropped``: there was a value that cannot be read.
    status: FeatureStatus
    #: Versioned reference to where it was read, the first of several.
    source: str | None
    #: Why there was no value that can be used; None of one that was used.
    why: GapKind | None = None
    #: What the values state, where the reason names them.
    detail: str = ""


ArtefactKind: TypeAlias = Literal["heat-map", "mask"]

_SHAPES: Final[dict[ArtefactKind, tuple[int, ...]]] = {"heat-map": (2,), "mask": (2, 3)}
"""Kind of an artefact -> how many dimensions it may have."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """An array that belongs to a prediction; it is stored as a blob, and a result's row holds its address."""

    #: Unique within the prediction; an output of kind ``mask`` names its artefact by it.
    name: str
    kind: ArtefactKind
    #: Heat map: (rows, columns) in [0, 1], where the evidence lies. Mask: (rows, columns) or (slices, rows, columns),
    #: unsigned bytes, 0 where nothing is segmented and else the number of the segment.
    values: NDArray[Any] = field(compare=False, repr=False)
    #: In which grid the array lies, for people, such as "pixels of the input image".
    geometry: str

    def __post_init__(self) -> None:
        if self.values.ndim not in _SHAPES[self.kind]:
            raise ValueError(f"a {self.kind} cannot have {self.values.ndim} dimensions")
        if self.kind == "mask" and self.values.dtype != np.uint8:
            raise ValueError("a mask must hold unsigned bytes")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model predicted."""

    model: ModelIdentity
    subject: Subject
    outputs: tuple[Output, ...]
    inputs: tuple[InputUsed, ...]
    #: Sorted versions of everything that was used; the result's identity is made from them.
    input_versions: tuple[str, ...]
    at: datetime
    #: Heat maps and masks, by unique names.
    artefacts: tuple[Artefact, ...] = ()
    #: Every feature of the model, whether it had a value or not.
    features: tuple[FeatureUse, ...] = ()
    #: Milliseconds from the request to the prediction.
    latency_ms: float | None = field(default=None, compare=False)
    #: Id of the result after which the same is said again; None when it is said for the first time.
    follows: str | None = None
    #: URL of the model of another server that computed it; empty when this server did.
    computed_by: str = ""

    @property
    def heat_map(self) -> Artefact | None:
        """The heat map, the first of several; None when there is none."""
        return next((artefact for artefact in self.artefacts if artefact.kind == "heat-map"), None)


@dataclass(frozen=True, kw_only=True)
class NotAvailable:
    """Why there is no prediction: shown and delivered in its place."""

    model: ModelIdentity
    subject: Subject
    #: The model may not or cannot predict on this input, failed, or has been switched off.
    kind: Literal["declined", "failed", "stopped"]
    #: Completes the sentence "AI result not available: ..."; safe to show.
    reason: str
    #: Names of the inputs that would be needed.
    missing: tuple[str, ...]
    inputs: tuple[InputUsed, ...]
    #: Sorted versions of everything that was available.
    input_versions: tuple[str, ...]
    at: datetime
    #: As of a prediction.
    features: tuple[FeatureUse, ...] = ()
    #: As of a prediction.
    latency_ms: float | None = field(default=None, compare=False)
    #: As of a prediction.
    follows: str | None = None
    #: Whether the model is not for such a patient or such an image.
    out_of_scope: bool = field(default=False, compare=False)

    @property
    def incomplete(self) -> bool:
        """Whether values are missing and nothing else is wrong: every value that there is can be used."""
        statuses = {feature.status for feature in self.features}
        return bool(self.missing) and "missing" in statuses and statuses <= {"used", "imputed", "missing"}


Outcome: TypeAlias = Prediction | NotAvailable


def statement_id(outcome: Outcome) -> str:
    """Name what one model version states on one set of inputs, whatever was said before.

    Retries, replays and duplicate deliveries of the same inputs get the same name. The subject takes part
    because declining without any input would otherwise be the same statement for every patient; birth date and sex take
    part by the version of the record since which they stand. Of two refusals on the same inputs each reason is another
    statement.

    Parameters
    ----------
    outcome
        What the runtime returned.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    kind = f"{outcome.kind}: {outcome.reason}" if isinstance(outcome, NotAvailable) else "prediction"
    model, subject = outcome.model, outcome.subject
    about = [subject.reference, subject.demographics or ""]
    return _hash([model.name, model.version, model.digest, *about, kind, *sorted(outcome.input_versions)])


def result_id(outcome: Outcome) -> str:
    """Name a result: what it states, and the result that it follows if the same was stated before that one.

    Parameters
    ----------
    outcome
        What the runtime returned, with its place among the results.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    statement = statement_id(outcome)
    return statement if outcome.follows is None else _hash([statement, outcome.follows])


def _hash(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()
