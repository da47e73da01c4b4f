"""The records that pass between the server and a model, independent of any protocol.

What goes in is a :class:`TabularInput` or an :class:`ImageInput`; what comes out is an :data:`Outcome`: a
:class:`Prediction`, or a :class:`NotAvailable` that says why there is none. The faces turn resources, messages and
images into these and back; nothing here knows FHIR, HL7 or DICOM.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]
"""(rows, columns), each in [0, 1]."""


def _aware(name: str, instant: datetime | None) -> None:
    if instant is not None and instant.tzinfo is None:
        raise ValueError(f"{name} must carry a time zone")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The patient whom a result is about."""

    #: Relative reference, ``Patient/<id>``.
    reference: str
    #: Day of birth, as far as it is known.
    birth_date: date | None
    #: Administrative sex, as far as it is known.
    sex: str | None
    #: Business identifier, (system, value).
    identifier: tuple[str, str] | None
    #: Versioned reference of the record that this was read from; no part of any result's identity.
    version: str | None = field(default=None, compare=False)


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
    #: When this server could first have known it.
    issued: datetime
    #: Opaque, versioned reference to where it was read, such as ``Observation/1/_history/2``.
    source: str

    def __post_init__(self) -> None:
        _aware("effective", self.effective)
        _aware("issued", self.issued)


@dataclass(frozen=True, kw_only=True)
class TabularInput:
    """What a model that reads facts is given."""

    #: Whom the facts are about.
    subject: Subject
    #: Everything known, in any order; features choose among them.
    facts: tuple[Fact, ...]
    #: The instant the question is asked: nothing learnt later may be used.
    at: datetime

    def __post_init__(self) -> None:
        _aware("at", self.at)


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """What a model that reads one image is given."""

    #: Whose image it is.
    subject: Subject
    #: (rows, columns) in [0, 1], bright = dense, after modality LUT, VOI and MONOCHROME1 inversion. Two inputs are
    #: equal when their ``sources`` are, so the pixels take no part in a comparison.
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
    #: The instant the question is asked.
    at: datetime

    def __post_init__(self) -> None:
        _aware("acquired_at", self.acquired_at)
        _aware("at", self.at)
        if self.pixels.ndim != 2:
            raise ValueError("pixels must be one image of (rows, columns)")


ModelInput: TypeAlias = TabularInput | ImageInput


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
class FeatureUse:
    """What became of one feature of a model, for monitoring and review."""

    #: The feature's name.
    name: str
    #: The value that the model read, in ``unit``; None when it read none.
    value: Decimal | str | None
    #: UCUM unit of the value.
    unit: str | None
    #: ``imputed``: missing, a declared default stands in; ``dropped``: there was a value that cannot be read.
    status: Literal["used", "imputed", "dropped", "implausible", "missing"]
    #: Versioned reference to where it was read, the first of several.
    source: str | None


@dataclass(frozen=True, kw_only=True)
class Output:
    """One thing that a model says."""

    #: Name within the model.
    name: str
    #: Code system of ``code``.
    system: str
    #: What is being said.
    code: str
    #: ``code`` in words.
    display: str
    #: How ``value`` is to be read: points, a probability in [0, 1], or only the ``band``.
    kind: Literal["score", "probability", "category"]
    #: Points or probability.
    value: float | None
    #: UCUM unit of ``value``.
    unit: str | None
    #: The value's class, such as ``low-medium`` or ``positive``.
    band: str
    #: What a clinician reads; never silent about being made by a machine.
    text: str
    #: True for the risk of a future event, False for a finding that is present now.
    future: bool


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model speaks, exactly."""

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
    """Return what every result says of itself before it says anything else."""
    return f"{REVIEW} {DEMONSTRATION}" if demonstration else REVIEW


def opened(text: str, *, demonstration: bool) -> str:
    """Return ``text`` with the notice before it, once."""
    return text if text.startswith(REVIEW) else f"{notice(demonstration=demonstration)} {text}"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's answer."""

    model: ModelIdentity
    subject: Subject
    outputs: tuple[Output, ...]
    inputs: tuple[InputUsed, ...]
    #: Sorted versions of everything that was used; what the result's identity rests on.
    input_versions: tuple[str, ...]
    at: datetime
    #: (rows, columns) of the input image, in [0, 1]: where the evidence lies.
    heat_map: Pixels | None = field(default=None, compare=False, repr=False)
    #: Every feature of the model, whether it had a value or not.
    features: tuple[FeatureUse, ...] = ()
    #: Milliseconds from the request to the answer.
    latency_ms: float | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class NotAvailable:
    """Why there is no answer: shown and delivered in the answer's place."""

    model: ModelIdentity
    subject: Subject
    #: The model may not or cannot answer for this input, broke, or has been switched off.
    kind: Literal["declined", "failed", "stopped"]
    #: Completes the sentence "AI result not available: ..."; safe to show.
    reason: str
    #: Names of the inputs that would be needed.
    missing: tuple[str, ...]
    inputs: tuple[InputUsed, ...]
    #: Sorted versions of everything that was at hand.
    input_versions: tuple[str, ...]
    at: datetime
    #: As of a prediction.
    features: tuple[FeatureUse, ...] = ()
    #: As of a prediction.
    latency_ms: float | None = field(default=None, compare=False)


Outcome: TypeAlias = Prediction | NotAvailable


def result_id(outcome: Outcome) -> str:
    """Name the result of one model version on one set of inputs.

    Retries, replays and duplicate deliveries of the same inputs meet in the same name. The subject takes part
    because a refusal for want of any input at all would otherwise be the same result for every patient.

    Parameters
    ----------
    outcome
        What the runtime answered.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    kind = outcome.kind if isinstance(outcome, NotAvailable) else "prediction"
    model = outcome.model
    parts = [model.name, model.version, model.digest, outcome.subject.reference, kind, *sorted(outcome.input_versions)]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()
