"""Deliveries are held per patient and destination, keep the peer's own words, and a destination can be paused."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

OUTBOX: Final = (
    sa.Column(
        "refusals", sa.Integer, nullable=False, server_default="0", comment="attempts that count towards parking"
    ),
    sa.Column("next_at", sa.BigInteger, comment="not before this time; none for a row that never left the order"),
    sa.Column("problem_diagnostics", sa.LargeBinary, comment="the peer's own words, sealed: may hold PHI"),
)


def upgrade() -> None:
    """Add the columns and the table of the destinations' states."""
    for column in OUTBOX:
        op.add_column("outbox", column)
    op.create_index("outbox_patient", "outbox", ["destination", "status", "patient", "seq"])
    op.create_table(
        "destination_states",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("paused_until", sa.BigInteger, comment="nothing is sent before this time"),
        sa.Column("pauses", sa.Integer, nullable=False, comment="since it last accepted something"),
        sa.Column("accepted_at", sa.BigInteger, comment="when it last accepted something"),
        sa.Column("problem_category", sa.Text),
        sa.Column("problem_detail", sa.Text),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
    )
