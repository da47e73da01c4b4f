"""Columns get the names that an engineer would look for; no row changes."""

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

RENAMED: Final = (
    ("outbox", "about", "subject"),
    ("results", "at", "computed_at"),
    ("audit_head", "one", "id"),
    ("workers", "born", "process_start"),
    ("associations", "door", "listener"),
)
"""Table, old name, new name."""

COMMENTS: Final = (
    ("outbox", "subject", "what this carries, such as a result's id"),
    ("workers", "process_start", "a process number is used again, its start time is not"),
    ("associations", "listener", "the DICOM listener that holds it open"),
)
"""Table, column, its comment in the new words."""


def upgrade() -> None:
    """Rename the columns, and the index that was named after one of them."""
    for table, old, new in RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    op.drop_index("outbox_about", "outbox")
    op.create_index("outbox_subject", "outbox", ["subject"])
    if op.get_context().dialect.supports_comments:  # SQLite keeps none
        for table, column, comment in COMMENTS:
            op.alter_column(table, column, comment=comment)
