"""The exports of a server: their rows, the folder of their files, and what is kept of them for how long."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from fhir_adapter.bulk.files import read_lines
from fhir_adapter.bulk.request import ExportRequest, read_request
from kernel.blobs import Cipher
from kernel.clock import Clock, Ids
from kernel.errors import Category, Problem
from kernel.jobs import BACKGROUND, Due, Jobs
from kernel.tables import exports, resource_versions
from kernel.transaction import Transaction

EXPORT: Final = "export"
"""The step that writes the files."""
REMOVE: Final = "remove-export"
"""The step that deletes them."""
MOST_OPEN: Final = 4
"""Exports that wait or run."""
MOST_KEPT: Final = 32
"""Exports whose files are kept, and those that wait or run."""
KEPT_FOR: Final = timedelta(hours=24)
"""How long files can be fetched after the last one was written."""
_IN_FLIGHT: Final = timedelta(seconds=30)
"""PostgreSQL: how long before its commit a write of another process may have taken the time of its resources."""
_ROW: Final = exports.c
_OPEN: Final = ("accepted", "running")


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file."""

    #: ``output`` or ``deleted`` in the manifest.
    list: str
    type: str
    name: str
    #: Folder of the attempt that wrote it.
    folder: str
    count: int
    size: int
    parts: int


@dataclass(frozen=True, kw_only=True)
class Export:
    """One export."""

    id: str
    #: The client that asked for it.
    client: str
    #: The address of the kick-off.
    url: str
    request: ExportRequest
    #: accepted | running | complete | failed | cancelled
    state: str
    #: The resources are those of this time, and of this many versions.
    transaction_time: datetime | None
    as_of: int
    #: Resources that were written so far.
    written: int
    outputs: Sequence[Output]
    expires_at: datetime | None


class Exports:
    """Starts, shows and cancels exports.

    Parameters
    ----------
    jobs, clock, ids
        As everywhere.
    folder
        Where the files are.
    cipher
        Seals them.
    """

    def __init__(self, jobs: Jobs, clock: Clock, ids: Ids, folder: Path, cipher: Cipher) -> None:
        self._jobs = jobs
        self._clock = clock
        self._ids = ids
        self._folder = folder
        self.cipher = cipher

    def accept(self, tx: Transaction, request: ExportRequest, url: str, client: str) -> str:
        """Add an export and the job that carries it out; return its id.

        Parameters
        ----------
        tx
            The transaction.
        request
            What is exported.
        url
            The address of the kick-off.
        client
            Who asked for it.

        Raises
        ------
        Problem
            ``busy`` when there are too many.
        """
        tx.lock(EXPORT)
        states = tx.connection.execute(select(_ROW.state)).scalars().all()
        if len(states) >= MOST_KEPT or sum(state in _OPEN for state in states) >= MOST_OPEN:
            raise Problem(Category.BUSY, f"{MOST_OPEN} exports may run, and {MOST_KEPT} be kept, at a time")
        export = self._ids.new()
        row = {"id": export, "client": client, "url": url, "request": request.text(), "state": "accepted"}
        tx.connection.execute(insert(exports), row | {"created_at": self._clock.now()})
        self._jobs.enqueue(tx, EXPORT, {"export": export}, lock=BACKGROUND)
        return export

    def get(self, connection: Connection, export: str) -> Export | None:
        """Return an export.

        Parameters
        ----------
        connection
            A connection that can read.
        export
            Its id.
        """
        row = connection.execute(select(exports).where(_ROW.id == export)).first()
        return None if row is None else _export(row)

    def begin(self, tx: Transaction, export: str) -> None:
        """Fix the time of an export, unless an earlier attempt did.

        PostgreSQL numbers a version before it is committed; so the writes in flight are waited for.

        Parameters
        ----------
        tx
            The transaction.
        export
            Its id.
        """
        now = self._clock.now()
        if tx.connection.dialect.name == "postgresql":
            tx.connection.exec_driver_sql("LOCK TABLE resource_versions IN SHARE MODE")
            now -= _IN_FLIGHT
        newest = tx.connection.execute(select(func.coalesce(func.max(resource_versions.c.seq), 0))).scalar_one()
        which = _ROW.id == export, _ROW.state == "accepted"
        state = {"state": "running", "transaction_time": now, "as_of": newest}
        tx.connection.execute(update(exports).where(*which), state)

    def note(self, tx: Transaction, export: str, written: int) -> bool:
        """Save how far an export is; return whether it is still wanted.

        Parameters
        ----------
        tx
            The transaction.
        export
            Its id.
        written
            Resources so far.
        """
        which = _ROW.id == export, _ROW.state == "running"
        return tx.connection.execute(update(exports).where(*which), {"written": written}).rowcount == 1

    def complete(self, tx: Transaction, export: str, outputs: Sequence[Output]) -> None:
        """Show the files of an export, until they are deleted.

        Parameters
        ----------
        tx
            The transaction that ends its job.
        export
            Its id.
        outputs
            The files, durable.
        """
        until = self._clock.now() + KEPT_FOR
        state = {"state": "complete", "outputs": json.dumps([vars(it) for it in outputs]), "expires_at": until}
        which = _ROW.id == export, _ROW.state == "running"
        if tx.connection.execute(update(exports).where(*which), state).rowcount:
            self._jobs.enqueue(tx, REMOVE, {"export": export}, due=Due(at=until))

    def cancel(self, tx: Transaction, export: str) -> None:
        """Have an export end and its files deleted.

        Parameters
        ----------
        tx
            The transaction.
        export
            Its id.
        """
        tx.connection.execute(update(exports).where(_ROW.id == export), {"state": "cancelled"})
        self._jobs.enqueue(tx, REMOVE, {"export": export})

    def forget(self, tx: Transaction, export: str) -> None:
        """Delete the row of an export whose files are deleted.

        Parameters
        ----------
        tx
            The transaction.
        export
            Its id.
        """
        tx.connection.execute(delete(exports).where(_ROW.id == export))

    def attempt(self, export: str) -> tuple[str, Path]:
        """Return a new folder for the files, without those of earlier attempts, and its name.

        An attempt never adds to what another one left: that one may have died in the middle of a file, or be alive.
        """
        self.remove(export)
        name = self._ids.new()
        place = self._folder / export / name
        place.mkdir(parents=True, mode=0o700)
        return name, place

    def remove(self, export: str) -> None:
        """Delete the files of an export."""
        shutil.rmtree(self._folder / export, ignore_errors=True)

    def content(self, export: str, output: Output) -> Iterator[bytes]:
        """Return the content of a file, part by part.

        Parameters
        ----------
        export
            Id of the export.
        output
            The file.

        Raises
        ------
        Problem
            ``not-found`` when the file was deleted.
        """
        place = self._folder / export / output.folder / output.name
        return read_lines(place, context_of(export, output.folder, output.name), self.cipher, output.parts)


def failed(tx: Transaction, jobs: Jobs, export: str, at: datetime) -> None:
    """Mark an export whose job is parked, and have what it wrote deleted later.

    Parameters
    ----------
    tx
        The transaction that parks the job.
    jobs
        The job queue.
    export
        Its id.
    at
        The time.
    """
    tx.connection.execute(update(exports).where(_ROW.id == export, _ROW.state.in_(_OPEN)), {"state": "failed"})
    jobs.enqueue(tx, REMOVE, {"export": export}, due=Due(at=at + KEPT_FOR))


def context_of(export: str, folder: str, name: str) -> str:
    """Return under which name a file is sealed.

    Parameters
    ----------
    export
        Id of the export.
    folder, name
        Of the attempt and of the file.
    """
    return f"export/{export}/{folder}/{name}"


def _export(row: Row[Any]) -> Export:
    return Export(
        id=row.id,
        client=row.client,
        url=row.url,
        request=read_request(row.request),
        state=row.state,
        transaction_time=row.transaction_time,
        as_of=row.as_of,
        written=row.written,
        outputs=tuple(Output(**it) for it in json.loads(row.outputs)),
        expires_at=row.expires_at,
    )
