"""Bulk exports: what was asked for, how far it is, and the files."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0019"
down_revision: Final = "0018"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "exports",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, nullable=False, comment="who asked for it"),
        sa.Column("url", sa.Text, nullable=False, comment="of the kick-off"),
        sa.Column("request", sa.Text, nullable=False, comment="JSON: level, types, filters"),
        sa.Column("state", sa.Text, nullable=False, comment="accepted | running | complete | failed | cancelled"),
        sa.Column("transaction_time", sa.BigInteger, comment="the resources are those of this time"),
        sa.Column("as_of", sa.BigInteger, nullable=False, server_default="0", comment="newest version at that time"),
        sa.Column("written", sa.BigInteger, nullable=False, server_default="0", comment="resources so far"),
        sa.Column("outputs", sa.Text, nullable=False, server_default="[]", comment="JSON list of the files"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, comment="when the files are deleted"),
    )
