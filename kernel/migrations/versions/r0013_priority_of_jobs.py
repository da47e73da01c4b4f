"""Jobs have a priority, and say whether they are the next one with their lock."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0013"
down_revision: Final = "0012"

_PRIORITY: Final = "of those that are due, the lowest first"
_READY: Final = "0: another job with its lock comes first"
_CLAIMABLE: Final = sa.text("status = 'waiting' AND ready = 1")


def upgrade() -> None:
    """Add the columns, and find the jobs that come first with their lock."""
    priority = sa.Column("priority", sa.Integer, nullable=False, server_default="4", comment=_PRIORITY)
    ready = sa.Column("ready", sa.Integer, nullable=False, server_default="1", comment=_READY)
    op.add_column("jobs", priority)
    op.add_column("jobs", ready)
    op.execute("UPDATE jobs SET priority = 9 WHERE lock = 'background'")
    op.execute("UPDATE jobs SET priority = 2 WHERE step = 'deliver'")
    op.execute(
        "UPDATE jobs SET ready = 0 WHERE lock IS NOT NULL AND status = 'waiting' AND EXISTS ("
        "SELECT 1 FROM jobs AS other WHERE other.lock = jobs.lock"
        " AND (other.status = 'running' OR (other.status = 'waiting' AND other.seq < jobs.seq)))"
    )
    op.drop_index("jobs_due", "jobs")
    columns = ["priority", "scheduled_at", "seq"]
    op.create_index("jobs_claimable", "jobs", columns, sqlite_where=_CLAIMABLE, postgresql_where=_CLAIMABLE)
