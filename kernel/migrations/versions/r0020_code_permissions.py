"""Which code of models may run: the digests that an operator allows."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0020"
down_revision: Final = "0019"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "code_permissions",
        sa.Column("digest", sa.Text, primary_key=True, comment="SHA-256 of the model folder's SHA256SUMS"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("allowed_at", sa.BigInteger, nullable=False),
        sa.Column("allowed_by", sa.Text, nullable=False),
    )
