"""What a destination is, and what it is given to render."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dicom_node.study import Study
from inference.contract import ImageInput, Outcome
from inference.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class ImagingContext:
    """What an imaging result has besides the model's outcome."""

    study: Study
    source: bytes
    """The DICOM file that the model read, or that stands for the study when there was none to read."""
    chosen: str
    """Its SOPInstanceUID."""
    image: ImageInput | None
    """As the model saw it; none when nothing could be read."""


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """A model's outcome and what it is about."""

    outcome: Outcome
    manifest: Manifest
    """What the model was to say."""
    imaging: ImagingContext | None = None
    supersedes: tuple[str, ...] = ()
    """Ids of earlier results that this one replaces."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One thing to send."""

    idempotency_key: str
    payload: bytes


class Destination(ABC):
    """Somewhere that results go."""

    name: ClassVar[str]
    """Names it in the outbox, the console and the audit."""

    address: str
    """Where it is, for the audit of disclosures."""

    @abstractmethod
    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:
        """Say a result in the destination's words; nothing when it does not concern the destination.

        Parameters
        ----------
        result
            The result's id.
        model_result
            What was found.
        resources
            The FHIR resources that this server keeps of it.
        """

    @abstractmethod
    def send(self, payload: bytes) -> str:
        """Send what :meth:`render` gave and return the receipt.

        Raises
        ------
        Problem
            ``unavailable`` or ``busy`` when it is worth trying again; anything else when it is not.
        """

    @abstractmethod
    def close(self) -> None:
        """Hang up; the server stops."""
