"""The first schema."""

import sqlalchemy as sa
from alembic import op

from kernel.tables import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:  # the whole schema in the order of kernel.tables
    """Make every table."""
    op.create_table(
        "associations",
        sa.Column("association", sa.Text(), nullable=False),
        sa.Column("StudyInstanceUID", sa.Text(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False, comment="the DICOM door that holds it open"),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("association", "StudyInstanceUID"),
    )
    op.create_index("associations_study", "associations", ["StudyInstanceUID"], unique=False)
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", Instant(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False, comment="Ed25519 over the checkpoint's text"),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "audit_head",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column(
            "peaks",
            sa.LargeBinary(),
            nullable=False,
            comment="roots of the perfect subtrees, left to right, 32 bytes each",
        ),
        sa.Column("seal", sa.LargeBinary(), nullable=False, comment="keyed digest of size and peaks"),
        sa.PrimaryKeyConstraint("one"),
    )
    op.create_table(
        "audit_log",
        sa.Column("seq", Sequence, autoincrement=False, nullable=False, comment="0, 1, 2, … without gaps"),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("recorded", Instant(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False, comment="SHA-256(0x00 || event), RFC 9162 section 2.1"),
        sa.Column("event", sa.LargeBinary(), nullable=False, comment="the AuditEvent's JSON"),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=True),
        sa.Column("entity", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("audit_log_entity", "audit_log", ["entity", "seq"], unique=False)
    op.create_index("audit_log_patient", "audit_log", ["patient", "seq"], unique=False)
    op.create_table(
        "federated_rounds",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("recorded_at", Instant(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False, comment="JSON: sites, sizes, metrics, digest of the weights"),
        sa.PrimaryKeyConstraint("run", "round"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="who sent it: protocol and sender"),
        sa.Column("key", sa.Text(), nullable=False, comment="the sender's own identifier of the message (MSH-10)"),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="keyed digest of the bytes: the same key with other bytes is news",
        ),
        sa.Column("raw", sa.LargeBinary(), nullable=False, comment="the bytes as they came, sealed"),
        sa.Column("reply", sa.LargeBinary(), nullable=False, comment="the receipt that was sent, sealed"),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("state", sa.Text(), server_default="received", nullable=False, comment="received | done | parked"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "key", "digest"),
    )
    op.create_table(
        "instances",
        sa.Column("SOPInstanceUID", sa.Text(), nullable=False),
        sa.Column("SOPClassUID", sa.Text(), nullable=False),
        sa.Column("StudyInstanceUID", sa.Text(), nullable=False),
        sa.Column("SeriesInstanceUID", sa.Text(), nullable=False),
        sa.Column("Modality", sa.Text(), nullable=True),
        sa.Column("TransferSyntaxUID", sa.Text(), nullable=False),
        sa.Column("blob", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("SOPInstanceUID"),
    )
    op.create_index("instances_study", "instances", ["StudyInstanceUID"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("seq", Sequence, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False, comment="JSON; references, never PHI"),
        sa.Column("lock", sa.Text(), nullable=True, comment="jobs with the same lock run one at a time, in order"),
        sa.Column("queueing_lock", sa.Text(), nullable=True, comment="at most one job with this key waits"),
        sa.Column("scheduled_at", Instant(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="waiting | running | parked"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("problem_category", sa.Text(), nullable=True),
        sa.Column("problem_detail", sa.Text(), nullable=True),
        sa.Column("problem_diagnostics", sa.LargeBinary(), nullable=True, comment="sealed: may hold PHI"),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("jobs_due", "jobs", ["status", "scheduled_at", "seq"], unique=False)
    op.create_index("jobs_lock", "jobs", ["lock", "status", "seq"], unique=False)
    op.create_index(
        "jobs_one_running",
        "jobs",
        ["lock"],
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "jobs_one_waiting",
        "jobs",
        ["queueing_lock"],
        unique=True,
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="shadow | active | retired"),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("intended_use", sa.Text(), nullable=False),
        sa.Column(
            "declaration", sa.Text(), nullable=False, comment="JSON of model.yaml and features.yaml as registered"
        ),
        sa.Column("added_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", Sequence, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column(
            "idempotency_key", sa.Text(), nullable=False, comment="the same key is never sent as two different things"
        ),
        sa.Column("about", sa.Text(), nullable=False, comment="the result this carries"),
        sa.Column("patient", sa.Text(), nullable=True, comment="reference of the patient it discloses"),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="what is sent, sealed"),
        sa.Column("status", sa.Text(), nullable=False, comment="pending | delivered | parked"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=True, comment="what the destination answered; never PHI"),
        sa.Column("problem_category", sa.Text(), nullable=True),
        sa.Column("problem_detail", sa.Text(), nullable=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("destination", "idempotency_key"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("outbox_about", "outbox", ["about"], unique=False)
    op.create_index("outbox_pending", "outbox", ["destination", "status", "seq"], unique=False)
    op.create_table(
        "resource_heads",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("last_updated", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("type", "id"),
    )
    op.create_index("resource_heads_recent", "resource_heads", ["type", "last_updated"], unique=False)
    op.create_table(
        "resource_index",
        sa.Column("seq", Sequence, autoincrement=True, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("param", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=True, comment="of a token"),
        sa.Column("value", sa.Text(), nullable=True, comment="code, reference, or string folded to lower case"),
        sa.Column("low", sa.Double(), nullable=True, comment="start of a date (seconds since 1970) or a number"),
        sa.Column("high", sa.Double(), nullable=True, comment="end of a date or a number"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("resource_index_owner", "resource_index", ["type", "id"], unique=False)
    op.create_index("resource_index_range", "resource_index", ["type", "param", "low"], unique=False)
    op.create_index("resource_index_value", "resource_index", ["type", "param", "value", "id"], unique=False)
    op.create_table(
        "resource_versions",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("last_updated", Instant(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False, comment="POST | PUT | DELETE: what made this version"),
        sa.Column("content", sa.LargeBinary(), nullable=True, comment="the JSON as it is served; none for a deletion"),
        sa.PrimaryKeyConstraint("type", "id", "version"),
    )
    op.create_table(
        "results",
        sa.Column("seq", Sequence, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False, comment="hash of model, version, digest and input versions"),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="of the model when it spoke: shadow | active"),
        sa.Column("kind", sa.Text(), nullable=False, comment="prediction | declined | failed | stopped"),
        sa.Column("summary", sa.Text(), nullable=False, comment="one line for a person, no PHI"),
        sa.Column("subject", sa.Text(), nullable=False, comment="reference of the patient"),
        sa.Column("study", sa.Text(), nullable=True, comment="StudyInstanceUID, for an imaging result"),
        sa.Column(
            "resources", sa.Text(), nullable=False, comment="JSON list of the versioned references that were written"
        ),
        sa.Column("inputs", sa.Text(), nullable=False, comment="JSON list of the versioned inputs"),
        sa.Column("image", sa.Text(), nullable=True, comment="blob address of the image as the model saw it (PNG)"),
        sa.Column("heat_map", sa.Text(), nullable=True, comment="blob address of the heat map over the image (PNG)"),
        sa.Column("at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("results_study", "results", ["study", "model"], unique=False)
    op.create_index("results_subject", "results", ["subject", "model"], unique=False)
    op.create_table(
        "studies",
        sa.Column("StudyInstanceUID", sa.Text(), nullable=False),
        sa.Column(
            "revision", sa.Integer(), nullable=False, comment="0 while incomplete; a late instance opens the next one"
        ),
        sa.Column("instances", sa.Integer(), nullable=False, comment="how many the newest revision holds"),
        sa.Column("last_received_at", Instant(), nullable=False),
        sa.Column("completed_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("StudyInstanceUID"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "born",
            sa.Text(),
            nullable=False,
            comment="when the process began: a number is handed out again, a birth is not",
        ),
        sa.Column("heartbeat_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
