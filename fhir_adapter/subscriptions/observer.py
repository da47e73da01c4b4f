"""What follows from a change for subscriptions: the events, and the job that sends them, in the commit of the change.

The subscriptions are kept in memory, and read again when their revision in the database has changed. The transactions
that commit together ask for it once, and number their events once, at the end.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from fhir_adapter.store.document import Json
from fhir_adapter.store.problems import Invalid, Issue
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.subscriptions import rows
from fhir_adapter.subscriptions.definition import Definition, read
from fhir_adapter.subscriptions.endpoints import Endpoints
from fhir_adapter.subscriptions.matching import Stored
from kernel.clock import Clock
from kernel.db import Transaction
from kernel.errors import Problem
from kernel.jobs import Due, Jobs
from kernel.log import get_logger
from privacy.principal import Principal

NOTIFY: Final = "notify"
"""The job step that sends what a subscription has not got yet (``service.flows.notify``)."""

SUBSCRIPTION: Final = "Subscription"
_REVISION: Final = "subscriptions"
_FROM_CLIENTS: Final = frozenset({rows.REQUESTED, rows.OFF})
_FIXED: Final = ("criteria", "_criteria", "channel")

_log = get_logger(__name__)


class Subscriptions:
    """Registers Subscriptions, and records the changes that are their events.

    Parameters
    ----------
    jobs
        Where the jobs that send are enqueued.
    endpoints
        To which addresses notifications may be sent.
    clock
        The current time.
    base
        URL of our FHIR API.
    """

    def __init__(self, jobs: Jobs, endpoints: Endpoints, clock: Clock, base: str) -> None:
        self._jobs = jobs
        self._endpoints = endpoints
        self._clock = clock
        self._base = base
        self._watching: tuple[int, Mapping[str, Sequence[Definition]]] = (0, {})

    def on_change(self, tx: Transaction, changes: Sequence[StoredVersion], principal: Principal) -> None:  # noqa: ARG002 - the hook's signature
        """Register the Subscriptions among the changes, and record which changes are events.

        Parameters
        ----------
        tx
            The transaction that writes the changes.
        changes
            The versions that it writes.
        principal
            Who made the changes; not used.

        Raises
        ------
        Invalid
            For a Subscription that this server could not serve.
        """
        for change in changes:
            if change.type == SUBSCRIPTION:
                self._register(tx, change)
        by_type = self._by_type(tx)
        if not by_type:
            return
        found: list[tuple[str, str, str | None, datetime]] = []
        for change in changes:
            watching = by_type.get(change.type, ()) if not change.deleted else ()
            if watching:
                stored = Stored(change)
                found += [
                    (it.id, change.reference, change.patient, change.last_updated)
                    for it in watching
                    if self._is_met(tx, it, stored)
                ]
        if found:
            tx.before_commit(self._record, found)

    def read(self, row: rows.SubscriptionRow) -> Definition:
        """Return what a stored subscription asks for.

        Raises
        ------
        Invalid
            When this server may no longer do it, such as after a change of the settings.
        """
        return read(row.id, orjson.loads(row.definition), self._endpoints, self._base)

    def enqueue(self, tx: Transaction, subscription: str, due: datetime | None = None) -> None:
        """Have a subscription's events sent; a job that waits is moved to an earlier time, never to a later one.

        Parameters
        ----------
        tx
            Any transaction.
        subscription
            Its id.
        due
            Not before this time.
        """
        lock = lock_of(subscription)
        at = due or self._clock.now()
        payload = {"subscription": subscription}
        self._jobs.enqueue(tx, NOTIFY, payload, lock=lock, queueing_lock=lock, due=Due(at, "earlier"))

    def _by_type(self, tx: Transaction) -> Mapping[str, Sequence[Definition]]:
        revision = tx.shared.get(_REVISION)
        if revision is None:
            revision = tx.shared[_REVISION] = rows.revision(tx.connection)
        previous, by_type = self._watching
        if revision != previous:
            by_type = self._loaded(tx) if revision else {}
            self._watching = (revision, by_type)
        return by_type

    def _loaded(self, tx: Transaction) -> Mapping[str, Sequence[Definition]]:
        """Return the subscriptions by the types that they watch; one that cannot be read stops nothing else."""
        by_type: dict[str, list[Definition]] = defaultdict(list)
        for row in rows.watching(tx.connection):
            try:
                definition = self.read(row)
            except (Problem, KeyError, TypeError, ValueError):
                _log.warning("subscription_not_served", subscription=row.id)
                continue
            for kind in definition.types:
                by_type[kind].append(definition)
        return by_type

    def _is_met(self, tx: Transaction, definition: Definition, stored: Stored) -> bool:
        """Return whether a change is an event; a fault of ours stops the subscription, and never the change."""
        try:
            return definition.is_met(stored)
        except Exception:  # noqa: BLE001 - whatever it is, what was sent must be stored
            _log.exception("subscription_not_evaluated", subscription=definition.id)
            tx.shared.pop(_REVISION, None)
            rows.set_state(tx, definition.id, rows.ERROR, "a change could not be compared with the criteria")
            self.enqueue(tx, definition.id)
            return False

    def _register(self, tx: Transaction, change: StoredVersion) -> None:
        tx.shared.pop(_REVISION, None)
        before = rows.one(tx.connection, change.id)
        if change.deleted:
            if before is not None:
                rows.set_state(tx, change.id, rows.OFF, "it was deleted")
            return
        resource: Json = orjson.loads(change.content)
        status = resource["status"]
        if before is not None and status == before.state and _same(orjson.loads(before.definition), resource):
            rows.redefine(tx, change.id, change.content.decode())
            self.enqueue(tx, change.id)  # the end may be another
            return
        if status not in _FROM_CLIENTS:
            text = "a client sets requested or off; active and error are for this server"
            raise Invalid([Issue(code="business-rule", text=text, expression="Subscription.status")])
        if status == rows.REQUESTED:
            definition = read(change.id, resource, self._endpoints, self._base)
            if definition.ends_at is not None and definition.ends_at <= self._clock.now():
                text = "the end lies in the past"
                raise Invalid([Issue(code="business-rule", text=text, expression="Subscription.end")])
            self.enqueue(tx, change.id)
        rows.register(tx, change.id, status, change.content.decode())

    def _record(self, tx: Transaction, items: Sequence[Any]) -> None:
        """Give the events of all that commits together their numbers, and enqueue the jobs that send them."""
        by_subscription: dict[str, list[tuple[str, str | None, datetime]]] = defaultdict(list)
        for subscription, *event in items:
            by_subscription[subscription].append((event[0], event[1], event[2]))
        ordered = sorted(by_subscription)
        # A job that ends holds the lock of its jobs before it changes the row: all take them in the same order.
        tx.lock(*(f"job:{lock_of(it)}" for it in ordered))
        for subscription in ordered:
            row = rows.add_events(tx, subscription, by_subscription[subscription])
            if row is not None:
                self.enqueue(tx, subscription, row.next_at)


def lock_of(subscription: str) -> str:
    """Return the lock of the jobs of a subscription: one request at a time."""
    return f"{NOTIFY}:{subscription}"


def _same(one: Json, other: Json) -> bool:
    return all(one.get(name) == other.get(name) for name in _FIXED)
