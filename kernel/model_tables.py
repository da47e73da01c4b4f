"""The tables of the registry of models: the versions, what stops all of them, and which code may run."""

from sqlalchemy import Boolean, Column, PrimaryKeyConstraint, Table, Text

from kernel.columns import Instant, metadata

models = Table(
    "models",
    metadata,
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("status", Text, nullable=False, comment="shadow | active | retired"),
    Column("stopped", Boolean, nullable=False),
    Column("stop_reason", Text),
    Column("folder", Text, nullable=False, comment="where it was registered from; its files are kept by digest"),
    Column("origin", Text, nullable=False, server_default="folder", comment="bundled | folder"),
    Column("title", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("intended_use", Text, nullable=False),
    Column("declaration", Text, nullable=False, comment="JSON of model.yaml and features.yaml as registered"),
    Column("added_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("changed_by", Text, nullable=False),
    PrimaryKeyConstraint("name", "version"),
)

model_stops = Table(
    "model_stops",
    metadata,
    Column("scope", Text, primary_key=True, comment="all: holds for models that are registered later, too"),
    Column("reason", Text, nullable=False),
    Column("stopped_at", Instant, nullable=False),
    Column("stopped_by", Text, nullable=False),
)

code_permissions = Table(
    "code_permissions",
    metadata,
    Column("digest", Text, primary_key=True, comment="SHA-256 of the model folder's SHA256SUMS"),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("allowed_at", Instant, nullable=False),
    Column("allowed_by", Text, nullable=False),
)
