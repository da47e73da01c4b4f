"""The interface engine: ORU^R01 over MLLP. Its MSH-10 is the same at every try, so the engine can tell a repetition."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.hl7v2.outgoing.oru_r01 import Endpoint, OruResult, Recipient, build
from inference.contract import Subject
from service.destinations.contract import Destination, ModelResult, Rendered

_SENDER: Final = Endpoint(application="AUSCULTA", facility="AUSCULTA")
_RECEIVER: Final = Endpoint(application="ENGINE", facility="HOSPITAL")
_SEXES: Final = {"male": "M", "female": "F", "other": "O"}
"""FHIR administrative-gender to HL7 table 0001."""

_AUTHORITY: Final = "urn:ausculta:authority:"


class EngineDestination(Destination):
    """Sends results to the interface engine.

    Parameters
    ----------
    client
        Speaks MLLP to it.
    address
        ``host:port``.
    authorities
        Identifier system to the namespace of its assigning authority; a system of our own making names its namespace.
    """

    name: ClassVar[str] = "engine"

    def __init__(self, client: MllpClient, *, address: str, authorities: dict[str, str]) -> None:
        self.address = address
        self._client = client
        self._authorities = authorities

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:  # noqa: ARG002 - the contract's signature
        """Say the result as one message."""
        outcome = model_result.outcome
        message = OruResult(
            outcome=outcome,
            idempotency_key=result[:40],
            at=outcome.at,
            patient=self._recipient(outcome.subject),
            sender=_SENDER,
            receiver=_RECEIVER,
        )
        return [Rendered(idempotency_key=f"{result}:oru", payload=build(message))]

    def send(self, payload: bytes) -> str:
        """Send the message and wait for its acknowledgement."""
        receipt = self._client.send(payload)
        return f"{receipt.code} {receipt.control_id}"

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _recipient(self, subject: Subject) -> Recipient:
        # A patient whom the EHR knows by its own id alone is told by that id.
        system, value = subject.identifier or ("", subject.reference.removeprefix("Patient/"))
        authority = self._authorities.get(system) or system.removeprefix(_AUTHORITY)
        return Recipient(
            identifier=value,
            authority=authority,
            birth_date=subject.birth_date,
            sex=_SEXES.get(subject.sex or "", ""),
        )
