"""The interface engine: ORU^R01 over MLLP. MSH-10 is the same at every try, so that a repetition is recognised."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.hl7v2.outgoing import oru_r01
from fhir_adapter.hl7v2.outgoing.oru_r01 import Endpoint, OruResult, Recipient
from fhir_adapter.hl7v2.writer import segment
from fhir_adapter.results import NO_IDENTIFIER
from inference.contract import Subject
from kernel.errors import Category, Problem
from service.destinations.contract import Destination, ModelResult, Rendered, SiteContext
from service.destinations.table import DestinationTable

_SENDER: Final = Endpoint(application="AUSCULTA", facility="AUSCULTA")
_RECEIVER: Final = Endpoint(application="ENGINE", facility="HOSPITAL")
MESSAGE_CONTROL_ID: Final = 20
"""Longest MSH-10 of HL7 v2.5.1 (section 2.14.9.10)."""
_SEXES: Final = {"male": "M", "female": "F", "other": "O"}
"""FHIR administrative-gender to HL7 table 0001."""

_AUTHORITY: Final = "urn:ausculta:authority:"
_UNIDENTIFIED: Final = b"\rPID|1||^^^^MR"
"""The beginning of the PID of a patient who has no identifier."""


@dataclass(frozen=True, kw_only=True)
class MllpSettings:
    """Address of an interface engine."""

    host: str
    port: int


def read(table: DestinationTable) -> MllpSettings:
    """Read the keys of kind ``mllp``: ``host`` and ``port``."""
    return MllpSettings(host=table.text("host"), port=table.port("port"))


def build(name: str, settings: MllpSettings, site: SiteContext) -> "MllpDestination":
    """Build a destination of kind ``mllp``.

    Parameters
    ----------
    name
        Name of the instance, unique among the destinations.
    settings
        Its checked settings.
    site
        Gives the namespace of each assigning authority.
    """
    client = MllpClient(settings.host, settings.port)
    return MllpDestination(name, client, address=f"{settings.host}:{settings.port}", authorities=site.authorities)


class MllpDestination(Destination):
    """Sends results to the interface engine.

    Parameters
    ----------
    name
        Of this instance.
    client
        Sends the messages over MLLP.
    address
        ``host:port``.
    authorities
        Identifier system to the namespace of its assigning authority; a system made by this server contains it.
    """

    def __init__(self, name: str, client: MllpClient, *, address: str, authorities: Mapping[str, str]) -> None:
        self.name = name
        self.address = address
        self._client = client
        self._authorities = authorities

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:  # noqa: ARG002 - the contract's signature
        """Render the result as one message.

        Parameters as for :meth:`service.destinations.contract.Destination.render`.
        """
        outcome = model_result.outcome
        message = OruResult(
            outcome=outcome,
            idempotency_key=result[:MESSAGE_CONTROL_ID],
            at=outcome.at,
            patient=self._recipient(outcome.subject),
            sender=_SENDER,
            receiver=_RECEIVER,
        )
        return [Rendered(idempotency_key=f"{result}:oru", payload=oru_r01.build(message))]

    def completed(self, payload: bytes, identifier: Callable[[], tuple[str, str] | None]) -> bytes:
        """Fill in PID-3; parameters as for :meth:`service.destinations.contract.Destination.completed`.

        Raises
        ------
        Problem
            ``incorrect`` when the patient still has no identifier.
        """
        if _UNIDENTIFIED not in payload:
            return payload
        found = identifier()
        if found is None:
            raise Problem(Category.INCORRECT, NO_IDENTIFIER)
        pid = segment("PID", {1: "1", 3: (found[1], "", "", self._authority(found[0]), "MR")})
        return payload.replace(_UNIDENTIFIED, f"\r{pid}".encode(), 1)

    def send(self, payload: bytes, idempotency_key: str) -> str:  # noqa: ARG002 - MSH-10 carries it
        """Send the message and wait for its acknowledgement.

        Parameters as for :meth:`service.destinations.contract.Destination.send`.
        """
        receipt = self._client.send(payload)
        return f"{receipt.code} {receipt.control_id}"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _recipient(self, subject: Subject) -> Recipient:
        system, value = subject.identifier or ("", "")
        return Recipient(
            identifier=value,
            authority=self._authority(system),
            birth_date=subject.birth_date,
            sex=_SEXES.get(subject.sex or "", ""),
        )

    def _authority(self, system: str) -> str:
        return self._authorities.get(system) or system.removeprefix(_AUTHORITY)
