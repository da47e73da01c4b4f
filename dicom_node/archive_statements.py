"""The statements with which an instance is stored, compiled once (see :mod:`kernel.statements`)."""

from typing import Final

from sqlalchemy import bindparam, select, text

from kernel.statements import Statement
from kernel.tables import Instant, instances

ADDRESS: Final = Statement(select(instances.c.blob).where(instances.c.SOPInstanceUID == bindparam("of")))
ROW: Final = Statement(select(instances).where(instances.c.SOPInstanceUID == bindparam("of")))
INSERT: Final = Statement(
    text(
        'INSERT INTO instances ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",'
        ' "TransferSyntaxUID", blob, size, calling_ae, received_at)'
        " VALUES (:SOPInstanceUID, :SOPClassUID, :StudyInstanceUID, :SeriesInstanceUID, :Modality,"
        " :TransferSyntaxUID, :blob, :size, :calling_ae, :received_at)"
        ' ON CONFLICT ("SOPInstanceUID") DO NOTHING'
    ).bindparams(*(bindparam(column.name, type_=column.type) for column in instances.columns))
)
"""Index an instance, unless one with its SOPInstanceUID is."""
KEEP_OPEN: Final = Statement(
    text(
        "UPDATE studies SET instances = instances + 1, last_received_at = :at"
        ' WHERE "StudyInstanceUID" = :study AND completed_at IS NULL'
    ).bindparams(bindparam("at", type_=Instant))
)
"""Count an instance of a study that is open; it changes no row when there is none, or when it is complete."""
NOTE_STUDY: Final = Statement(
    text(
        'INSERT INTO studies ("StudyInstanceUID", revision, instances, last_received_at)'
        " VALUES (:study, 0, 1, :at)"
        ' ON CONFLICT ("StudyInstanceUID") DO UPDATE SET instances = studies.instances + 1,'
        " last_received_at = excluded.last_received_at, completed_at = NULL"
    ).bindparams(bindparam("at", type_=Instant))
)
"""Open the study, or open it again."""

NOTE_ASSOCIATION: Final = Statement(
    text(
        'INSERT INTO associations (association, "StudyInstanceUID", listener, seen_at)'
        " VALUES (:association, :study, :listener, :at)"
        ' ON CONFLICT (association, "StudyInstanceUID") DO UPDATE SET seen_at = excluded.seen_at'
    ).bindparams(bindparam("at", type_=Instant))
)
