"""A message may correct or delete what is not stored."""

from typing import Final

from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"

COMMENTS: Final = (("inbox", "state", "received | done | older | ambiguous | unmatched | not-production | parked"),)
"""Table, column, its comment."""


def upgrade() -> None:
    """Renew the comment of the column; its values are text."""
    if op.get_context().dialect.supports_comments:  # SQLite keeps none
        for table, column, text in COMMENTS:
            op.alter_column(table, column, comment=text)
