"""The earlier versions of instances whose header was reconciled are kept."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from kernel.tables import Instant

revision: Final = "0010"
down_revision: Final = "0009"


def upgrade() -> None:
    """Add the table."""
    texts = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
    op.create_table(
        "replaced_instances",
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        sa.Column("Modality", sa.Text),
        sa.Column("TransferSyntaxUID", sa.Text, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("calling_ae", sa.Text, nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("replaced_at", Instant, nullable=False, comment="when a reconciled version took its place"),
        sa.PrimaryKeyConstraint("SOPInstanceUID", "blob"),
    )
    op.create_index("replaced_instances_study", "replaced_instances", ["StudyInstanceUID"])
