"""Models know whether they came with the software; a stop of all models holds for those registered later."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0009"
down_revision: Final = "0003"


def upgrade() -> None:
    """Add the column and the table.

    The next start marks the models that came with the software; until then none may run code of its own.
    """
    op.add_column(
        "models",
        sa.Column("origin", sa.Text, nullable=False, server_default="folder", comment="bundled | folder"),
    )
    op.create_table(
        "model_stops",
        sa.Column(
            "scope", sa.Text, primary_key=True, comment="all: holds for models that are registered later, too"
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("stopped_at", sa.BigInteger, nullable=False),
        sa.Column("stopped_by", sa.Text, nullable=False),
    )
