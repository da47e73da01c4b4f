"""A result names the document that made its model run; earlier rows name none."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "results", sa.Column("document", sa.Text, comment="reference of the document that made the model run")
    )
