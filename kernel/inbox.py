"""Raw messages as they were received, each stored once.

The same bytes under the same key from the same sender are a retry: the sender gets the reply that was sent the first
time. Other bytes under a key that was used before are a new message (senders reuse control ids) and are stored too.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from kernel.blobs import Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.statements import Statement
from kernel.tables import inbox

MOST_LISTED: Final = 200
"""Messages that one list shows."""


@dataclass(frozen=True, kw_only=True)
class InboundMessage:
    """A message that a peer sent, and the reply to it."""

    source: str
    """Protocol and sender, for instance ``hl7v2:LAB|HOSPITAL``."""
    key: str
    """The sender's own identifier (MSH-10)."""
    raw: bytes
    reply: bytes


@dataclass(frozen=True, kw_only=True)
class SealedMessage:
    """A message as it is stored."""

    id: str
    source: str
    key: str
    digest: str
    raw: bytes
    reply: bytes
    #: The reply as it is sent.
    receipt: bytes


_FIND: Final = Statement(
    select(inbox.c.id, inbox.c.reply).where(
        inbox.c.source == bindparam("wanted_source"),
        inbox.c.key == bindparam("wanted_key"),
        inbox.c.digest == bindparam("wanted_digest"),
    )
)
_INSERT: Final = Statement(insert(inbox))
_RAW: Final = Statement(select(inbox.c.raw).where(inbox.c.id == bindparam("wanted")))
_UNMATCHED: Final = (
    select(inbox.c.id, inbox.c.source, inbox.c.received_at)
    .where(inbox.c.state == "unmatched")
    .order_by(inbox.c.received_at.desc(), inbox.c.id.desc())
)
_DISMISS: Final = (
    update(inbox).where(inbox.c.id == bindparam("wanted"), inbox.c.state == "unmatched").values(state="dismissed")
)
_MARK: Final = Statement(update(inbox).where(inbox.c.id == bindparam("wanted")))


@dataclass(frozen=True, kw_only=True)
class UnmatchedMessage:
    """A message that corrects or withdraws what was not stored."""

    id: str
    source: str
    received_at: datetime


def unmatched(connection: Connection, limit: int = MOST_LISTED) -> tuple[UnmatchedMessage, ...]:
    """Return the messages that correct or withdraw what was not stored, the newest first.

    Parameters
    ----------
    connection
        A connection that can read.
    limit
        How many at most.
    """
    return tuple(UnmatchedMessage(**row._asdict()) for row in connection.execute(_UNMATCHED.limit(limit)))


def dismiss(tx: Transaction, identifier: str) -> bool:
    """Record that nothing more is to be done about an unmatched message; False when no such message has this id.

    Parameters
    ----------
    tx
        The transaction that records who decided it.
    identifier
        The row's id.
    """
    return tx.execute(_DISMISS, {"wanted": identifier}).rowcount == 1


class Inbox:
    """The table of raw messages.

    Parameters
    ----------
    clock, ids
        Sources of time and of identifiers.
    cipher
        Encrypts messages and replies; its keyed digest identifies repeated bytes.
    """

    def __init__(self, clock: Clock, ids: Ids, cipher: Cipher) -> None:
        self._clock = clock
        self._ids = ids
        self._cipher = cipher

    def digest(self, raw: bytes) -> str:
        """Return the keyed digest that identifies repeated bytes."""
        return self._cipher.address(raw)

    def receipt(self, connection: Connection, source: str, key: str, digest: str) -> bytes | None:
        """Return the reply to a message that was accepted before, or None.

        Parameters
        ----------
        connection
            A connection that can read.
        source
            Protocol and sender, as in :class:`InboundMessage`.
        key
            The sender's own identifier (MSH-10).
        digest
            What :meth:`digest` returned for the raw message.
        """
        row = _FIND.run(connection, {"wanted_source": source, "wanted_key": key, "wanted_digest": digest}).first()
        return None if row is None else self._cipher.open(row.reply, row.id.encode())

    def seal(self, message: InboundMessage) -> SealedMessage:
        """Encrypt a message under a new identifier; before the transaction, so that the writer does not wait for it."""
        identifier = self._ids.new()
        return SealedMessage(
            id=identifier,
            source=message.source,
            key=message.key,
            digest=self.digest(message.raw),
            raw=self._cipher.seal(message.raw, identifier.encode()),
            reply=self._cipher.seal(message.reply, identifier.encode()),
            receipt=message.reply,
        )

    def add(self, tx: Transaction, message: SealedMessage) -> tuple[str, bytes]:
        """Store a message in the transaction, unless it is stored already.

        Parameters
        ----------
        tx
            The transaction; the message is stored if and only if it commits.
        message
            The message and the reply to it.

        Returns
        -------
        identifier : str
            The new row's id, or ``""`` when the same message was stored before.
        reply : bytes
            The reply to send; for a repeated message the one that was sent the first time.
        """
        tx.lock(f"inbox:{message.source}:{message.key}")
        first_reply = self.receipt(tx.connection, message.source, message.key, message.digest)
        if first_reply is not None:
            return "", first_reply
        tx.send(
            _INSERT,
            {
                "id": message.id,
                "source": message.source,
                "key": message.key,
                "digest": message.digest,
                "raw": message.raw,
                "reply": message.reply,
                "received_at": self._clock.now(),
            },
        )
        return message.id, message.receipt

    def raw(self, connection: Connection, identifier: str) -> bytes:
        """Return the bytes of a stored message.

        Parameters
        ----------
        connection
            A connection that can read.
        identifier
            The row's id, from :meth:`add`.

        Raises
        ------
        Problem
            ``not-found`` when no message has this identifier.
        """
        sealed = _RAW.run(connection, {"wanted": identifier}).scalar()
        if sealed is None:
            raise Problem(Category.NOT_FOUND, "there is no such message in the inbox")
        return self._cipher.open(sealed, identifier.encode())

    def mark(self, tx: Transaction, identifier: str, state: str) -> None:
        """Record the outcome of a message.

        Parameters
        ----------
        tx
            The transaction that holds the outcome.
        identifier
            The row's id, from :meth:`add`.
        state
            ``done``; ``older``: something in it was older than what is stored, and was not; ``ambiguous``: stored, but
            several Patients have its identifier; ``unmatched``: stored, but what it corrects or deletes was not there;
            ``dismissed``: a person has looked at that;
            ``not-production``: only kept; ``held``: it contradicts what is known of its patient, and a person decides;
            ``rejected``: a person decided that it is another's; ``parked``.
        """
        tx.send(_MARK, {"wanted": identifier, "state": state})
