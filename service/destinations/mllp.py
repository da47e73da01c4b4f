"""The interface engine: ORU^R01 over MLLP. MSH-10 is the same at every try, so that a repetition is recognised."""

import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.hl7v2.outgoing import oru_r01
from fhir_adapter.hl7v2.outgoing.authority import Authority, authority_of
from fhir_adapter.hl7v2.outgoing.oru_r01 import Endpoint, FiledUnder, Number, OruResult, Recipient
from fhir_adapter.hl7v2.tables import ENCOUNTER_CLASS
from fhir_adapter.hl7v2.writer import segment
from fhir_adapter.results import NO_IDENTIFIER, expected_of
from inference.contract import Subject
from kernel.errors import Category, Problem
from service.destinations.contract import Destination, Filing, Identifier, ModelResult, Rendered, SiteContext
from service.destinations.table import DestinationTable

_SENDER: Final = Endpoint(application="AUSCULTA", facility="AUSCULTA")
_RECEIVER: Final = Endpoint(application="ENGINE", facility="HOSPITAL")
MESSAGE_CONTROL_ID: Final = 20
"""Longest MSH-10 of HL7 v2.5.1 (section 2.14.9.10)."""
_SEXES: Final = {"male": "M", "female": "F", "other": "O"}
"""FHIR administrative-gender to HL7 table 0001."""

_CLASSES: Final = {code: v2 for v2, (code, _) in ENCOUNTER_CLASS.items()} | {
    "ACUTE": "I",
    "NONAC": "I",
    "OBSENC": "I",
    "UNK": "U",
}
"""v3-ActCode to HL7 table 0004; a code of that table itself is kept."""

_MEDICAL_RECORD: Final = "MR"
"""Type of a patient's number that states none (table 0203)."""
_UNIDENTIFIED: Final = b"\rPID|1||^^^^MR"
"""The beginning of the PID of a patient who has no identifier."""


@dataclass(frozen=True, kw_only=True)
class MllpSettings:
    """Address of an interface engine."""

    host: str
    port: int
    sender: Endpoint = _SENDER
    receiver: Endpoint = _RECEIVER
    parallel: int = 1
    """Connections; each has one message outstanding."""


def read(table: DestinationTable) -> MllpSettings:
    """Read the keys of kind ``mllp``: ``host`` and ``port``, what MSH-3 to MSH-6 say, and the number of connections."""
    return MllpSettings(
        host=table.text("host"),
        port=table.port("port"),
        sender=_endpoint(table, "sending", _SENDER),
        receiver=_endpoint(table, "receiving", _RECEIVER),
        parallel=table.parallel(1),
    )


def _endpoint(table: DestinationTable, side: str, default: Endpoint) -> Endpoint:
    return Endpoint(
        application=table.optional_text(f"{side}_application", default.application),
        facility=table.optional_text(f"{side}_facility", default.facility),
    )


def build(name: str, settings: MllpSettings, site: SiteContext) -> "MllpDestination":
    """Build a destination of kind ``mllp``.

    Parameters
    ----------
    name
        Name of the instance, unique among the destinations.
    settings
        Its checked settings.
    site
        Gives the names of each assigning authority.
    """
    clients = [MllpClient(settings.host, settings.port) for _ in range(settings.parallel)]
    return MllpDestination(name, clients, settings, authorities=site.authorities)


class MllpDestination(Destination):
    """Sends results to the interface engine.

    Parameters
    ----------
    name
        Of this instance.
    clients
        Each sends one message at a time over a connection of its own.
    settings
        Where it is, and what MSH says of sender and receiver.
    authorities
        Identifier system to the namespaces and universal ids that the settings give for its assigning authority.
    """

    def __init__(
        self,
        name: str,
        clients: Sequence[MllpClient],
        settings: MllpSettings,
        *,
        authorities: Mapping[str, Sequence[str]],
    ) -> None:
        self.name = name
        self.address = f"{settings.host}:{settings.port}"
        self.parallel = len(clients)
        self._clients = tuple(clients)
        self._idle: queue.SimpleQueue[MllpClient] = queue.SimpleQueue()
        for client in clients:
            self._idle.put(client)
        self._settings = settings
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
            patient=self._recipient(outcome.subject, model_result.filing),
            sender=self._settings.sender,
            receiver=self._settings.receiver,
            filed_under=self._filed_under(model_result),
            expected=expected_of(model_result.manifest),
            sent_before=model_result.sent_before,
        )
        return [Rendered(idempotency_key=f"{result}:oru", payload=oru_r01.build(message))]

    def completed(self, payload: bytes, subject: Callable[[], Subject | None]) -> bytes:
        """Fill in PID-3; parameters as for :meth:`service.destinations.contract.Destination.completed`.

        Raises
        ------
        Problem
            ``incorrect`` when the patient still has no identifier.
        """
        if _UNIDENTIFIED not in payload:
            return payload
        patient = subject()
        if patient is None or patient.identifier is None:
            raise Problem(Category.INCORRECT, NO_IDENTIFIER)
        system, value = patient.identifier
        number = oru_r01.cx(value, self._authority(system), patient.identifier_type or _MEDICAL_RECORD)
        pid = segment("PID", {1: "1", 3: number})
        return payload.replace(_UNIDENTIFIED, f"\r{pid}".encode(), 1)

    def send(self, payload: bytes, idempotency_key: str) -> str:  # noqa: ARG002 - MSH-10 carries it
        """Send the message and wait for its acknowledgement.

        Parameters as for :meth:`service.destinations.contract.Destination.send`.
        """
        client = self._idle.get()
        try:
            receipt = client.send(payload)
        finally:
            self._idle.put(client)
        return f"{receipt.code} {receipt.control_id}"

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    def _recipient(self, subject: Subject, filing: Filing) -> Recipient:
        system, value = subject.identifier or ("", "")
        return Recipient(
            identifier=value,
            authority=self._authority(system),
            type=subject.identifier_type or _MEDICAL_RECORD,
            family=filing.name.family,
            given=filing.name.given,
            prefix=filing.name.prefix,
            suffix=filing.name.suffix,
            birth_date=subject.birth_date,
            sex=_SEXES.get(subject.sex or "", ""),
        )

    def _filed_under(self, model_result: ModelResult) -> FiledUnder:
        filing, imaging = model_result.filing, model_result.imaging
        visit = filing.visit
        return FiledUnder(
            visit=None if visit is None else self._number(visit.number),
            patient_class="" if visit is None else _CLASSES.get(visit.patient_class, visit.patient_class),
            location="" if visit is None else visit.location,
            placer=self._number(filing.placer),
            filler=self._number(filing.filler),
            accession="" if imaging is None else imaging.study.AccessionNumber,
            StudyInstanceUID="" if imaging is None else imaging.study.StudyInstanceUID,
            observed=filing.observed,
        )

    def _number(self, identifier: Identifier | None) -> Number | None:
        if identifier is None:
            return None
        return Number(value=identifier.value, authority=self._authority(identifier.system), type=identifier.type)

    def _authority(self, system: str) -> Authority:
        return authority_of(system, self._authorities.get(system, ()))
