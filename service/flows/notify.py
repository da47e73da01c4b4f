"""Sends the events of a subscription, one after the other, until its endpoint has accepted them.

notify   a subscription's row -> requests => for each what became of it, AuditEvents; then the next job, if one is due
"""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import orjson

from fhir_adapter.store.document import encode, exact_values
from fhir_adapter.store.problems import Gone, PreconditionFailed
from fhir_adapter.store.write import Target
from fhir_adapter.subscriptions import notifications, rows
from fhir_adapter.subscriptions.definition import Definition
from fhir_adapter.subscriptions.notifications import Kind, Occurred, Outgoing
from fhir_adapter.subscriptions.observer import SUBSCRIPTION
from fhir_adapter.subscriptions.rows import Event, SubscriptionRow
from fhir_adapter.subscriptions.secrets import opened
from kernel.blobs import Cipher
from kernel.db import Transaction
from kernel.errors import Problem
from kernel.jobs import Job
from kernel.log import get_logger
from kernel.retry_after import retry_after
from kernel.worker import Commit
from privacy import balp
from privacy.principal import SERVER, Principal
from service.core import CoreServices
from service.notifying import Answer, send

AT_A_TIME: Final = 4
"""Subscribers that a process talks to at a time: as many threads may wait for one that does not answer."""
REQUESTS: Final = 16
"""Requests of one job: then the other subscriptions have their turn."""
LONGEST_TURN: Final = timedelta(seconds=30)
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(hours=1)
_NO_PLACE: Final = timedelta(seconds=1)

Send = Callable[[Outgoing, Sequence[tuple[str, str]], float], Answer]

_log = get_logger(__name__)


class NotifyFlow:
    """Sends what subscriptions have not got yet.

    Parameters
    ----------
    core
        The components that every flow uses.
    cipher
        Opens the headers of a Subscription.
    base
        URL of our FHIR API.
    retry_days
        For so long an endpoint may fail before its subscription is in error.
    """

    def __init__(self, core: CoreServices, cipher: Cipher, *, base: str, retry_days: float) -> None:
        self._core = core
        self._subscriptions = core.subscriptions
        self._cipher = cipher
        self._base = base
        self._retry_for = timedelta(days=retry_days)
        self._places = threading.Semaphore(AT_A_TIME)
        self._send: Send = send

    def notify(self, job: Job) -> Commit:
        """Send the events of one subscription that are due; the commit enqueues the job for what is due later."""
        name = str(job.payload["subscription"])
        if not self._places.acquire(blocking=False):
            later = self._core.clock.now() + _NO_PLACE
            return lambda tx: self._subscriptions.enqueue(tx, name, later)
        try:
            self._take_turn(name)
        finally:
            self._places.release()

        def enqueue_next(tx: Transaction) -> None:
            row = rows.one(tx.connection, name)
            due = None if row is None else self._due(row)
            if due is not None:
                self._subscriptions.enqueue(tx, name, due)

        return enqueue_next

    def start(self, tx: Transaction) -> None:
        """Enqueue the job of every subscription that has one due; at the start of a worker, in case one was lost."""
        for row in rows.watching(tx.connection):
            due = self._due(row)
            if due is not None:
                self._subscriptions.enqueue(tx, row.id, due)

    def _take_turn(self, name: str) -> None:
        ends = self._core.clock.now() + LONGEST_TURN
        for _ in range(REQUESTS):
            row = self._row(name)
            now = self._core.clock.now()
            if row is None or now >= ends or not self._step(row, now):
                return

    def _step(self, row: SubscriptionRow, now: datetime) -> bool:
        """Send what a subscription is owed now; return whether there may be more."""
        if orjson.loads(row.definition)["status"] != row.state:  # by the commit of a change, or by a person
            return self._set_status(row, row.state, row.problem)
        if row.state not in {rows.REQUESTED, rows.ACTIVE}:
            return False
        try:
            definition = self._subscriptions.read(row)
            headers = opened(self._cipher, orjson.loads(row.definition))
        except Problem as problem:
            self._set_status(row, rows.ERROR, problem.detail)
            return False
        if definition.ends_at is not None and now >= definition.ends_at:
            self._set_status(row, rows.OFF, "its end is reached")
            return False
        return self._send_due(row, definition, headers, now)

    def _send_due(
        self, row: SubscriptionRow, definition: Definition, headers: Sequence[tuple[str, str]], now: datetime
    ) -> bool:
        if row.next_at is not None and row.next_at > now:
            return False
        if row.state == rows.REQUESTED:
            return self._begin(row, definition, headers)
        batch = self._next_events(row, definition.batch)
        if batch:
            return self._send_events(row, definition, headers, batch)
        if definition.heartbeat_s and now >= self._beat(row, definition):
            return self._say(row, definition, headers, "heartbeat")
        return False

    def _begin(self, row: SubscriptionRow, definition: Definition, headers: Sequence[tuple[str, str]]) -> bool:
        """Activate a subscription; one of the backport when its endpoint has accepted the handshake."""
        if definition.topic is not None and not self._say(row, definition, headers, "handshake"):
            return False
        return self._set_status(row, rows.ACTIVE)

    def _say(
        self, row: SubscriptionRow, definition: Definition, headers: Sequence[tuple[str, str]], kind: Kind
    ) -> bool:
        """Send a notification without events."""
        at = self._core.clock.now()
        bundle = notifications.notification(definition, row, kind, (), base=self._base, at=at)
        answer = self._send(notifications.request_of(definition, bundle), headers, definition.timeout_s)
        return self._took(row, definition, answer, ())

    def _send_events(
        self,
        row: SubscriptionRow,
        definition: Definition,
        headers: Sequence[tuple[str, str]],
        batch: Sequence[Event],
    ) -> bool:
        occurred = self._occurred(definition, batch)
        if definition.topic is None:
            outgoing = notifications.raw(definition, occurred[0])
        else:
            at = batch[-1].at  # the same request at every attempt
            bundle = notifications.notification(definition, row, "event-notification", occurred, base=self._base, at=at)
            outgoing = notifications.request_of(definition, bundle)
        return self._took(row, definition, self._send(outgoing, headers, definition.timeout_s), batch)

    def _took(self, row: SubscriptionRow, definition: Definition, answer: Answer, batch: Sequence[Event]) -> bool:
        """Record what became of a request; return whether it was accepted."""
        now = self._core.clock.now()
        if not answer.problem:
            number = batch[-1].number if batch else row.sent

            def note(tx: Transaction) -> None:
                rows.accepted(tx, row.id, number, now)
                self._core.audit.record_all(tx, [self._disclosed(definition, event, now) for event in batch])

            self._core.database.write(note)
            return True
        failing_for = now - (row.failing_since or now)
        _log.warning("notification_failed", subscription=row.id, problem=answer.problem, failures=row.failures + 1)
        if answer.is_gone:
            self._set_status(row, rows.OFF, "the endpoint answered 410: it wants nothing more")
        elif failing_for >= self._retry_for:
            days = f"{self._retry_for.total_seconds() / 86_400:g} days"
            self._set_status(row, rows.ERROR, f"the endpoint has failed for {days}: {answer.problem}")
        else:
            own = min(FIRST_PAUSE * (1 << min(row.failures, 20)), LONGEST_PAUSE)
            next_at = now + (retry_after(answer.retry_after, now) or own)
            self._core.database.write(lambda tx: rows.failed(tx, row, answer.problem, at=now, next_at=next_at))
        return False

    def _occurred(self, definition: Definition, batch: Sequence[Event]) -> list[Occurred]:
        """Return events with the versions that they are about, where the subscriber gets them."""
        if definition.content not in {"resource", "full-resource"}:
            return [Occurred(event=event) for event in batch]
        with self._core.database.read() as connection:
            found = []
            for event in batch:
                kind, resource_id, _, version = event.reference.split("/")
                stored = self._core.store.vread(connection, kind, resource_id, int(version))
                found.append(Occurred(event=event, content=stored.content))
        return found

    def _next_events(self, row: SubscriptionRow, most: int) -> list[Event]:
        with self._core.database.read() as connection:
            return rows.events(connection, row.id, row.sent, until=row.events, count=most)

    def _row(self, name: str) -> SubscriptionRow | None:
        with self._core.database.read() as connection:
            return rows.one(connection, name)

    def _due(self, row: SubscriptionRow) -> datetime | None:
        """Return when something is to be done for a subscription; None when nothing is."""
        now = self._core.clock.now()
        if row.state not in {rows.REQUESTED, rows.ACTIVE}:
            return None
        if row.state == rows.REQUESTED or row.events > row.sent:
            return row.next_at or now
        try:
            definition = self._subscriptions.read(row)
        except Problem:
            return now
        times = [] if not definition.heartbeat_s else [max(self._beat(row, definition), row.next_at or now)]
        times += [definition.ends_at] if definition.ends_at is not None else []
        return min(times, default=None)

    def _beat(self, row: SubscriptionRow, definition: Definition) -> datetime:
        since = row.sent_at or self._core.clock.now()
        return since + timedelta(seconds=definition.heartbeat_s)

    def _set_status(self, row: SubscriptionRow, state: str, problem: str | None = None) -> bool:
        """Store the status of a Subscription, in the resource and in its row; return whether nothing was in between."""
        try:
            with self._core.database.read() as connection:
                stored = self._core.store.read(connection, SUBSCRIPTION, row.id)
            resource = exact_values(stored.content)
            resource = {name: value for name, value in resource.items() if name != "error"} | {"status": state}
            if problem:
                resource["error"] = problem
            prepared = self._core.writer.prepare_update(
                Target(type=SUBSCRIPTION, id=row.id), encode(resource), stored.etag
            )

            def work(tx: Transaction) -> bool:
                present = rows.one(tx.connection, row.id)
                if present is None or present.revision != row.revision:
                    return False
                rows.set_state(tx, row.id, state, problem)
                self._core.writer.apply(tx, prepared, SERVER)
                return True

            return self._core.database.write(work)
        except (PreconditionFailed, Gone):  # a client has changed it meanwhile
            return False

    def _disclosed(self, definition: Definition, event: Event, at: datetime) -> balp.Event:
        principal = Principal(client="Ausculta", client_address="", request_id=f"{definition.id}/{event.number}")
        return balp.disclosed(
            principal,
            destination=f"Subscription/{definition.id}",
            destination_address=definition.endpoint,
            entity=event.reference,
            patient=event.patient,
            at=at,
        )
