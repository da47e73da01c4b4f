"""Resources get a number; the search index is clustered by parameter and value, and is made again at the next start."""

import json
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0012"
down_revision: Final = "0011"

SPACE: Final = 5
"""Free space as a multiple of the size of the database: it writes every version again."""

_SEQUENCE: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BY_BYTES: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SUBJECTS: Final = ("subject", "patient", "for", "beneficiary", "individual")
_AT_A_TIME: Final = 1000


def upgrade() -> None:
    """Move heads and versions to tables with numbers, in order of arrival, and drop the old index."""
    op.drop_table("resource_index")
    op.drop_index("resource_heads_recent", "resource_heads")
    op.rename_table("resource_heads", "old_heads")
    op.rename_table("resource_versions", "old_versions")
    if op.get_context().dialect.name == "postgresql":  # the names of constraints are those of their schema
        op.execute("ALTER TABLE old_heads RENAME CONSTRAINT resource_heads_pkey TO old_heads_pkey")
        op.execute("ALTER TABLE old_versions RENAME CONSTRAINT resource_versions_pkey TO old_versions_pkey")
    _create()
    op.execute(
        "INSERT INTO resource_heads (type, id, version, deleted, last_updated)"
        " SELECT type, id, version, deleted, last_updated FROM old_heads ORDER BY last_updated, type, id"
    )
    _move_versions(op.get_bind())
    op.drop_table("old_heads")
    op.drop_table("old_versions")


def _create() -> None:
    op.create_table(
        "resource_heads",
        sa.Column("key", _SEQUENCE, primary_key=True, autoincrement=True, comment=_KEY),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("last_updated", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("type", "id"),
    )
    op.create_index("resource_heads_recent", "resource_heads", ["type", "last_updated"])
    op.create_table(
        "resource_versions",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True, comment="order of arrival, of all resources"),
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("last_updated", sa.BigInteger, nullable=False),
        sa.Column("method", sa.Text, nullable=False, comment="POST | PUT | DELETE: what made this version"),
        sa.Column("patient", sa.Text, comment="reference of the patient it concerns"),
        sa.Column("content", sa.LargeBinary, comment="the JSON as it is served; none for a deletion"),
        sa.UniqueConstraint("key", "version"),
    )
    op.create_table(
        "resource_index",
        sa.Column("param", sa.Integer, nullable=False, comment=_PARAM),
        sa.Column("value", _BY_BYTES, nullable=False, comment="code, reference, or string folded to lower case"),
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.Column("system", sa.Text, nullable=False, comment="of a token; empty where there is none"),
        sa.PrimaryKeyConstraint("param", "value", "key", "system"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "resource_dates",
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.Column("param", sa.Integer, nullable=False, comment=_PARAM),
        sa.Column("low", sa.Double, nullable=False, comment="start, in seconds since 1970"),
        sa.Column("high", sa.Double, nullable=False, comment="end, in seconds since 1970"),
        sa.PrimaryKeyConstraint("key", "param", "low", "high"),
        sqlite_with_rowid=False,
    )
    op.create_index("resource_dates_range", "resource_dates", ["param", "low"])
    op.create_table("index_state", sa.Column("fingerprint", sa.Text, primary_key=True, comment=_FINGERPRINT))


def _move_versions(connection: sa.Connection) -> None:
    """Copy the versions with the patient that each concerns, which is read from its content."""
    moved = connection.execute(sa.text(_OLD_VERSIONS)).yield_per(_AT_A_TIME).partitions()
    for rows in moved:
        versions = [
            {
                "key": row.key,
                "version": row.version,
                "at": row.last_updated,
                "method": row.method,
                "patient": _patient(row.type, row.id, row.content),
                "content": row.content,
            }
            for row in rows
        ]
        connection.execute(sa.text(_ADD_VERSION), versions)


def _patient(kind: str, resource_id: str, content: bytes | None) -> str | None:
    if content is None:
        return None
    if kind == "Patient":
        return f"Patient/{resource_id}"
    resource: dict[str, Any] = json.loads(content)
    for name in _SUBJECTS:
        subject = resource.get(name)
        if isinstance(subject, dict):
            reference = str(subject.get("reference", "")).split("/_history/", 1)[0]
            if reference.startswith("Patient/"):
                return reference
    return None


_KEY: Final = "how the other tables name the resource"
_PARAM: Final = "number of type and search parameter"
_FINGERPRINT: Final = "of the search parameters that the index was made for"

_OLD_VERSIONS: Final = (
    "SELECT head.key, old.type, old.id, old.version, old.last_updated, old.method, old.content"
    " FROM old_versions AS old JOIN resource_heads AS head ON head.type = old.type AND head.id = old.id"
    " ORDER BY old.last_updated, old.type, old.id, old.version"
)
_ADD_VERSION: Final = (
    "INSERT INTO resource_versions (key, version, last_updated, method, patient, content)"
    " VALUES (:key, :version, :at, :method, :patient, :content)"
)
