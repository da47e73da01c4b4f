"""Models know whether they came with the software; a stop of all models holds for later ones; shadow is hidden."""

import json
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"

TAGGED: Final = frozenset({"DiagnosticReport", "Observation", "Provenance", "RiskAssessment"})
"""Resources that belong to one result."""


def upgrade() -> None:
    """Add the column and the table, and hide from searches what models in shadow have said.

    The next start marks the models that came with the software; until then none may run code of its own.
    """
    op.add_column(
        "models",
        sa.Column("origin", sa.Text, nullable=False, server_default="folder", comment="bundled | folder"),
    )
    op.create_table(
        "model_stops",
        sa.Column("scope", sa.Text, primary_key=True, comment="all: holds for models that are registered later, too"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("stopped_at", sa.BigInteger, nullable=False),
        sa.Column("stopped_by", sa.Text, nullable=False),
    )
    _tag_shadow()


def _tag_shadow() -> None:
    """Index the resources of shadow results as if they had the tag that such results have from now on."""
    connection = op.get_bind()
    results = sa.table("results", sa.column("status", sa.Text), sa.column("resources", sa.Text))
    index = sa.table(
        "resource_index", *(sa.column(name, sa.Text) for name in ("type", "id", "param", "system", "value"))
    )
    tag = {"param": "_tag", "system": "urn:ausculta:model-status", "value": "shadow"}
    written = connection.execute(sa.select(results.c.resources).where(results.c.status == "shadow")).scalars().all()
    named = {tuple(reference.split("/")[:2]) for text in written for reference in json.loads(text)}
    rows = [{"type": kind, "id": identifier} | tag for kind, identifier in sorted(named) if kind in TAGGED]
    if rows:
        connection.execute(sa.insert(index), rows)
