"""What the builders of results need besides the outcome itself."""

from dataclasses import dataclass
from datetime import datetime

from inference.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class ExpectedOutput:
    """An output that the model was to give, so that its absence is filed where its presence would have been."""

    #: Code system and code of the output.
    system: str
    code: str
    display: str
    #: True for the risk of a future event.
    future: bool


@dataclass(frozen=True, kw_only=True)
class InstanceSummary:
    """One DICOM instance."""

    SOPInstanceUID: str
    SOPClassUID: str


@dataclass(frozen=True, kw_only=True)
class SeriesSummary:
    """One DICOM series."""

    SeriesInstanceUID: str
    #: Such as ``DX``.
    modality: str
    instances: tuple[InstanceSummary, ...]
    #: As the modality wrote it; empty when not stated.
    body_part: str = ""


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """The DICOM study that an imaging result is about."""

    StudyInstanceUID: str
    series: tuple[SeriesSummary, ...]
    #: When the study was made; aware.
    started: datetime | None = None
    description: str = ""
    #: Accession number; empty when not stated.
    accession: str = ""


@dataclass(frozen=True, kw_only=True)
class ResultContext:
    """Where and when a result is written down."""

    #: When; aware.
    now: datetime
    #: Version of this software.
    software_version: str
    #: When the newest of what the result rests on was true, never after the computing; None where it is not known.
    observed: datetime | None = None
    #: For an imaging result.
    study: StudySummary | None = None
    #: Reference of the encounter; None when there is none.
    encounter: str | None = None
    #: Its business identifier, (system, value), by which a receiver finds an encounter of its own.
    visit_number: tuple[str, str] | None = None
    #: Outputs that the model was to give; used when the outcome has none.
    expected: tuple[ExpectedOutput, ...] = ()
    #: Ids of earlier results that this one replaces: the same model's, on an earlier revision of the study.
    supersedes: tuple[str, ...] = ()


def expected_of(manifest: Manifest) -> tuple[ExpectedOutput, ...]:
    """Return what a model was asked for, so that its silence is filed where its answer would have been."""
    return tuple(
        ExpectedOutput(system=output.system, code=output.code, display=output.display, future=output.future)
        for output in manifest.outputs
    )
