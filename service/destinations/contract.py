"""What a destination is, and what it is given to render."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """The model's input; none when nothing could be read."""
    sources: Sequence[bytes] = ()
    """The DICOM files that the model read, in the order of a volume's slices; the publisher fills it in."""


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """A model's outcome and what it is about."""

    outcome: Outcome
    manifest: Manifest
    """The manifest of the model: its declared inputs and outputs."""
    imaging: ImagingContext | None = None
    supersedes: tuple[str, ...] = ()
    """Ids of earlier results that this one replaces."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One thing to send."""

    idempotency_key: str
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class SiteContext:
    """What every destination may need to know of this server."""

    public_url: str
    """Our FHIR base URL, by which a destination can reach what a result rests on."""
    ae_title: str
    """Our application entity title."""
    authorities: Mapping[str, str]
    """Identifier system -> namespace of its assigning authority."""


class Destination(ABC):
    """Somewhere that results go."""

    name: str
    """Names it in the outbox, the console and the audit; unique in the settings."""

    address: str
    """Where it is, for the audit of disclosures."""

    @abstractmethod
    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:
        """Render a result in the destination's format; nothing when it does not concern the destination.

        Parameters
        ----------
        result
            The result's id.
        model_result
            The model's outcome, and what it is about.
        resources
            The FHIR resources that this server keeps of it.
        """

    @abstractmethod
    def send(self, payload: bytes, idempotency_key: str) -> str:
        """Send what :meth:`render` gave and return the receipt.

        Parameters
        ----------
        payload
            What was rendered.
        idempotency_key
            As it was rendered; the same at every repetition.

        Raises
        ------
        Problem
            ``unavailable`` or ``busy`` when it is worth trying again; anything else when it is not.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections; the server stops."""
