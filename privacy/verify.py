"""Verification and export of the audit log.

All hashes are recomputed from the events' bytes and compared with three records: the leaf hash of each row, the head
with its keyed digest, and the signed checkpoints in the database and in the file. An event that was changed alone is
reported by its number. One that was changed together with its leaf hash, or moved, is reported as a range: the perfect
subtree whose peak differs, starting after the last checkpoint that agrees.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, select

from kernel.db import in_steps
from kernel.errors import Problem
from kernel.tables import audit_checkpoints, audit_log
from privacy import merkle
from privacy.audit import Checkpoint, LogHead, concerned, read_head
from privacy.keys import KeyRing

_AT_A_TIME = 1000
_MOST_PROBLEMS = 100


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of a verification."""

    #: True when no problem was found.
    ok: bool
    #: Number of events.
    size: int
    #: Root of the tree, recomputed from the events.
    root: bytes
    #: One sentence each, with event numbers and no PHI.
    problems: tuple[str, ...]


@dataclass
class _Walk:
    """State while the rows are read."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()
    problems: list[str] = field(default_factory=list)
    #: Recomputed peaks at each size for which there is a head or a checkpoint.
    passed: dict[int, tuple[bytes, ...]] = field(default_factory=dict)

    def report(self, problem: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def verify(connection: Connection, keys: KeyRing, checkpoint_file: Path | None) -> Report:
    """Check that the log was not altered since it was written.

    It may run while the server runs: events that are appended meanwhile are not reported as alterations.

    Parameters
    ----------
    connection
        A connection that can read.
    keys
        The keys of the installation.
    checkpoint_file
        The checkpoint file, preferably a copy from another host; None when there is none to compare with.
    """
    walk = _Walk()
    seal_key = keys.derive("audit-seal")
    before = _head(connection, seal_key, walk)
    checkpoints = _checkpoints(connection, keys.signing_key().public_key(), checkpoint_file, walk)
    wanted = {checkpoint.size for checkpoint in checkpoints} | ({before.size} if before else set())
    with in_steps(connection):
        _go_through(connection, walk, wanted)
    after = _head(connection, seal_key, walk) if before else None
    if before and after:
        _compare_with_head(walk, before, after, _good_until(walk, checkpoints))
    _compare_with_checkpoints(walk, checkpoints)
    return Report(
        ok=not walk.problems,
        size=walk.size,
        root=merkle.root_of_peaks(walk.peaks),
        problems=tuple(dict.fromkeys(walk.problems)),
    )


def export(connection: Connection) -> Iterator[bytes]:
    """Return every AuditEvent in order, one line of JSON each (NDJSON), byte for byte as recorded."""
    query = select(audit_log.c.event).order_by(audit_log.c.seq)
    with in_steps(connection):
        for (event,) in connection.execute(query, execution_options={"yield_per": _AT_A_TIME}):
            yield event + b"\n"


def _head(connection: Connection, seal_key: bytes, walk: _Walk) -> LogHead | None:
    try:
        return read_head(connection, seal_key)
    except Problem as problem:
        walk.report(problem.detail)
        return None


def _go_through(connection: Connection, walk: _Walk, wanted: set[int]) -> None:
    columns = audit_log.c
    indexed = (columns.id, columns.action, columns.patient, columns.entity)
    query = select(columns.seq, columns.leaf, columns.event, *indexed).order_by(columns.seq)
    walk.passed[0] = ()
    expected = 0
    for seq, stored, found, *row in connection.execute(query, execution_options={"yield_per": _AT_A_TIME}):
        if seq != expected:
            walk.report(_missing(expected, seq))
        expected = seq + 1
        # SQLite columns accept any type, so an altered value may have another type as well.
        content = found if isinstance(found, bytes) else str(found).encode()
        leaf = merkle.leaf_hash(content)
        if leaf != stored:
            walk.report(f"event {seq} was altered")
        elif not _agrees(content, row):
            walk.report(f"event {seq}: its columns do not say what its content says")
        walk.peaks = merkle.append(walk.size, walk.peaks, leaf)
        walk.size += 1
        if walk.size in wanted:
            walk.passed[walk.size] = walk.peaks


def _agrees(content: bytes, row: list[Any]) -> bool:
    """Return whether the indexed columns (id, action, patient, entity) agree with the event."""
    try:
        event = orjson.loads(content)
    except ValueError:
        return False
    return [event.get("id"), event.get("action"), *concerned(event)] == row


def _missing(first: int, until: int) -> str:
    return f"event {first} is missing" if until == first + 1 else f"events {first} to {until - 1} are missing"


def _compare_with_head(walk: _Walk, before: LogHead, after: LogHead, good: int) -> None:
    """Compare the events with the head as it was before and after they were read."""
    if walk.size < before.size:
        walk.report(f"the log ends too soon: it has {walk.size} events, its head says {before.size}")
    elif walk.size > after.size:
        walk.report(f"the log has {walk.size} events, its head says {after.size}")
    computed = walk.passed.get(before.size)
    if computed is None or computed == before.peaks:
        return
    first = 0
    for length, peak, found in zip(_subtrees(before.size), before.peaks, computed, strict=True):
        if peak != found:
            low, high = max(first, good), first + length - 1
            walk.report(f"something among events {low} to {high} was altered, moved or replaced")
        first += length


def _subtrees(size: int) -> list[int]:
    """Return the lengths of the perfect subtrees, left to right."""
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def _good_until(walk: _Walk, checkpoints: list[Checkpoint]) -> int:
    """Return the size of the last checkpoint before any disagreement."""
    good = 0
    for checkpoint in checkpoints:
        peaks = walk.passed.get(checkpoint.size)
        if peaks is None or merkle.root_of_peaks(peaks) != checkpoint.root:
            break
        good = checkpoint.size
    return good


def _compare_with_checkpoints(walk: _Walk, checkpoints: list[Checkpoint]) -> None:
    good = _good_until(walk, checkpoints)
    for checkpoint in checkpoints:
        peaks = walk.passed.get(checkpoint.size)
        signed = f"the checkpoint of {checkpoint.at.isoformat()} was signed over {checkpoint.size} events"
        if peaks is None:
            walk.report(f"{signed}, and the log has {walk.size}: it was cut or rolled back")
        elif merkle.root_of_peaks(peaks) != checkpoint.root:
            walk.report(f"{signed}, and something among events {good} to {checkpoint.size - 1} is not what it was")
            return


def _checkpoints(connection: Connection, key: Ed25519PublicKey, file: Path | None, walk: _Walk) -> list[Checkpoint]:
    """Return the checkpoints with a valid signature, from the file and the database, in order of size."""
    columns = audit_checkpoints.c
    stored = [
        Checkpoint(size=row.size, root=row.root, at=row.signed_at, signature=row.signature)
        for row in connection.execute(
            select(columns.size, columns.root, columns.signed_at, columns.signature).order_by(columns.size)
        )
    ]
    kept = _read_file(file, walk) if file is not None and file.exists() else []
    if file is not None and stored and not kept:
        walk.report("the database has checkpoints and the checkpoint file has none")
    good = []
    for checkpoint in dict.fromkeys((*stored, *kept)):
        try:
            key.verify(checkpoint.signature, checkpoint.text())
        except InvalidSignature:
            walk.report(f"a checkpoint over {checkpoint.size} events has a false signature")
        else:
            good.append(checkpoint)
    return sorted(good, key=lambda checkpoint: checkpoint.size)


def _read_file(file: Path, walk: _Walk) -> list[Checkpoint]:
    kept = []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # incomplete: the server was killed while writing it
        try:
            kept.append(Checkpoint.from_line(line))
        except ValueError:
            walk.report(f"line {number} of the checkpoint file is not a checkpoint")
    return kept
