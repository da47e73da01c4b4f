"""What is held because it contradicts what is known of its patient identifier."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"

COMMENTS: Final = (
    ("inbox", "state", "received | done | older | ambiguous | unmatched | not-production | held | rejected | parked"),
)
"""Table, column, its comment."""

_SEQUENCE: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the tables of what is held, and renew the comment of the state of a message."""
    op.create_table(
        "identity_holds",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False, comment="message | study"),
        sa.Column("subject", sa.Text, nullable=False, comment="source of the messages, or StudyInstanceUID"),
        sa.Column("patient", sa.Text, nullable=False, comment="reference of the Patient whom the identifier names"),
        sa.Column("reasons", sa.Text, nullable=False, comment="JSON list of codes; no PHI"),
        sa.Column("fingerprint", sa.Text, nullable=False, comment="keyed digest of what is stated of the person"),
        sa.Column("stated", sa.LargeBinary, nullable=False, comment="JSON, sealed: PHI"),
        sa.Column("state", sa.Text, nullable=False, comment="open | accepted | rejected"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.UniqueConstraint("kind", "subject", "patient", "fingerprint"),
    )
    op.create_index("identity_holds_state", "identity_holds", ["state", "seq"])
    op.create_table(
        "held_messages",
        sa.Column("message", sa.Text, primary_key=True, comment="id of the row of the inbox"),
        sa.Column("hold", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, comment="order of arrival within the hold"),
    )
    op.create_index("held_messages_hold", "held_messages", ["hold", "seq"])
    if op.get_context().dialect.supports_comments:  # SQLite keeps none
        for table, column, text in COMMENTS:
            op.alter_column(table, column, comment=text)
