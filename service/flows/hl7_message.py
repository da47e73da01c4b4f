"""HL7 v2 in: a message is kept and acknowledged; a job turns it into resources.

accept   raw => inbox row, job; ACK
convert  job -> message -> transaction Bundle => resources, assess jobs
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_adapter.hl7v2.ack import acknowledge
from fhir_adapter.hl7v2.context import Context
from fhir_adapter.hl7v2.header import Header
from fhir_adapter.hl7v2.header import header as read_header
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import check, convert
from fhir_adapter.hl7v2.mllp import Peer
from fhir_adapter.resources.store import Store
from fhir_adapter.rest.interactions import Interactions
from kernel.clock import Clock, Ids
from kernel.db import Database, Transaction
from kernel.inbox import InboundMessage, Inbox
from kernel.jobs import Job, Jobs
from kernel.log import get_logger
from kernel.worker import Commit
from privacy import balp
from privacy.audit import AuditLog
from privacy.balp import Access
from privacy.pseudonyms import Pseudonyms
from service.flows.known import known

CONVERT: Final = "convert"
"""The job step that turns a kept message into resources."""

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class SiteConventions:
    """How this hospital writes what HL7 v2 leaves open."""

    authority: str
    systems: Mapping[str, str]
    time_zone: ZoneInfo | None


class Hl7MessageFlow:
    """The path of an HL7 v2 message.

    Parameters
    ----------
    database, inbox, jobs, audit, clock, ids
        The house's.
    store, interactions
        Where resources are, and how they are written.
    pseudonyms
        Name the resources.
    conventions
        The site's.
    """

    def __init__(  # noqa: PLR0913 - wiring hands each component what it needs
        self,
        database: Database,
        inbox: Inbox,
        jobs: Jobs,
        audit: AuditLog,
        clock: Clock,
        ids: Ids,
        *,
        store: Store,
        interactions: Interactions,
        pseudonyms: Pseudonyms,
        conventions: SiteConventions,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._jobs = jobs
        self._audit = audit
        self._clock = clock
        self._ids = ids
        self._store = store
        self._interactions = interactions
        self._pseudonyms = pseudonyms
        self._conventions = conventions

    def accept(self, raw: bytes, peer: Peer) -> bytes:
        """Keep a message durably and return its acknowledgement.

        Parameters
        ----------
        raw
            The message without its MLLP frame.
        peer
            Who is connected.

        Returns
        -------
        bytes
            ``MSA|AA``; for a message that was accepted before, the acknowledgement of that time.

        Raises
        ------
        Problem
            ``unsupported`` for a message type without a conversion, ``incorrect`` for a message that can never be
            converted, ``unavailable`` when it cannot be saved; the MLLP server answers AR or AE.
        """
        header = read_header(raw)
        check(Message.parse(raw))
        source = f"hl7v2:{header.sender}"
        reply = acknowledge(raw, "AA", control_id=self._ids.new(), at=self._clock.now())
        message = InboundMessage(source=source, key=header.control_id, raw=raw, reply=reply)

        def keep(tx: Transaction) -> bytes:
            identifier, receipt = self._inbox.add(tx, message)
            if identifier:
                self._jobs.enqueue(tx, CONVERT, {"message": identifier}, lock=source)
            self._audit.record(tx, self._received(header, peer, identifier))
            return receipt

        return self._database.write(keep)

    def convert(self, job: Job) -> Commit:
        """Turn a kept message into resources; the commit also asks the models that they concern."""
        identifier = str(job.payload["message"])
        with self._database.read() as connection:
            raw = self._inbox.raw(connection, identifier)
        message = Message.parse(raw)
        conversion = convert(message, self._context())
        if conversion.unmapped:
            _log.info("hl7_fields_unmapped", message=identifier, count=len(conversion.unmapped))
        prepared = self._interactions.prepare(conversion.bundle)
        access = Access(client=read_header(raw).sender, client_address="", request_id=identifier)

        def commit(tx: Transaction) -> None:
            self._interactions.apply(tx, prepared, access)
            self._inbox.mark(tx, identifier, "done")

        return commit

    def _context(self) -> Context:
        return Context(
            pseudonyms=self._pseudonyms,
            default_authority=self._conventions.authority,
            zone=self._conventions.time_zone,
            systems=self._conventions.systems,
            current=self._current,
        )

    def _current(self, kind: str, name: str) -> Mapping[str, Any] | None:
        with self._database.read() as connection:
            return known(connection, self._store, kind, name)

    def _received(self, header: Header, peer: Peer, identifier: str) -> balp.Event:
        access = Access(client=header.sender, client_address=peer.address, request_id=header.control_id)
        entity = f"urn:uuid:{identifier}" if identifier else None
        what = f"HL7 v2 {header.event}"
        return balp.received(access, entity=entity, patient=None, at=self._clock.now(), what=what)
