"""The interface of a destination, and the record of a result that it renders."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from dicom_node.study import Study
from inference.contract import ImageInput, Outcome, Output, Subject
from inference.manifest import Manifest
from kernel.errors import Category, Problem, as_problem
from service.destinations.leave_out import EVERYTHING_LEAVES, LeaveOut


@dataclass(frozen=True, kw_only=True)
class ImagingContext:
    """The image of an imaging result."""

    study: Study
    source: bytes
    """The DICOM file that the model read; any file of the study when the model read none."""
    chosen: str
    """Its SOPInstanceUID."""
    image: ImageInput | None
    """The model's input; none when nothing could be read."""
    acquired_at: datetime | None = None
    """When the image or the volume that the model was given was taken; aware."""
    sources: Sequence[bytes] = ()
    """The DICOM files that the model read, in the order of a volume's slices; the publisher fills it in."""


@dataclass(frozen=True, kw_only=True)
class Identifier:
    """A number, and the system of whoever assigned it."""

    value: str
    system: str = ""
    type: str = ""
    """Code of table 0203; empty when not stated."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The encounter that a result concerns."""

    number: Identifier | None
    patient_class: str = ""
    """Code of v3-ActCode or of HL7 table 0004; empty when not known."""
    location: str = ""
    """In words."""


@dataclass(frozen=True, kw_only=True)
class PersonName:
    """The name of a patient; the family name is the whole name where only that is known."""

    family: str = ""
    given: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Filing:
    """What a receiver needs to file a result."""

    name: PersonName = PersonName()
    encounter: str | None = None
    """Reference of the Encounter."""
    visit: Visit | None = None
    placer: Identifier | None = None
    """Number of the order that the result rests on, as its placer counts."""
    filler: Identifier | None = None
    """Number of that order as its filler counts."""
    observed: datetime | None = None
    """When the newest of what the result rests on was true, never after the computing; aware."""


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """A model's outcome and its subject."""

    outcome: Outcome
    manifest: Manifest
    """The manifest of the model: its declared inputs and outputs."""
    imaging: ImagingContext | None = None
    supersedes: tuple[str, ...] = ()
    """Ids of earlier results that this one replaces."""
    document: str | None = None
    """Reference of the document that made the model run."""
    filing: Filing = Filing()
    """Where it is to be filed; the publisher fills it in."""
    sent_before: tuple[Output, ...] = ()
    """The outputs of the result before it, without their texts; the publisher fills them in."""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One payload to send, with its idempotency key."""

    idempotency_key: str
    payload: bytes
    failure: Problem | None = None
    """Why there is nothing to send in this form; a person is shown it."""


def unwritten(what: str, failure: Exception) -> Problem:
    """Return the problem of a form that cannot be written; its detail reveals nothing of the result.

    Parameters
    ----------
    what
        What is not written, in words.
    failure
        What was raised.
    """
    problem = as_problem(failure)
    return Problem(Category.FAULT, what, diagnostics=problem.diagnostics or problem.detail)


@dataclass(frozen=True, kw_only=True)
class SiteContext:
    """The addresses and names of this server that destinations use."""

    public_url: str
    """Our FHIR base URL, under which a destination finds the inputs of a result."""
    ae_title: str
    """Our application entity title."""
    authorities: Mapping[str, Sequence[str]]
    """Identifier system -> namespaces and universal ids of its assigning authority."""
    zone: tzinfo = UTC
    """Time zone of the site: of DICOM times that state no offset."""


class Destination(ABC):
    """A configured receiver of results."""

    name: str
    """Its name in the outbox, the console and the audit log; unique in the settings."""

    address: str
    """Where it is, for the audit of disclosures."""

    leave_out: LeaveOut = EVERYTHING_LEAVES
    """What the site keeps from it."""

    parallel: int = 1
    """How many deliveries, each of another patient, are sent to it at the same time."""

    @abstractmethod
    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:
        """Render a result in the destination's format; nothing when it does not concern the destination.

        Parameters
        ----------
        result
            The result's id.
        model_result
            The model's outcome and its subject.
        resources
            The FHIR resources that this server stores for it.
        """

    def completed(self, payload: bytes, subject: Callable[[], Subject | None]) -> bytes:  # noqa: ARG002 - for those that need it
        """Return the payload to send: with the patient's identifier, if there was none when it was rendered.

        Parameters
        ----------
        payload
            A payload that :meth:`render` returned.
        subject
            Returns the patient as stored now; None when it is not known whom the payload is about.

        Raises
        ------
        Problem
            ``incorrect`` when the destination cannot know the patient: the delivery is parked.
        """
        return payload

    @abstractmethod
    def send(self, payload: bytes, idempotency_key: str) -> str:
        """Send what :meth:`render` returned, and return the receipt.

        Parameters
        ----------
        payload
            A payload that :meth:`render` returned.
        idempotency_key
            The key that was rendered with it; the same at every attempt.

        Raises
        ------
        Problem
            what went wrong; its category decides how often it is tried (``service.delivery_rules.SCHEDULES``).
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connections; the server stops."""
