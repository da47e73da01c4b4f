"""How many jobs a process runs at a time, so that one can tell a listener from a worker."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0015"
down_revision: Final = "0014"


def upgrade() -> None:
    """Add the column; the rows of processes that run are written again when they start."""
    comment = "jobs at a time; a listener runs none"
    op.add_column("workers", sa.Column("threads", sa.Integer, nullable=False, server_default="0", comment=comment))
