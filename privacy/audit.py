"""The audit log: an event is written in the same commit as the action it records, and later changes are detectable.

Each event is a leaf of an RFC 9162 Merkle tree (:mod:`privacy.merkle`). One row holds the head: the tree's size and
peaks under a keyed digest, so that appending an event costs a few hashes and never reads the whole log. At intervals
the head is signed (Ed25519) as a *checkpoint*, stored in the database and appended to a file. Somebody who has both the
database and the key file can forge everything on this host; only a copy of the checkpoint file that is stored elsewhere
detects that.
"""

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, insert, select, update

from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.statements import Statement
from kernel.tables import audit_checkpoints, audit_head, audit_log
from privacy import merkle
from privacy.keys import KeyRing

ORIGIN: Final = "ausculta/audit/1"
"""First line of what a checkpoint signs."""

_HASH: Final = 32
_ROW: Final = 1

_READ_HEAD: Final = Statement(
    select(audit_head.c.size, audit_head.c.peaks, audit_head.c.seal).where(audit_head.c.id == _ROW)
)
_FIRST_HEAD: Final = Statement(insert(audit_head))
_NEXT_HEAD: Final = Statement(update(audit_head).where(audit_head.c.id == _ROW))
_ADD: Final = Statement(insert(audit_log))


@dataclass(frozen=True, kw_only=True)
class LogHead:
    """Size and peaks of the tree over all events so far."""

    size: int
    peaks: tuple[bytes, ...]

    @property
    def root(self) -> bytes:
        """Root of the tree."""
        return merkle.root_of_peaks(self.peaks)

    def sealed_by(self, key: bytes) -> bytes:
        """Return the keyed digest (HMAC-SHA256) of size and peaks."""
        return hmac.digest(key, self.size.to_bytes(8, "big") + b"".join(self.peaks), hashlib.sha256)


EMPTY: Final = LogHead(size=0, peaks=())


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A signed statement of the log's size and root at a time."""

    size: int
    root: bytes
    at: datetime
    signature: bytes

    def text(self) -> bytes:
        """Return the signed text, four lines."""
        return statement(self.size, self.root, self.at)

    def line(self) -> bytes:
        """Return the checkpoint as one line of JSON."""
        fields = {
            "origin": ORIGIN,
            "size": self.size,
            "root": b64encode(self.root).decode(),
            "at": self.at.astimezone(UTC).isoformat(),
            "signature": b64encode(self.signature).decode(),
        }
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, line: bytes) -> "Checkpoint":
        """Parse a line that :meth:`line` wrote; raises ``ValueError`` when it is anything else."""
        try:
            fields = orjson.loads(line)
            return cls(
                size=int(fields["size"]),
                root=b64decode(fields["root"], validate=True),
                at=datetime.fromisoformat(fields["at"]),
                signature=b64decode(fields["signature"], validate=True),
            )
        except (KeyError, TypeError) as failure:
            raise ValueError("not a checkpoint") from failure


class AuditLog:
    """Writes events; :mod:`privacy.verify` reads and checks them.

    Parameters
    ----------
    keys
        Source of the keys for the head's digest and for the signature.
    clock
        Source of the time at which an event is recorded.
    ids
        Source of the events' ids.
    """

    def __init__(self, keys: KeyRing, clock: Clock, ids: Ids) -> None:
        self._seal_key = keys.derive("audit-seal")
        self._signing_key = keys.signing_key()
        self._clock = clock
        self._ids = ids

    def record(self, tx: Transaction, event: Mapping[str, Any]) -> str:
        """Write one event in the caller's transaction.

        Parameters
        ----------
        tx
            The transaction that also holds the recorded action.
        event
            An AuditEvent from :mod:`privacy.balp`, without ``id``.

        Returns
        -------
        str
            The event's id.

        Raises
        ------
        Problem
            ``fault`` when the head was altered. No action that must be audited can then be committed.
        """
        (written,) = self.record_all(tx, (event,))
        return written

    def record_all(self, tx: Transaction, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Write several events; otherwise as :meth:`record`.

        They are appended to the log at the commit, with those of the transactions that commit together: the head is
        read, sealed and written once for all of them, and other processes wait for it for the shortest time.
        """
        recorded = self._clock.now()
        rows = [_row(self._ids.new(), event, recorded) for event in events]
        if rows:
            tx.before_commit(self._append, rows)
        return [row.id for row in rows]

    def _append(self, tx: Transaction, rows: Sequence["_Row"]) -> None:
        tx.lock("audit")
        head = read_head(tx.connection, self._seal_key)
        size, peaks = head.size, head.peaks
        placed = []
        for row in rows:
            placed.append((size, *row))
            peaks = merkle.append(size, peaks, row.leaf)
            size += 1
        tx.send_rows(_ADD, _COLUMNS, placed)
        self._write_head(tx, LogHead(size=size, peaks=peaks), first=head.size == 0)

    def checkpoint(self, tx: Transaction) -> Checkpoint | None:
        """Sign the current head.

        The caller appends the result to the file (:func:`append_checkpoint`) once the transaction is durable.

        Returns
        -------
        Checkpoint or None
            None when nothing was recorded since the last one.
        """
        tx.lock("audit")
        head = read_head(tx.connection, self._seal_key)
        signed = tx.execute(select(audit_checkpoints.c.size).where(audit_checkpoints.c.size == head.size)).first()
        if head.size == 0 or signed is not None:
            return None
        at = self._clock.now()
        signature = self._signing_key.sign(statement(head.size, head.root, at))
        checkpoint = Checkpoint(size=head.size, root=head.root, at=at, signature=signature)
        row = {"size": head.size, "root": head.root, "signed_at": at, "signature": signature}
        tx.execute(insert(audit_checkpoints), row)
        return checkpoint

    def _write_head(self, tx: Transaction, head: LogHead, *, first: bool) -> None:
        row = {"size": head.size, "peaks": b"".join(head.peaks), "seal": head.sealed_by(self._seal_key)}
        if first:
            tx.send(_FIRST_HEAD, {"id": _ROW, **row})
        else:
            tx.send(_NEXT_HEAD, row)


class _Row(NamedTuple):
    """The columns of an event but the first, which is its place in the log."""

    id: str
    recorded: datetime
    leaf: bytes
    event: bytes
    action: str
    patient: str | None
    entity: str | None


_COLUMNS: Final = ("seq", *_Row._fields)


def _row(name: str, event: Mapping[str, Any], recorded: datetime) -> _Row:
    """Return the row of an event, all but its place in the log."""
    content = orjson.dumps({"resourceType": "AuditEvent", "id": name, **event})
    patient, entity = concerned(event)
    return _Row(name, recorded, merkle.leaf_hash(content), content, event["action"], patient, entity)


def read_head(connection: Connection, seal_key: bytes) -> LogHead:
    """Read the head and check its keyed digest.

    Parameters
    ----------
    connection
        A connection that can read.
    seal_key
        The 32-byte key of the digest, ``KeyRing.derive("audit-seal")``.

    Raises
    ------
    Problem
        ``fault`` when the head was altered.
    """
    row = _READ_HEAD.run(connection).first()
    if row is None:
        return EMPTY
    size, joined, seal = row
    head = LogHead(size=size, peaks=tuple(joined[at : at + _HASH] for at in range(0, len(joined), _HASH)))
    if not hmac.compare_digest(seal, head.sealed_by(seal_key)):
        raise Problem(Category.FAULT, "the audit log's head was altered")
    return head


def statement(size: int, root: bytes, at: datetime) -> bytes:
    """Return the text that a checkpoint signs, one line each: origin, size, root (base64) and time.

    Parameters
    ----------
    size
        Number of events.
    root
        Root of the tree over them, 32 bytes.
    at
        When it was signed; aware.
    """
    when = at.astimezone(UTC).isoformat()
    return f"{ORIGIN}\n{size}\n{b64encode(root).decode()}\n{when}\n".encode()


def append_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Append a checkpoint to the file and fsync it; an incomplete last line, left by a crash, is removed.

    Parameters
    ----------
    path
        The checkpoint file; created when absent.
    checkpoint
        A checkpoint whose transaction is durable.
    """
    with path.open("ab+") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 4096))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(length - len(tail) + tail.rfind(b"\n") + 1)
        file.write(checkpoint.line())
        file.flush()
        os.fsync(file.fileno())


def concerned(event: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the patient and the object of an event (audit-entity-type 1 and 2), for the indexed columns."""
    patient = entity = None
    for entry in event.get("entity", ()):
        what = entry.get("what", {})
        named = what.get("reference") or what.get("identifier", {}).get("value")
        match entry["type"]["code"]:
            case "1":
                patient = named
            case "2":
                entity = named
    return patient, entity
