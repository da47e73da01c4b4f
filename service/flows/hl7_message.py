"""HL7 v2 in: a message is kept and acknowledged; a job turns it into resources.

accept   raw -> message, ACK => inbox row, job
convert  job -> message -> resources => versions, assess jobs
"""

from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

from fhir_adapter.hl7v2.ack import acknowledge
from fhir_adapter.hl7v2.conversion import Context, Conversion
from fhir_adapter.hl7v2.events import read_events
from fhir_adapter.hl7v2.header import Header
from fhir_adapter.hl7v2.header import header as read_header
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import check, convert, is_stat
from fhir_adapter.hl7v2.order import in_order
from fhir_adapter.patient_identity import PatientIdentities
from kernel.db import Transaction
from kernel.errors import Problem
from kernel.inbox import InboundMessage
from kernel.job_runs import finish_following, following
from kernel.jobs import Job, Priority
from kernel.log import get_logger
from kernel.worker import Commit
from privacy import balp
from privacy.principal import Principal
from privacy.pseudonyms import Pseudonyms
from service.core import CoreServices
from service.flows.hl7_converted import Converted, report, save
from service.flows.identity_doubt import hold_message
from service.flows.read_set import ReadSet
from service.identity_holds import Contradiction
from service.triggers.contract import Change

CONVERT: Final = "convert"
"""The job step that turns a kept message into resources."""

MOST_TOGETHER: Final = 8
"""Messages of one sender that are stored in one commit; more would keep those who wait for the writer waiting."""

_NOT_PRODUCTION: Final = "not-production"
"""State of a message that was kept and nothing else."""

_log = get_logger(__name__)


def source_of(header: Header) -> str:
    """Return how the inbox names the sender of a message."""
    return f"hl7v2:{header.sender}"


class Hl7MessageFlow:
    """The path of an HL7 v2 message.

    Parameters
    ----------
    core
        What every flow stands on.
    pseudonyms
        Name the resources.
    identities
        Decide which patient a message concerns.
    time_zone
        Zone of times without an offset; without it they keep their date only.
    """

    def __init__(
        self, core: CoreServices, pseudonyms: Pseudonyms, identities: PatientIdentities, time_zone: ZoneInfo | None
    ) -> None:
        self._core = core
        self._pseudonyms = pseudonyms
        self._identities = identities
        self._time_zone = time_zone

    def accept(self, raw: bytes, header: Header, principal: Principal) -> Callable[[Transaction], bytes]:
        """Check a message and return the commit that keeps it; one that is not of production is only kept.

        Parameters
        ----------
        raw
            The message without its MLLP frame.
        header
            Its MSH segment, as the listener read it.
        principal
            Who sent it.

        Returns
        -------
        callable
            What is to be committed; it returns the acknowledgement, ``MSA|AA``, and for a message that was accepted
            before the acknowledgement of that time. It may be sent when the transaction is durable.

        Raises
        ------
        Problem
            ``unsupported`` for a message type without a conversion, ``incorrect`` for a message that can never be
            converted; the MLLP server answers AR or AE.
        """
        parsed = Message.parse(raw)
        check(parsed)
        priority = Priority.STAT if is_stat(parsed) else Priority.ROUTINE
        source = source_of(header)
        reply = acknowledge(raw, "AA", control_id=self._core.ids.new(), at=self._core.clock.now())
        message = self._core.inbox.seal(InboundMessage(source=source, key=header.control_id, raw=raw, reply=reply))

        def keep(tx: Transaction) -> bytes:
            identifier, receipt = self._core.inbox.add(tx, message)
            if identifier and not header.is_production:
                self._core.inbox.mark(tx, identifier, _NOT_PRODUCTION)
                _log.info("hl7_message_not_production", message=identifier)
            elif identifier:
                self._core.jobs.enqueue(tx, CONVERT, {"message": identifier}, lock=source, priority=priority)
            self._core.audit.record(tx, self._received(header, principal, identifier))
            return receipt

        return keep

    def convert(self, job: Job) -> Commit:
        """Turn a kept message into resources; the commit also asks the models that they concern.

        Of the messages that wait behind it those are done in the same commit that have nothing in common with each
        other: so the messages of a patient keep their order, and a backlog costs less.
        """
        first = self._converted(job)
        if not isinstance(first, Converted):
            return first
        others, messages = self._independent(job, first)
        for message in messages:
            report(message)

        def commit(tx: Transaction) -> None:
            if others:
                try:
                    with tx.savepoint():
                        finish_following(tx, job, others, self._core.clock.now())
                        save(self._core, tx, messages)
                except Problem as problem:
                    _log.info("hl7_messages_one_by_one", category=str(problem.category), failure=problem)
                else:
                    return
            save(self._core, tx, [first])

        return commit

    def _independent(self, job: Job, first: Converted) -> tuple[list[Job], list[Converted]]:
        """Return the jobs after one that can be done with it, and the messages of all of them."""
        others: list[Job] = []
        messages, names = [first], set(first.names)
        if first.accepted:
            return others, messages
        with self._core.database.read() as connection:
            waiting = following(connection, job, MOST_TOGETHER - 1, self._core.clock.now())
        for other in waiting:
            try:
                message = self._converted(other)
            except Exception:  # noqa: BLE001 - its own attempt shows why
                break
            if not isinstance(message, Converted) or message.accepted or not names.isdisjoint(message.names):
                break
            others.append(other)
            messages.append(message)
            names |= message.names
        return others, messages

    def _converted(self, job: Job) -> Converted | Commit:
        """Return the conversion of a message, or the commit of one of which nothing is stored."""
        identifier = str(job.payload["message"])
        with self._core.database.read() as connection:
            raw = self._core.inbox.raw(connection, identifier)
        header = read_header(raw)
        if not header.is_production:  # accepted by an earlier release
            return lambda tx: self._core.inbox.mark(tx, identifier, _NOT_PRODUCTION)
        message = Message.parse(raw)
        read_set = ReadSet(self._core.database, self._core.store)
        accepted = "accepted" in job.payload
        conversion = convert(message, self._context(read_set, accepted=accepted))
        if conversion.unmapped:
            _log.info("hl7_fields_unmapped", message=identifier, count=len(conversion.unmapped))
        if conversion.contradicts and not accepted:
            return self._held(identifier, header, conversion, read_set)
        with self._core.database.read() as connection:
            stored = read_events(connection, conversion.events)
        found = in_order(conversion.resources, conversion.events, stored, read_set.current)
        return Converted(
            identifier=identifier,
            conversion=conversion,
            stored=stored,
            found=found,
            prepared=self._core.writer.prepare(found.resources),
            read_set=read_set,
            principal=Principal(client=header.sender, client_address="", request_id=identifier),
            accepted=accepted,
        )

    def _held(self, identifier: str, header: Header, conversion: Conversion, read_set: ReadSet) -> Commit:
        """Return the commit that stores nothing of a message and has a person decide whose it is."""
        patient, now = f"Patient/{conversion.patient}", self._core.clock.now()
        found = Contradiction(
            kind="message",
            subject=source_of(header),
            patient=patient,
            reasons=conversion.contradicts,
            stated=(conversion.stated,),
        )
        kept = {"Patient", "Encounter"}  # an Observation is new to the models, whatever is stored of it
        changes = [
            Change(
                type=it["resourceType"],
                id=it["id"],
                version=1,
                patient=patient,
                before=read_set.current(it["resourceType"], it["id"]) if it["resourceType"] in kept else None,
                after=it,
                at=now,
            )
            for it in conversion.resources
        ]

        def commit(tx: Transaction) -> None:
            read_set.still_holds(tx)
            hold_message(self._core, tx, found, identifier, changes)

        return commit

    def _context(self, read_set: ReadSet, *, accepted: bool) -> Context:
        return Context(
            pseudonyms=self._pseudonyms,
            identities=self._identities,
            zone=self._time_zone,
            current=read_set.current,
            holders=read_set.holders,
            origins=read_set.origins,
            now=self._core.clock.now(),
            clock_tolerance=self._core.clock_tolerance,
            accepted=accepted,
        )

    def _received(self, header: Header, principal: Principal, identifier: str) -> balp.Event:
        entity = f"urn:uuid:{identifier}" if identifier else None
        what = f"HL7 v2 {header.event}"
        return balp.received(principal, entity=entity, patient=None, at=self._core.clock.now(), what=what)
