"""Results name their artefacts and the version of this software; earlier rows keep their pictures as they were."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"

RESULTS: Final = (
    sa.Column(
        "artefacts",
        sa.Text,
        nullable=False,
        server_default="[]",
        comment="JSON list of name, kind, media_type, blob, shape and geometry",
    ),
    sa.Column("software_version", sa.Text, comment="of this server; none for results before revision 0004"),
)


def upgrade() -> None:
    """Add the columns."""
    for column in RESULTS:
        op.add_column("results", column)
