"""The tables ``identity_holds`` and ``held_messages``: every read and write of them is here.

A message or a study that contradicts what is known of its patient identifier is held until a person decides. Messages
of one sender that state the same person under one identifier are one hold, and so is each such study.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Row, func, insert, select, update

from fhir_adapter.same_person import Person, PersonName
from kernel.blobs import Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import held_messages, identity_holds

Kind: TypeAlias = Literal["message", "study"]
State: TypeAlias = Literal["open", "accepted", "rejected"]
Decision: TypeAlias = Literal["accepted", "rejected"]
Reason: TypeAlias = Literal["name", "birth-date", "sex", "several-patients"]

REASONS: Final[Mapping[str, str]] = {
    "name": "another name",
    "birth-date": "another birth date",
    "sex": "another sex",
    "several-patients": "several patients in one study",
}
"""Why something is held, in words."""

IN_DOUBT: Final = "patient identity in doubt"
"""Why a model gives no answer about a patient; what follows says more."""

DECIDES: Final[Mapping[Decision, frozenset[State]]] = {
    "accepted": frozenset({"open", "rejected"}),  # a rejection would silence a sender for ever
    "rejected": frozenset({"open"}),
}
"""Decision -> the states in which it may be taken."""

_MOST: Final = 200
_H: Final = identity_holds.c


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """What contradicts what is known of an identifier."""

    kind: Kind
    #: Source of the messages, or StudyInstanceUID.
    subject: str
    #: Reference of the Patient whom the identifier names.
    patient: str
    reasons: tuple[Reason, ...]
    #: The persons that are stated: of a message one, of a study as many as its instances name.
    stated: tuple[Person, ...]


@dataclass(frozen=True, kw_only=True)
class IdentityHold:
    """A row of the table."""

    id: str
    kind: Kind
    subject: str
    patient: str
    reasons: tuple[Reason, ...]
    state: State
    created_at: datetime
    changed_at: datetime
    #: Who decided; None while it is open.
    decided_by: str | None
    #: How many messages it holds.
    messages: int

    @property
    def source(self) -> str:
        """What names the hold among the inputs of a result."""
        return f"urn:uuid:{self.id}"

    @property
    def why(self) -> str:
        """The reasons in words."""
        return ", ".join(REASONS[reason] for reason in self.reasons)


class IdentityHolds:
    """What is held.

    Parameters
    ----------
    clock, ids
        Sources of time and of identifiers.
    cipher
        Seals what is stated of a person; its keyed digest identifies it.
    """

    def __init__(self, clock: Clock, ids: Ids, cipher: Cipher) -> None:
        self._clock = clock
        self._ids = ids
        self._cipher = cipher

    def find(self, connection: Connection, found: Contradiction) -> IdentityHold | None:
        """Return the hold of a contradiction; None when there was none yet.

        Parameters
        ----------
        connection
            Where to read.
        found
            The contradiction.
        """
        row = connection.execute(_holds().where(*self._same(found))).first()
        return None if row is None else _hold(row)

    def hold(self, tx: Transaction, found: Contradiction) -> IdentityHold:
        """Return the hold of a contradiction, and make it if there is none.

        Parameters
        ----------
        tx
            The transaction that holds it.
        found
            The contradiction.
        """
        tx.lock(f"identity:{found.subject}:{found.patient}")
        held = self.find(tx.connection, found)
        if held is not None:
            return held
        identifier, now = self._ids.new(), self._clock.now()
        row = {
            "id": identifier,
            "kind": found.kind,
            "subject": found.subject,
            "patient": found.patient,
            "reasons": json.dumps(found.reasons),
            "fingerprint": self._fingerprint(found),
            "stated": self._cipher.seal(_written(found), identifier.encode()),
            "state": "open",
            "created_at": now,
            "changed_at": now,
        }
        tx.execute(insert(identity_holds), row)
        return self.one(tx.connection, identifier)

    def hold_message(self, tx: Transaction, found: Contradiction, message: str) -> IdentityHold:
        """Add a message to the hold of its contradiction; one that was accepted is open again, one rejected stays so.

        Parameters
        ----------
        tx
            The transaction that marks the message.
        found
            The contradiction.
        message
            Its id in the inbox.
        """
        held = self.hold(tx, found)
        place = select(func.coalesce(func.max(held_messages.c.seq), 0)).where(held_messages.c.hold == held.id)
        if held.state == "accepted":
            self._change(tx, held.id, "open", None)
        known = select(held_messages.c.hold).where(held_messages.c.message == message)
        if tx.execute(known).first() is None:
            seq = int(tx.execute(place).scalar_one()) + 1
            tx.execute(insert(held_messages), {"message": message, "hold": held.id, "seq": seq})
        return self.one(tx.connection, held.id)

    def one(self, connection: Connection, identifier: str) -> IdentityHold:
        """Return a hold.

        Parameters
        ----------
        connection
            Where to read.
        identifier
            Its id.

        Raises
        ------
        Problem
            ``not-found`` when there is none of that id.
        """
        row = connection.execute(_holds().where(_H.id == identifier)).first()
        if row is None:
            raise Problem(Category.NOT_FOUND, "nothing of this id is held")
        return _hold(row)

    def listing(self, connection: Connection, state: State | None = "open") -> list[IdentityHold]:
        """Return the newest holds, newest first; those that are open have a count of their own (:meth:`open_count`).

        Parameters
        ----------
        connection
            Where to read.
        state
            Only those in this state; None for all.
        """
        wanted = _holds().order_by(_H.seq.desc()).limit(_MOST)
        rows = connection.execute(wanted if state is None else wanted.where(_H.state == state))
        return [_hold(row) for row in rows]

    def open_count(self, connection: Connection) -> int:
        """Return how many wait for a person."""
        return int(connection.execute(select(func.count()).where(_H.state == "open")).scalar_one())

    def messages(self, connection: Connection, identifier: str) -> tuple[str, ...]:
        """Return the ids of the messages of a hold, in the order in which they arrived.

        Parameters
        ----------
        connection
            Where to read.
        identifier
            Id of the hold.
        """
        wanted = select(held_messages.c.message).where(held_messages.c.hold == identifier)
        return tuple(connection.execute(wanted.order_by(held_messages.c.seq)).scalars())

    def stated(self, connection: Connection, identifier: str) -> tuple[Person, ...]:
        """Return what was stated of the person; PHI.

        Parameters
        ----------
        connection
            Where to read.
        identifier
            Id of the hold.
        """
        sealed = connection.execute(select(_H.stated).where(_H.id == identifier)).scalar_one()
        return tuple(_person(one) for one in json.loads(self._cipher.open(sealed, identifier.encode())))

    def decide(self, tx: Transaction, identifier: str, decision: Decision, by: str) -> IdentityHold:
        """Record a decision and return the hold as it was before; what is rejected may be accepted later.

        Parameters
        ----------
        tx
            The transaction that carries the decision out.
        identifier
            Id of the hold.
        decision
            ``accepted`` or ``rejected``.
        by
            Who decides.

        Raises
        ------
        Problem
            ``not-found``; ``conflict`` when it was decided already.
        """
        held = self.one(tx.connection, identifier)
        tx.lock(f"identity:{held.subject}:{held.patient}")
        held = self.one(tx.connection, identifier)
        if held.state not in DECIDES[decision]:
            raise Problem(Category.CONFLICT, f"it was decided already: {held.state}")
        self._change(tx, identifier, decision, by)
        return held

    def _same(self, found: Contradiction) -> tuple[Any, ...]:
        about = _H.kind == found.kind, _H.subject == found.subject, _H.patient == found.patient
        return (*about, _H.fingerprint == self._fingerprint(found))

    def _fingerprint(self, found: Contradiction) -> str:
        return self._cipher.address(_written(found))

    def _change(self, tx: Transaction, identifier: str, state: State, by: str | None) -> None:
        values = {"state": state, "decided_by": by, "changed_at": self._clock.now()}
        tx.execute(update(identity_holds).where(_H.id == identifier).values(values))


def _holds() -> Any:
    count = select(func.count()).where(held_messages.c.hold == _H.id).correlate(identity_holds).scalar_subquery()
    names = "id", "kind", "subject", "patient", "reasons", "state", "created_at", "changed_at", "decided_by"
    return select(*(_H[name] for name in names), count.label("messages"))


def _hold(row: Row[Any]) -> IdentityHold:
    fields = row._asdict()
    return IdentityHold(**fields | {"reasons": tuple(json.loads(fields["reasons"]))})


def _written(found: Contradiction) -> bytes:
    return json.dumps([asdict(person) for person in found.stated], sort_keys=True).encode()


def _person(fields: dict[str, Any]) -> Person:
    names = (PersonName(family=name["family"], given=tuple(name["given"])) for name in fields["names"])
    return Person(**fields | {"names": tuple(names)})
