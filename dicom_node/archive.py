"""The archive of received instances: the bytes in an encrypted blob, and an index row.

The row is committed after the bytes of a large instance, and together with those of a small one; ``add`` returns when
both are durable. The caller's rows (the study's waiting job) are part of the same commit.
The dataset is stored byte for byte; only the file meta information before it is made here (PS3.10 section 7.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.archive_statements import ADDRESS, INSERT, KEEP_OPEN, NOTE_ASSOCIATION, NOTE_STUDY, ROW
from dicom_node.encoding import keep_values_out_of_warnings, part10, read_index_attributes
from dicom_node.listener.association import ReceivedInstance
from dicom_node.pixels import same_picture
from kernel.blobs import Blobs, Content, Digest
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.tables import associations, instances, replaced_instances, studies

_log = get_logger(__name__)

NOTED_EVERY: Final = timedelta(seconds=5)
"""How long neither the row of an association that sends instances of one study nor the study's job is written again."""

LISTENER: Final = "dicom"
"""Name of the listener in the ``associations`` table; its restart removes the rows of that name."""


@dataclass(frozen=True, kw_only=True)
class StoredInstance:
    """One row of the index."""

    SOPInstanceUID: str
    SOPClassUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    Modality: str | None
    TransferSyntaxUID: str
    #: Address of the DICOM file among the blobs.
    blob: str
    #: Bytes of the DICOM file.
    size: int
    calling_ae: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What an instance is to the archive, as the commit finds it."""

    stored: StoredInstance
    #: It takes the place of an earlier version.
    is_reconciled: bool
    #: The study was open, and its association was noted a moment ago: whoever checks the study later finds it.
    is_expected: bool


class Archive:
    """Stores instances.

    Parameters
    ----------
    database
        The database of the index.
    blobs
        The store of the bytes.
    clock
        Source of the time at which an instance is received.
    listener
        The name with which open associations are recorded.
    """

    def __init__(self, database: Database, blobs: Blobs, clock: Clock, *, listener: str = LISTENER) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._listener = listener
        self._noted: dict[str, tuple[str, datetime]] = {}
        keep_values_out_of_warnings()

    def add(self, received: ReceivedInstance, *, on_commit: Callable[[Transaction, Arrival], None]) -> StoredInstance:
        """Store an instance; durable on return.

        The same instance again is a success that changes nothing, though ``on_commit`` is called again. One with the
        same picture and another header, such as demographics that a PACS has reconciled, replaces the earlier one; both
        are kept.

        Parameters
        ----------
        received
            The C-STORE request.
        on_commit
            The caller's part of the commit; quick, touches only the database.

        Raises
        ------
        Problem
            ``incorrect`` when the dataset is not what the request states, ``conflict`` when this SOPInstanceUID is
            already stored with another picture, ``unavailable`` when the disk or the database fails.
        """
        attributes = read_index_attributes(received.encoded, received.TransferSyntaxUID)
        if (attributes.SOPInstanceUID, attributes.SOPClassUID) != (received.SOPInstanceUID, received.SOPClassUID):
            raise Problem(Category.INCORRECT, "the dataset's UIDs are not those of the request")
        content = received.file if received.file is not None else _file_of(received)
        sealed = self._blobs.prepare(content, received.address)
        stored = StoredInstance(
            SOPInstanceUID=attributes.SOPInstanceUID,
            SOPClassUID=attributes.SOPClassUID,
            StudyInstanceUID=attributes.StudyInstanceUID,
            SeriesInstanceUID=attributes.SeriesInstanceUID,
            Modality=attributes.Modality,
            TransferSyntaxUID=received.TransferSyntaxUID,
            blob=sealed.address,
            size=len(content),
            calling_ae=received.calling_ae,
            received_at=self._clock.now(),
        )

        def commit(tx: Transaction, earlier: StoredInstance | None = None) -> None:
            if not is_noted:
                self._note_association(tx, received.association, stored)
            is_new = _keep(tx, stored, earlier)
            if is_new:
                self._blobs.keep(tx, sealed)
            is_open = is_new and earlier is None and _keep_open(tx, stored)
            is_reconciled = is_new and earlier is not None
            on_commit(tx, Arrival(stored=stored, is_reconciled=is_reconciled, is_expected=is_noted and is_open))

        is_noted = self._is_noted(received.association, stored)
        earlier: StoredInstance | None = None
        for _ in range(VERSIONS_AT_ONCE):
            try:
                self._database.write(partial(commit, earlier=earlier))
            except _IsStored:  # it may have been replaced once more since the last look
                earlier = self._reconciled(stored, content)
            else:
                if not is_noted:
                    self._noted[received.association] = stored.StudyInstanceUID, stored.received_at
                return stored
        raise Problem(Category.BUSY, "other versions of this instance arrive at the same time")

    def digest(self) -> Digest:
        """Return what computes the address of a DICOM file while it arrives."""
        return self._blobs.digest()

    def read(self, SOPInstanceUID: str) -> bytes:
        """Return an instance as a DICOM file.

        Raises
        ------
        Problem
            ``not-found`` when there is none; ``fault`` when its bytes were altered.
        """
        with self._database.read() as connection:
            address = ADDRESS.run(connection, {"of": SOPInstanceUID}).scalar()
        if address is None:
            raise Problem(Category.NOT_FOUND, "there is no such instance")
        return self._blobs.get(address)

    def replaced(self, connection: Connection, StudyInstanceUID: str) -> Sequence[StoredInstance]:
        """Return the earlier versions of a study's instances, in the order in which they were replaced.

        Parameters
        ----------
        connection
            Open connection to the database.
        StudyInstanceUID
            The study.
        """
        columns = [replaced_instances.c[field.name] for field in fields(StoredInstance)]
        query = select(*columns).where(replaced_instances.c.StudyInstanceUID == StudyInstanceUID)
        rows = connection.execute(query.order_by(replaced_instances.c.replaced_at)).mappings()
        return [StoredInstance(**row) for row in rows]

    def _reconciled(self, stored: StoredInstance, content: Content) -> StoredInstance:
        """Return the earlier version that an instance may replace: of the same study and with the same picture.

        A PACS that splits or merges series gives an instance another SeriesInstanceUID.

        Raises
        ------
        Problem
            ``conflict`` when what is stored is not such a version.
        """
        with self._database.read() as connection:
            earlier = StoredInstance(**ROW.run(connection, {"of": stored.SOPInstanceUID}).first()._asdict())
        place = "StudyInstanceUID", "SOPClassUID"
        is_same = all(getattr(earlier, name) == getattr(stored, name) for name in place)
        if not is_same or not same_picture(self._blobs.get(earlier.blob), bytes(content)):
            raise _conflict()
        return earlier

    def instances(self, connection: Connection, StudyInstanceUID: str) -> Sequence[StoredInstance]:
        """Return the stored instances of a study, in the order of SOPInstanceUID.

        Parameters
        ----------
        connection
            Open connection to the database.
        StudyInstanceUID
            The study.
        """
        query = select(instances).where(instances.c.StudyInstanceUID == StudyInstanceUID)
        rows = connection.execute(query.order_by(instances.c.SOPInstanceUID)).mappings()
        return [StoredInstance(**row) for row in rows]

    def last_received(self, connection: Connection, StudyInstanceUID: str) -> datetime:
        """Return when the newest instance of a stored study came.

        Parameters
        ----------
        connection
            Open connection to the database.
        StudyInstanceUID
            The study.
        """
        query = select(studies.c.last_received_at).where(studies.c.StudyInstanceUID == StudyInstanceUID)
        found: datetime = connection.execute(query).scalar_one()
        return found

    def closed(self, tx: Transaction, association: str) -> list[str]:
        """Record that an association has ended; return the StudyInstanceUIDs of the instances that it sent.

        Parameters
        ----------
        tx
            The caller's transaction.
        association
            Identifier under which the association was recorded.
        """
        self._noted.pop(association, None)
        mine = associations.c.association == association
        touched = tx.execute(select(associations.c.StudyInstanceUID).where(mine)).scalars().all()
        tx.execute(delete(associations).where(mine))
        return list(touched)

    def forget_associations(self, tx: Transaction) -> list[str]:
        """Remove the associations that a former run of this listener left open; return their StudyInstanceUIDs."""
        self._noted.clear()
        mine = associations.c.listener == self._listener
        touched = tx.execute(select(associations.c.StudyInstanceUID).where(mine).distinct()).scalars().all()
        tx.execute(delete(associations).where(mine))
        return list(touched)

    def _is_noted(self, association: str, stored: StoredInstance) -> bool:
        """Return whether the row of an association that sends this study is durable and fresh."""
        study, at = self._noted.get(association, (None, stored.received_at))
        return study == stored.StudyInstanceUID and abs(stored.received_at - at) < NOTED_EVERY

    def _note_association(self, tx: Transaction, association: str, stored: StoredInstance) -> None:
        tx.execute(
            NOTE_ASSOCIATION,
            {
                "association": association,
                "study": stored.StudyInstanceUID,
                "listener": self._listener,
                "at": stored.received_at,
            },
        )


VERSIONS_AT_ONCE: Final = 20
"""So often an instance is compared with what is stored, while others with the same SOPInstanceUID are stored."""


class _IsStored(Exception):
    """Another version of the instance is stored: whether it may be replaced is looked at outside the commit."""


def _file_of(received: ReceivedInstance) -> bytes:
    return part10(
        received.encoded,
        SOPClassUID=received.SOPClassUID,
        SOPInstanceUID=received.SOPInstanceUID,
        TransferSyntaxUID=received.TransferSyntaxUID,
    )


def _conflict() -> Problem:
    return Problem(Category.CONFLICT, "another instance with this SOPInstanceUID is stored")


def _keep(tx: Transaction, stored: StoredInstance, earlier: StoredInstance | None) -> bool:
    """Index an instance; return False when it is indexed already.

    One that replaces an earlier one takes its place, and the earlier one is kept beside it.
    """
    tx.lock(f"instance {stored.SOPInstanceUID}")
    if earlier is None and tx.execute(INSERT, vars(stored)).rowcount:
        return True
    existing = tx.execute(ADDRESS, {"of": stored.SOPInstanceUID}).scalar()
    if existing == stored.blob:
        return False
    if earlier is None or existing != earlier.blob:
        raise _IsStored
    _replace(tx, stored, earlier)
    return True


def _keep_open(tx: Transaction, stored: StoredInstance) -> bool:
    """Count a new instance of its study, which is open then; return whether it was open before."""
    values = {"study": stored.StudyInstanceUID, "at": stored.received_at}
    if tx.execute(KEEP_OPEN, values).rowcount:
        return True
    tx.execute(NOTE_STUDY, values)
    return False


def _replace(tx: Transaction, stored: StoredInstance, earlier: StoredInstance) -> None:
    kept = _upsert(tx, replaced_instances).values(**vars(earlier), replaced_at=stored.received_at)
    again = {"replaced_at": stored.received_at}
    tx.execute(kept.on_conflict_do_update(index_elements=["SOPInstanceUID", "blob"], set_=again))
    mine = instances.c.SOPInstanceUID == stored.SOPInstanceUID
    tx.execute(update(instances).where(mine).values(**vars(stored)))
    study = studies.c.StudyInstanceUID == stored.StudyInstanceUID
    tx.execute(update(studies).where(study).values(last_received_at=stored.received_at, completed_at=None))
    _log.warning("instance_reconciled", instance=stored.SOPInstanceUID)


def _upsert(tx: Transaction, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if tx.connection.dialect.name == "postgresql" else sqlite.insert(table)
