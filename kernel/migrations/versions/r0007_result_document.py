"""A result names the document that made its model run; earlier rows name none. Two comments of columns are renewed."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"

COMMENTS: Final = (
    ("outbox", "status", "pending | delivered | parked | dismissed | superseded"),
    ("models", "folder", "where it was registered from; its files are kept by digest"),
)
"""Table, column, its comment."""


def upgrade() -> None:
    """Add the column, and renew the comments where the database keeps them."""
    op.add_column(
        "results", sa.Column("document", sa.Text, comment="reference of the document that made the model run")
    )
    if op.get_context().dialect.supports_comments:  # SQLite keeps none
        for table, column, comment in COMMENTS:
            op.alter_column(table, column, comment=comment)
