"""Raw messages as they came, each kept once.

The same bytes under the same key from the same sender are a retry: they get the receipt that was sent the first time.
Other bytes under a key that was seen before are news (senders reuse control ids) and are kept as well.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from kernel.blobs import Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import inbox


@dataclass(frozen=True, kw_only=True)
class InboundMessage:
    """What a peer sent and what it was told."""

    source: str
    """Protocol and sender, for instance ``hl7v2:LAB|HOSPITAL``."""
    key: str
    """The sender's own identifier (MSH-10)."""
    raw: bytes
    reply: bytes


_FIND: Final = select(inbox.c.id, inbox.c.reply).where(
    inbox.c.source == bindparam("wanted_source"),
    inbox.c.key == bindparam("wanted_key"),
    inbox.c.digest == bindparam("wanted_digest"),
)
_INSERT: Final = insert(inbox)


class Inbox:
    """The table of raw messages.

    Parameters
    ----------
    clock, ids
        Time and identity.
    cipher
        Seals messages and receipts; its keyed digest recognises repeated bytes.
    """

    def __init__(self, clock: Clock, ids: Ids, cipher: Cipher) -> None:
        self._clock = clock
        self._ids = ids
        self._cipher = cipher

    def digest(self, raw: bytes) -> str:
        """Return the keyed digest by which repeated bytes are known."""
        return self._cipher.address(raw)

    def receipt(self, connection: Connection, source: str, key: str, digest: str) -> bytes | None:
        """Return the receipt of a message that was accepted before, or none."""
        row = connection.execute(_FIND, {"wanted_source": source, "wanted_key": key, "wanted_digest": digest}).first()
        return None if row is None else self._cipher.open(row.reply, row.id.encode())

    def add(self, tx: Transaction, message: InboundMessage) -> tuple[str, bytes]:
        """Keep a message in the transaction, unless it is there already.

        Returns
        -------
        identifier : str
            The new row's id, or ``""`` when the same message was kept before.
        reply : bytes
            The receipt to send: the first one, for a repeated message.
        """
        digest = self.digest(message.raw)
        tx.lock(f"inbox:{message.source}:{message.key}")
        known = self.receipt(tx.connection, message.source, message.key, digest)
        if known is not None:
            return "", known
        identifier = self._ids.new()
        tx.execute(
            _INSERT,
            {
                "id": identifier,
                "source": message.source,
                "key": message.key,
                "digest": digest,
                "raw": self._cipher.seal(message.raw, identifier.encode()),
                "reply": self._cipher.seal(message.reply, identifier.encode()),
                "received_at": self._clock.now(),
            },
        )
        return identifier, message.reply

    def raw(self, connection: Connection, identifier: str) -> bytes:
        """Return the bytes of a kept message.

        Raises
        ------
        Problem
            ``not-found`` when there is none with this identifier.
        """
        sealed = connection.execute(select(inbox.c.raw).where(inbox.c.id == identifier)).scalar()
        if sealed is None:
            raise Problem(Category.NOT_FOUND, "there is no such message in the inbox")
        return self._cipher.open(sealed, identifier.encode())

    def mark(self, tx: Transaction, identifier: str, state: str) -> None:
        """Note what became of a message: ``done`` or ``parked``."""
        tx.execute(update(inbox).where(inbox.c.id == identifier), {"state": state})
