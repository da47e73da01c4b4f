"""What clients subscribe to, and the events of each subscription."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0018"
down_revision: Final = "0017"


def upgrade() -> None:
    """Add the tables of subscriptions and their events."""
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text, primary_key=True, comment="logical id of the Subscription"),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="grows with each change of what is watched"),
        sa.Column("state", sa.Text, nullable=False, comment="requested | active | error | off"),
        sa.Column("definition", sa.Text, nullable=False, comment="the Subscription as it is stored; headers sealed"),
        sa.Column("events", sa.BigInteger, nullable=False, comment="number of its newest event"),
        sa.Column("sent", sa.BigInteger, nullable=False, comment="number of the newest event that was accepted"),
        sa.Column("sent_at", sa.BigInteger, comment="when the endpoint last accepted anything"),
        sa.Column("failures", sa.Integer, nullable=False, comment="in a row"),
        sa.Column("failing_since", sa.BigInteger),
        sa.Column("next_at", sa.BigInteger, comment="not before this time, after a failure"),
        sa.Column("problem", sa.Text, comment="of the last failure; no PHI"),
    )
    op.create_index("subscriptions_revision", "subscriptions", ["revision"])
    op.create_table(
        "subscription_events",
        sa.Column("subscription", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, comment="from 1, without gaps"),
        sa.Column("reference", sa.Text, nullable=False, comment="versioned reference of what was stored"),
        sa.Column("patient", sa.Text, comment="reference of the patient concerned"),
        sa.Column("at", sa.BigInteger, nullable=False, comment="when it was stored"),
        sa.PrimaryKeyConstraint("subscription", "number"),
        sqlite_with_rowid=False,
    )
