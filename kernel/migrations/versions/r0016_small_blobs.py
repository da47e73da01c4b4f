"""Small blobs are rows: their bytes are part of the commit that refers to them."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0016"
down_revision: Final = "0015"


def upgrade() -> None:
    """Create the table. What was stored before stays in its files."""
    op.create_table(
        "small_blobs",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False, comment="the content, sealed: PHI"),
    )
    if op.get_context().dialect.name == "postgresql":  # what is encrypted cannot be made smaller
        op.execute("ALTER TABLE small_blobs ALTER COLUMN sealed SET STORAGE EXTERNAL")
