"""How a sender identified an Observation, so that a message that writes it differently finds it."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0014"
down_revision: Final = "0013"

COMMENTS: Final = (
    ("resource_events", "observed", "OBX-14, else OBR-7"),
    (
        "inbox",
        "state",
        "received | done | older | ambiguous | unmatched | dismissed | not-production | held | rejected | parked",
    ),
)
"""Table, column, its comment."""


def upgrade() -> None:
    """Create the table. What was stored before has no row: only a correction or a withdrawal finds it."""
    op.create_table(
        "observation_origins",
        sa.Column("id", sa.Text, primary_key=True, comment="of the Observation"),
        sa.Column("patient", sa.Text, nullable=False, comment="id of its Patient when it was received"),
        sa.Column("sender", sa.Text, nullable=False, comment="MSH-3 and MSH-4"),
        sa.Column("placer", sa.Text, nullable=False, comment="OBR-2"),
        sa.Column("filler", sa.Text, nullable=False, comment="OBR-3"),
        sa.Column("sub_id", sa.Text, nullable=False, comment="OBX-4"),
        sa.Column("codes", sa.Text, nullable=False, comment="the codings of OBX-3, one a line"),
        sa.Column("start", sa.Double, nullable=False, comment="of its time, in seconds since 1970"),
        sa.Column("end", sa.Double, nullable=False, comment="of its time, in seconds since 1970"),
    )
    op.create_index("observation_origins_of_patient", "observation_origins", ["patient", "start"])
    if op.get_context().dialect.supports_comments:  # SQLite keeps none
        for table, column, text in COMMENTS:
            op.alter_column(table, column, comment=text)
