"""The search index holds numbers and quantities, and finds what a resource has in it."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0017"
down_revision: Final = "0016"

_BRANCH: Final = "number of the branch of search parameters"
COMMENTS: Final = (
    ("resource_index", "param", _BRANCH),
    ("resource_index", "value", "code, reference, URI, or string folded to lower case"),
    ("resource_index", "system", "of a token; of a string how it is written, if that is another"),
    ("resource_dates", "param", _BRANCH),
)


def upgrade() -> None:
    """Create the table and the index, and empty the others: the next start makes all rows, by other parameters."""
    for name in ("resource_index", "resource_dates", "index_state"):
        op.execute(f"DELETE FROM {name}")  # noqa: S608 - names of our own
    op.create_table(
        "resource_measures",
        sa.Column("param", sa.Integer, nullable=False, comment=_BRANCH),
        sa.Column("unit", sa.Text, nullable=False, comment="base units of UCUM, else system and code of the unit"),
        sa.Column("low", sa.Double, nullable=False, comment="in that unit"),
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.Column("high", sa.Double, nullable=False, comment="in that unit"),
        sa.Column("written_low", sa.Double, nullable=False, comment="as it was sent"),
        sa.Column("written_high", sa.Double, nullable=False, comment="as it was sent"),
        sa.Column("code", sa.Text, nullable=False, comment="of the unit"),
        sa.Column("text", sa.Text, nullable=False, comment="the unit in words, if that is another text"),
        sa.PrimaryKeyConstraint("param", "unit", "low", "key", "high", "code", "text"),
        sqlite_with_rowid=False,
    )
    op.create_index("resource_measures_of_resource", "resource_measures", ["key", "param"])
    op.create_index("resource_index_of_resource", "resource_index", ["key", "param"])
    if op.get_context().dialect.name == "postgresql":
        for table, column, comment in COMMENTS:
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{comment}'")
