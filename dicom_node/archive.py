"""The archive of received instances: the bytes in an encrypted blob, then an index row.

``add`` returns when both are durable. The caller's rows (the study's waiting job) are part of the same commit.
The dataset is stored byte for byte; only the file meta information before it is made here (PS3.10 section 7.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from dicom_node.encoding import keep_values_out_of_warnings, part10, read_index_attributes
from dicom_node.listener.association import ReceivedInstance
from kernel.blobs import Blobs
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.tables import associations, instances, studies

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
        keep_values_out_of_warnings()

    def add(
        self, received: ReceivedInstance, *, on_commit: Callable[[Transaction, StoredInstance], None]
    ) -> StoredInstance:
        """Store an instance; durable on return.

        The same instance again is a success that changes nothing, though ``on_commit`` is called again.

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
            already stored with other content, ``unavailable`` when the disk or the database fails.
        """
        attributes = read_index_attributes(received.encoded, received.TransferSyntaxUID)
        if (attributes.SOPInstanceUID, attributes.SOPClassUID) != (received.SOPInstanceUID, received.SOPClassUID):
            raise Problem(Category.INCORRECT, "the dataset's UIDs are not those of the request")
        content = part10(
            received.encoded,
            SOPClassUID=received.SOPClassUID,
            SOPInstanceUID=received.SOPInstanceUID,
            TransferSyntaxUID=received.TransferSyntaxUID,
        )
        stored = StoredInstance(
            SOPInstanceUID=attributes.SOPInstanceUID,
            SOPClassUID=attributes.SOPClassUID,
            StudyInstanceUID=attributes.StudyInstanceUID,
            SeriesInstanceUID=attributes.SeriesInstanceUID,
            Modality=attributes.Modality,
            TransferSyntaxUID=received.TransferSyntaxUID,
            blob=self._blobs.put(content),
            size=len(content),
            calling_ae=received.calling_ae,
            received_at=self._clock.now(),
        )

        def commit(tx: Transaction) -> None:
            self._note_association(tx, received.association, stored)
            if _is_new(tx, stored):
                tx.execute(insert(instances), vars(stored))
                _note_study(tx, stored)
            on_commit(tx, stored)

        self._database.write(commit)
        return stored

    def read(self, SOPInstanceUID: str) -> bytes:
        """Return an instance as a DICOM file.

        Raises
        ------
        Problem
            ``not-found`` when there is none; ``fault`` when its bytes were altered.
        """
        with self._database.read() as connection:
            query = select(instances.c.blob).where(instances.c.SOPInstanceUID == SOPInstanceUID)
            address = connection.execute(query).scalar_one_or_none()
        if address is None:
            raise Problem(Category.NOT_FOUND, "there is no such instance")
        return self._blobs.get(address)

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

    def closed(self, tx: Transaction, association: str) -> list[str]:
        """Record that an association has ended; return the StudyInstanceUIDs of the instances that it sent.

        Parameters
        ----------
        tx
            The caller's transaction.
        association
            Identifier under which the association was recorded.
        """
        mine = associations.c.association == association
        touched = tx.execute(select(associations.c.StudyInstanceUID).where(mine)).scalars().all()
        tx.execute(delete(associations).where(mine))
        return list(touched)

    def forget_associations(self, tx: Transaction) -> list[str]:
        """Remove the associations that a former run of this listener left open; return their StudyInstanceUIDs."""
        mine = associations.c.listener == self._listener
        touched = tx.execute(select(associations.c.StudyInstanceUID).where(mine).distinct()).scalars().all()
        tx.execute(delete(associations).where(mine))
        return list(touched)

    def _note_association(self, tx: Transaction, association: str, stored: StoredInstance) -> None:
        values = {
            "association": association,
            "StudyInstanceUID": stored.StudyInstanceUID,
            "listener": self._listener,
            "seen_at": stored.received_at,
        }
        upsert = _upsert(tx, associations).values(values)
        tx.execute(
            upsert.on_conflict_do_update(
                index_elements=["association", "StudyInstanceUID"], set_={"seen_at": stored.received_at}
            )
        )


def _is_new(tx: Transaction, stored: StoredInstance) -> bool:
    tx.lock(f"instance {stored.SOPInstanceUID}")
    query = select(instances.c.blob).where(instances.c.SOPInstanceUID == stored.SOPInstanceUID)
    existing = tx.execute(query).scalar_one_or_none()
    if existing is not None and existing != stored.blob:
        raise Problem(Category.CONFLICT, "another instance with this SOPInstanceUID is stored")
    return existing is None


def _note_study(tx: Transaction, stored: StoredInstance) -> None:
    """Open the study, or open it again: ``completed_at`` is cleared."""
    upsert = _upsert(tx, studies).values(
        StudyInstanceUID=stored.StudyInstanceUID,
        revision=0,
        instances=1,
        last_received_at=stored.received_at,
        completed_at=None,
    )
    again = {
        "instances": studies.c.instances + 1,
        "last_received_at": stored.received_at,
        "completed_at": None,
    }
    tx.execute(upsert.on_conflict_do_update(index_elements=["StudyInstanceUID"], set_=again))


def _upsert(tx: Transaction, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if tx.connection.dialect.name == "postgresql" else sqlite.insert(table)
