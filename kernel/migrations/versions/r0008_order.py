"""Resources know the event that made them; results know what they state, whatever was said before them."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"

COMMENTS: Final = (
    ("inbox", "state", "received | done | older | parked"),
    ("results", "id", "statement, or the hash of it and of what it follows"),
)
"""Table, column, its comment."""


def upgrade() -> None:
    """Add the table and the column. An earlier result states what its id says."""
    names = ("type", "id", "source", "status", "observed", "changed", "sent")
    comments = {
        "source": "stated | quoted | admission",
        "status": "of a result, else empty",
        "observed": "OBR-7",
        "changed": "OBR-22 or EVN-2",
        "sent": "MSH-7",
    }
    op.create_table(
        "resource_events",
        *(sa.Column(name, sa.Text, nullable=False, comment=comments.get(name)) for name in names),
        sa.PrimaryKeyConstraint("type", "id", "source"),
    )
    comment = "hash of what it says, whatever was said before"
    op.add_column("results", sa.Column("statement", sa.Text, nullable=False, server_default="", comment=comment))
    op.execute("UPDATE results SET statement = id")
    op.create_index("results_statement", "results", ["statement"])
    if op.get_context().dialect.supports_comments:  # SQLite keeps none
        for table, column, text in COMMENTS:
            op.alter_column(table, column, comment=text)
