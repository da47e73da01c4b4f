"""Results keep their reason, state, numbers, features and latency; large payloads of the outbox lie in blobs."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

REFUSAL: Final = "AI result not available: "
"""Began the summary of every refusal when this revision was written."""

RESULTS: Final = (
    sa.Column("reason", sa.Text, comment="why there is no prediction; none where there is one"),
    sa.Column(
        "state",
        sa.Text,
        nullable=False,
        server_default="preliminary",
        comment="preliminary | amended | superseded | withdrawn | entered-in-error",
    ),
    sa.Column("superseded_by", sa.Text, comment="id of the result that replaced this one"),
    sa.Column("subject_version", sa.Text, comment="versioned reference of the Patient as it was read"),
    sa.Column("outputs", sa.Text, nullable=False, server_default="[]", comment="JSON list of what the model answered"),
    sa.Column("features", sa.Text, nullable=False, server_default="[]", comment="JSON list: what became of each"),
    sa.Column("latency_ms", sa.Double, comment="of the model, its queue included"),
)


def upgrade() -> None:
    """Add the columns and take the reason of earlier refusals from their summaries."""
    for column in RESULTS:
        op.add_column("results", column)
    results = sa.table(
        "results", sa.column("kind", sa.Text), sa.column("summary", sa.Text), sa.column("reason", sa.Text)
    )
    reason = sa.func.substr(results.c.summary, len(REFUSAL) + 1)
    refused = sa.and_(results.c.kind != "prediction", results.c.summary.startswith(REFUSAL))
    op.execute(sa.update(results).where(refused).values(reason=reason))
    op.add_column("outbox", sa.Column("payload_blob", sa.Text, comment="blob address of a large payload"))
