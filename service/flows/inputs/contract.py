"""What a reader of model inputs is given, and what it returns when there is nothing to read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from dicom_node.study import Instance, Study
from inference.catalogue import DeclaredModel
from inference.contract import FeatureUse, ModelInput, NotAvailable, PartInput, Subject
from inference.manifest import InputSpec
from service.core import CoreServices


@dataclass(frozen=True, kw_only=True)
class StudyFiles:
    """An imaging study, and where its files are read."""

    study: Study
    sources: tuple[str, ...]
    """Version of each of its instances, ``urn:oid:<SOPInstanceUID>#<address>``."""
    open_instance: Callable[[str], bytes]
    """SOPInstanceUID -> DICOM file."""

    def sources_of(self, instances: Sequence[Instance]) -> tuple[str, ...]:
        """Return the versions of some of its instances: what a result rests on when no other was read."""
        return tuple(sorted(source_of(one.SOPInstanceUID, one.blob) for one in instances))


def source_of(SOPInstanceUID: str, blob: str) -> str:
    """Return the version of an instance.

    Parameters
    ----------
    SOPInstanceUID
        The instance.
    blob
        Address of its bytes.
    """
    return f"urn:oid:{SOPInstanceUID}#{blob}"


@dataclass(frozen=True, kw_only=True)
class InputRequest:
    """For which model, patient and time an input is wanted."""

    model: DeclaredModel
    subject: Subject
    at: datetime
    """The time of prediction: nothing learnt later is read."""
    document: str | None = None
    """Reference of the document that made the model run; None: the newest."""
    files: StudyFiles | None = None
    """The imaging study that made the model run."""


@dataclass(frozen=True, kw_only=True)
class NoInput:
    """Why an input cannot be given."""

    reason: str
    """Completes "AI result not available: ..."; safe to show."""
    missing: tuple[str, ...] = ()
    """Names of what would be needed."""
    sources: tuple[str, ...] = ()
    """Versions of what was read all the same."""
    features: tuple[FeatureUse, ...] = ()
    next_usable: datetime | None = None
    """When a value that lies in the future can be used."""
    out_of_scope: bool = False
    """Whether the model is not for such a study."""


Reader: TypeAlias = Callable[[CoreServices, InputRequest, InputSpec], ModelInput | NoInput]
PartReader: TypeAlias = Callable[[CoreServices, InputRequest, InputSpec], PartInput | NoInput]


def declined(request: InputRequest, found: NoInput) -> NotAvailable:
    """Return the outcome of a model whose input cannot be given.

    Parameters
    ----------
    request
        For which model, patient and time the input was wanted.
    found
        Why it cannot be given.
    """
    return NotAvailable(
        model=request.model.row.identity(),
        subject=request.subject,
        kind="declined",
        reason=found.reason,
        missing=found.missing,
        inputs=(),
        input_versions=tuple(sorted(set(found.sources))),
        at=request.at,
        features=found.features,
        out_of_scope=found.out_of_scope,
    )


def no_study(spec: InputSpec) -> NoInput:
    """Return why an input that is selected from an imaging study cannot be given without one."""
    return NoInput(reason=f"the model reads an input of kind {spec.kind}, and no imaging study was given")
