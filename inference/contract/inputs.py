"""What a model is given: one record per kind of input."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from inference.contract.outputs import FeatureUse  # outputs imports this module; only the type is named here

InputKind: TypeAlias = Literal["facts", "series", "image", "volume", "text", "study"]

Pixels: TypeAlias = NDArray[np.float32]
"""(rows, columns), each in [0, 1]."""

Unusable: TypeAlias = Literal["unreadable", "absent", "untimed", "unstated"]
"""Why nothing can be read from a statement: no readable value, stated as absent, no instant, or no known status."""

FactKind: TypeAlias = Literal[
    "observation", "condition", "medication-request", "medication-statement", "medication-administration"
]
"""What a fact was read from: a measurement or an answer, a condition, or how a medication is stated."""

Vector3: TypeAlias = tuple[float, float, float]


def _aware(name: str, instant: datetime | None) -> None:
    if instant is not None and instant.tzinfo is None:
        raise ValueError(f"{name} must carry a time zone")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The patient whom a result is about."""

    #: Relative reference, ``Patient/<id>``.
    reference: str
    #: Day of birth, None when not recorded to the day.
    birth_date: date | None
    #: Administrative sex, None when not recorded.
    sex: str | None
    #: Business identifier, (system, value).
    identifier: tuple[str, str] | None
    #: Its type, a code of HL7 table 0203; empty when not stated.
    identifier_type: str = field(default="", compare=False)
    #: Versioned reference of the record that this was read from; no part of any result's identity.
    version: str | None = field(default=None, compare=False)
    #: Versioned reference of the record since which birth date and sex stand; part of every result's identity.
    demographics: str | None = field(default=None, compare=False)
    #: ``YYYY`` or ``YYYY-MM``, where only the year or the month of birth is known; else empty.
    birth_period: str = ""
    #: False for a record that is labelled as test data: no model runs for it.
    production: bool = field(default=True, compare=False)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing measured or stated about the subject, at one time."""

    #: Code system of ``code``, such as ``http://loinc.org``.
    system: str
    #: What was measured.
    code: str
    #: A number, or the code or text of an answer.
    value: Decimal | str | None
    #: Code system of ``value`` when it is a code.
    value_system: str | None
    #: UCUM unit of a number.
    unit: str | None
    #: When it was true of the subject.
    effective: datetime
    #: When it became available to this server.
    issued: datetime
    #: Opaque, versioned reference to where it was read, such as ``Observation/1/_history/2``.
    source: str
    #: Order of arrival at this server; decides between facts of one time.
    arrived: int = 0
    #: Why it cannot be used; None when it can. It stands in the way of older values all the same.
    unusable: Unusable | None = None
    #: ``<``, ``<=``, ``>`` or ``>=``: the value is only known to lie beyond ``value``, and cannot be used.
    comparator: str | None = None
    #: When this server stored it; None for a fact that was not stored. No measurement was made after it.
    known: datetime | None = None
    #: Place of its status in the life of a result: 0 preliminary, 1 final, 2 corrected. Of two of one code whose times
    #: overlap, the higher one counts, whatever arrived last.
    standing: int = 1
    #: What it was read from; ``value`` says nothing of what is no observation.
    kind: FactKind = "observation"
    #: Status of an Observation, or verification status of a Condition, as received.
    status: str = "final"
    #: Of what is no observation: the instant at which it ended; None while it is in force.
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.effective.tzinfo is None or self.issued.tzinfo is None:
            _aware("effective", self.effective)
            _aware("issued", self.issued)
        if self.known is not None or self.until is not None:
            _aware("known", self.known)
            _aware("until", self.until)

    @property
    def usable_from(self) -> datetime:
        """The instant before which the sender's times lie in the future.

        Where ``issued`` is this server's own time, only ``effective`` counts: a clock that was set back would hide what
        has long arrived.
        """
        return self.effective if self.issued == self.known else max(self.effective, self.issued)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The beginning of the stay in hospital that a patient is in."""

    #: ``period.start`` of the Encounter.
    start: datetime
    #: Versioned reference of the Encounter since which that start stands.
    source: str

    def __post_init__(self) -> None:
        _aware("start", self.start)


@dataclass(frozen=True, kw_only=True)
class FactsInput:
    """Scalars: measurements and statements about a patient, each at one time."""

    #: Whom the facts are about.
    subject: Subject
    #: Every fact available, in any order; features choose among them.
    facts: tuple[Fact, ...]
    #: The time of prediction: nothing learnt later may be used.
    at: datetime
    #: How far a time may lie after ``at`` and still count as now: clocks differ.
    clock_tolerance: timedelta = timedelta(0)
    #: Of the stay that the patient is in; None where nothing says that there is one.
    admission: Admission | None = None

    def __post_init__(self) -> None:
        _aware("at", self.at)

    @property
    def latest(self) -> datetime:
        """The latest time that counts as now."""
        return self.at + self.clock_tolerance

    @property
    def sources(self) -> tuple[str, ...]:
        """Versions of every fact that was available at the time of prediction."""
        return tuple(fact.source for fact in self.facts if fact.usable_from <= self.latest)

    @property
    def next_usable(self) -> datetime | None:
        """When the next fact that lies in the future can be used; None when there is none."""
        later = [fact.usable_from for fact in self.facts if fact.usable_from > self.latest]
        return min(later) - self.clock_tolerance if later else None


@dataclass(frozen=True, kw_only=True)
class RowInput(FactsInput):
    """The values of a model's features, computed elsewhere, in the units of ``features.yaml``."""

    #: Feature name -> a number, one of the feature's words, or None where there is no value.
    row: Mapping[str, Decimal | str | None] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SeriesInput:
    """A multivariate time series on a fixed grid. Two inputs are equal when their sources are."""

    subject: Subject
    #: Names of the features, in the order of the columns of ``values``.
    features: tuple[str, ...]
    #: End of each interval of the grid, ascending; one per row of ``values``.
    grid: tuple[datetime, ...]
    #: (time, feature), each feature in the unit that ``features.yaml`` declares; NaN where ``mask`` is false.
    values: NDArray[np.float32] = field(compare=False, repr=False)
    #: (time, feature): true where a value was measured in the interval.
    mask: NDArray[np.bool_] = field(compare=False, repr=False)
    #: Versions of every measurement within the grid, also of those that a later one of the same interval replaces.
    sources: tuple[str, ...]
    #: The time of prediction.
    at: datetime
    #: What became of each feature over the whole grid.
    uses: "tuple[FeatureUse, ...]" = field(default=(), compare=False, repr=False)
    #: When the next measurement that lies in the future can be used.
    next_usable: datetime | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _aware("at", self.at)
        _aware("next_usable", self.next_usable)
        for instant in self.grid:
            _aware("grid", instant)
        if any(later <= earlier for earlier, later in zip(self.grid, self.grid[1:], strict=False)):
            raise ValueError("grid must ascend")
        if self.grid and self.grid[-1] > self.at:
            raise ValueError("grid must not reach beyond the time of prediction")
        if not self.values.shape == self.mask.shape == (len(self.grid), len(self.features)):
            raise ValueError("values and mask must have the shape (time, feature)")


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """One grey image. Two inputs are equal when their sources are."""

    #: Whose image it is.
    subject: Subject
    #: (rows, columns) in [0, 1], bright = dense, after modality LUT, VOI and MONOCHROME1 inversion.
    pixels: Pixels = field(compare=False, repr=False)
    #: DICOM modality, such as ``DX``.
    modality: str
    #: Body part examined, upper case; empty when not stated.
    body_part: str
    #: View position, such as ``PA``; empty when not stated.
    view: str
    #: Versions of what the pixels were read from, such as ``urn:oid:<SOPInstanceUID>#<address>``.
    sources: tuple[str, ...]
    #: When the image was taken.
    acquired_at: datetime | None
    #: The time of prediction.
    at: datetime

    def __post_init__(self) -> None:
        _aware("acquired_at", self.acquired_at)
        _aware("at", self.at)
        if self.pixels.ndim != 2:
            raise ValueError("pixels must be one image of (rows, columns)")


@dataclass(frozen=True, kw_only=True)
class VolumeInput:
    """A stack of parallel, equally spaced slices. Two inputs are equal when their sources are."""

    subject: Subject
    #: (slices, rows, columns) in the modality's unit after rescaling: Hounsfield units for CT.
    voxels: NDArray[np.float32] = field(compare=False, repr=False)
    #: Millimetres between the centres of neighbouring slices, rows and columns.
    spacing: Vector3
    #: Unit vectors in the patient coordinate system (LPS) along increasing slice, row and column index.
    orientation: tuple[Vector3, Vector3, Vector3]
    #: Position of the centre of the first voxel in the patient coordinate system (LPS), millimetres.
    origin: Vector3
    #: DICOM modality, such as ``CT``.
    modality: str
    #: Body part examined, upper case; empty when not stated.
    body_part: str
    #: Versions of what the voxels were read from.
    sources: tuple[str, ...]
    #: When the series was acquired.
    acquired_at: datetime | None
    #: The time of prediction.
    at: datetime

    def __post_init__(self) -> None:
        _aware("acquired_at", self.acquired_at)
        _aware("at", self.at)
        if self.voxels.ndim != 3:
            raise ValueError("voxels must have the shape (slices, rows, columns)")
        if not all(step > 0 for step in self.spacing):
            raise ValueError("spacing must be above 0")


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """One document."""

    subject: Subject
    #: Plain text.
    text: str = field(repr=False)
    #: Code of the document's type, such as the LOINC code ``18842-5``; empty when not stated.
    document_type: str
    #: BCP 47 language tag; empty when not stated.
    language: str
    #: Versions of what the text was read from.
    sources: tuple[str, ...]
    #: When the document was written.
    authored_at: datetime | None
    #: The time of prediction.
    at: datetime

    def __post_init__(self) -> None:
        _aware("authored_at", self.authored_at)
        _aware("at", self.at)


PartInput: TypeAlias = FactsInput | SeriesInput | ImageInput | VolumeInput | TextInput


@dataclass(frozen=True, kw_only=True)
class StudyInput:
    """Several inputs of one examination, by the names that the manifest gives them."""

    subject: Subject
    parts: Mapping[str, PartInput]
    #: The time of prediction.
    at: datetime

    def __post_init__(self) -> None:
        _aware("at", self.at)
        if any(part.subject.reference != self.subject.reference for part in self.parts.values()):
            raise ValueError("every part must be about the subject")

    @property
    def sources(self) -> tuple[str, ...]:
        """Versions of what the parts were read from."""
        return tuple(source for part in self.parts.values() for source in part.sources)

    @property
    def next_usable(self) -> datetime | None:
        """When the next value that lies in the future can be used, of whatever part."""
        measured = [part for part in self.parts.values() if isinstance(part, FactsInput | SeriesInput)]
        return min((part.next_usable for part in measured if part.next_usable is not None), default=None)

    @property
    def uses(self) -> "tuple[FeatureUse, ...]":
        """What became of each feature of its time series."""
        return tuple(use for part in self.parts.values() if isinstance(part, SeriesInput) for use in part.uses)


ModelInput: TypeAlias = PartInput | StudyInput


def kind_of(given: ModelInput) -> InputKind:
    """Return the kind of an input, as manifests name it."""
    return _KINDS[type(given)]


_KINDS: Mapping[type, InputKind] = {
    FactsInput: "facts",
    RowInput: "facts",
    SeriesInput: "series",
    ImageInput: "image",
    VolumeInput: "volume",
    TextInput: "text",
    StudyInput: "study",
}
