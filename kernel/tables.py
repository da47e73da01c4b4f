"""Every table, in one place, for one database and one commit.

SQLite and PostgreSQL get the same tables. Columns that hold received messages are encrypted by the caller (see
:class:`kernel.blobs.Cipher`).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from kernel.columns import ByBytes, Instant, Sequence, metadata
from kernel.model_tables import code_permissions, model_stops, models

__all__ = ["Instant", "code_permissions", "metadata", "model_stops", "models"]

inbox = Table(
    "inbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", Text, nullable=False, comment="who sent it: protocol and sender"),
    Column("key", Text, nullable=False, comment="the sender's own identifier of the message (MSH-10)"),
    Column("digest", Text, nullable=False, comment="keyed digest of the bytes: the same key with other bytes is news"),
    Column("raw", LargeBinary, nullable=False, comment="the bytes as they came, sealed"),
    Column("reply", LargeBinary, nullable=False, comment="the receipt that was sent, sealed"),
    Column("received_at", Instant, nullable=False),
    Column(
        "state",
        Text,
        nullable=False,
        server_default="received",
        comment="received | done | older | ambiguous | unmatched | dismissed"
        " | not-production | held | rejected | parked",
    ),
    UniqueConstraint("source", "key", "digest"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("step", Text, nullable=False),
    Column("payload", Text, nullable=False, comment="JSON; references, never PHI"),
    Column("lock", Text, comment="jobs with the same lock run one at a time, in order"),
    Column("queueing_lock", Text, comment="at most one job with this key waits"),
    Column("scheduled_at", Instant, nullable=False),
    Column("priority", Integer, nullable=False, server_default="4", comment="of those that are due, the lowest first"),
    Column("ready", Integer, nullable=False, server_default="1", comment="0: another job with its lock comes first"),
    Column("status", Text, nullable=False, comment="waiting | running | parked"),
    Column("attempts", Integer, nullable=False),
    Column("worker", Text),
    Column("problem_category", Text),
    Column("problem_detail", Text),
    Column("problem_diagnostics", LargeBinary, comment="sealed: may hold PHI"),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
)
Index(
    "jobs_claimable",
    jobs.c.priority,
    jobs.c.scheduled_at,
    jobs.c.seq,
    sqlite_where=text("status = 'waiting' AND ready = 1"),
    postgresql_where=text("status = 'waiting' AND ready = 1"),
)
Index("jobs_lock", jobs.c.lock, jobs.c.status, jobs.c.seq)
Index(
    "jobs_one_running",
    jobs.c.lock,
    unique=True,
    sqlite_where=text("status = 'running'"),
    postgresql_where=text("status = 'running'"),
)
Index(
    "jobs_one_waiting",
    jobs.c.queueing_lock,
    unique=True,
    sqlite_where=text("status = 'waiting'"),
    postgresql_where=text("status = 'waiting'"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_start", Text, nullable=False, comment="a process number is used again, its start time is not"),
    Column("heartbeat_at", Instant, nullable=False),
    Column("threads", Integer, nullable=False, server_default="0", comment="jobs at a time; a listener runs none"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("destination", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False, comment="the same key is never sent as two different things"),
    Column("subject", Text, nullable=False, comment="what this carries, such as a result's id"),
    Column("patient", Text, comment="reference of the patient it discloses"),
    Column("payload", LargeBinary, nullable=False, comment="what is sent, sealed"),
    Column("payload_blob", Text, comment="blob address of a large payload"),
    Column("status", Text, nullable=False, comment="pending | delivered | parked | dismissed | superseded"),
    Column("attempts", Integer, nullable=False),
    Column("refusals", Integer, nullable=False, server_default="0", comment="attempts that count towards parking"),
    Column("next_at", Instant, comment="not before this time; none for a row that never left the order"),
    Column("receipt", Text, comment="what the destination answered; never PHI"),
    Column("problem_category", Text),
    Column("problem_detail", Text),
    Column("problem_diagnostics", LargeBinary, comment="the peer's own words, sealed: may hold PHI"),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    UniqueConstraint("destination", "idempotency_key"),
)
Index("outbox_pending", outbox.c.destination, outbox.c.status, outbox.c.seq)
Index("outbox_patient", outbox.c.destination, outbox.c.status, outbox.c.patient, outbox.c.seq)
Index("outbox_subject", outbox.c.subject)

destination_states = Table(
    "destination_states",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_until", Instant, comment="nothing is sent before this time"),
    Column("pauses", Integer, nullable=False, comment="since it last accepted something"),
    Column("accepted_at", Instant, comment="when it last accepted something"),
    Column("problem_category", Text),
    Column("problem_detail", Text),
    Column("changed_at", Instant, nullable=False),
)

resource_heads = Table(
    "resource_heads",
    metadata,
    Column("key", Sequence, primary_key=True, autoincrement=True, comment="how the other tables name the resource"),
    Column("type", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("last_updated", Instant, nullable=False),
    UniqueConstraint("type", "id"),
)
Index("resource_heads_recent", resource_heads.c.type, resource_heads.c.last_updated)

resource_versions = Table(
    "resource_versions",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True, comment="order of arrival, of all resources"),
    Column("key", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("last_updated", Instant, nullable=False),
    Column("method", Text, nullable=False, comment="POST | PUT | DELETE: what made this version"),
    Column("patient", Text, comment="reference of the patient it concerns"),
    Column("content", LargeBinary, comment="the JSON as it is served; none for a deletion"),
    UniqueConstraint("key", "version"),
)

resource_events = Table(
    "resource_events",
    metadata,
    Column("type", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("source", Text, nullable=False, comment="stated | quoted | admission"),
    Column("status", Text, nullable=False, comment="of a result, else empty"),
    Column("observed", Text, nullable=False, comment="OBX-14, else OBR-7"),
    Column("changed", Text, nullable=False, comment="OBR-22 or EVN-2"),
    Column("sent", Text, nullable=False, comment="MSH-7"),
    PrimaryKeyConstraint("type", "id", "source"),
)

observation_origins = Table(
    "observation_origins",
    metadata,
    Column("id", Text, primary_key=True, comment="of the Observation"),
    Column("patient", Text, nullable=False, comment="id of its Patient when it was received"),
    Column("sender", Text, nullable=False, comment="MSH-3 and MSH-4"),
    Column("placer", Text, nullable=False, comment="OBR-2"),
    Column("filler", Text, nullable=False, comment="OBR-3"),
    Column("sub_id", Text, nullable=False, comment="OBX-4"),
    Column("codes", Text, nullable=False, comment="the codings of OBX-3, one a line"),
    Column("start", Double, nullable=False, comment="of its time, in seconds since 1970"),
    Column("end", Double, nullable=False, comment="of its time, in seconds since 1970"),
)
Index("observation_origins_of_patient", observation_origins.c.patient, observation_origins.c.start)

resource_index = Table(
    "resource_index",
    metadata,
    Column("param", Integer, nullable=False, comment="number of the branch of search parameters"),
    Column("value", ByBytes, nullable=False, comment="code, reference, URI, or string folded to lower case"),
    Column("key", BigInteger, nullable=False),
    Column("system", Text, nullable=False, comment="of a token; of a string how it is written, if that is another"),
    PrimaryKeyConstraint("param", "value", "key", "system"),
    sqlite_with_rowid=False,
)
Index("resource_index_of_resource", resource_index.c.key, resource_index.c.param)

resource_dates = Table(
    "resource_dates",
    metadata,
    Column("key", BigInteger, nullable=False),
    Column("param", Integer, nullable=False, comment="number of the branch of search parameters"),
    Column("low", Double, nullable=False, comment="start, in seconds since 1970"),
    Column("high", Double, nullable=False, comment="end, in seconds since 1970"),
    PrimaryKeyConstraint("key", "param", "low", "high"),
    sqlite_with_rowid=False,
)
Index("resource_dates_range", resource_dates.c.param, resource_dates.c.low)

resource_measures = Table(
    "resource_measures",
    metadata,
    Column("param", Integer, nullable=False, comment="number of the branch of search parameters"),
    Column("unit", Text, nullable=False, comment="base units of UCUM, else system and code of the unit"),
    Column("low", Double, nullable=False, comment="in that unit"),
    Column("key", BigInteger, nullable=False),
    Column("high", Double, nullable=False, comment="in that unit"),
    Column("written_low", Double, nullable=False, comment="as it was sent"),
    Column("written_high", Double, nullable=False, comment="as it was sent"),
    Column("code", Text, nullable=False, comment="of the unit"),
    Column("text", Text, nullable=False, comment="the unit in words, if that is another text"),
    PrimaryKeyConstraint("param", "unit", "low", "key", "high", "code", "text"),
    sqlite_with_rowid=False,
)
Index("resource_measures_of_resource", resource_measures.c.key, resource_measures.c.param)

index_state = Table(
    "index_state",
    metadata,
    Column("fingerprint", Text, primary_key=True, comment="of the search parameters that the index was made for"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("client", Text, nullable=False, comment="who asked for it"),
    Column("url", Text, nullable=False, comment="of the kick-off"),
    Column("request", Text, nullable=False, comment="JSON: level, types, filters"),
    Column("state", Text, nullable=False, comment="accepted | running | complete | failed | cancelled"),
    Column("transaction_time", Instant, comment="the resources are those of this time"),
    Column("as_of", BigInteger, nullable=False, server_default="0", comment="newest version at that time"),
    Column("written", BigInteger, nullable=False, server_default="0", comment="resources so far"),
    Column("outputs", Text, nullable=False, server_default="[]", comment="JSON list of the files"),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, comment="when the files are deleted"),
)

results = Table(
    "results",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True, comment="statement, or the hash of it and of what it follows"),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("status", Text, nullable=False, comment="of the model when it spoke: shadow | active"),
    Column("kind", Text, nullable=False, comment="prediction | declined | failed | stopped"),
    Column("summary", Text, nullable=False, comment="one line for a person, no PHI"),
    Column("subject", Text, nullable=False, comment="reference of the patient"),
    Column("study", Text, comment="StudyInstanceUID, for an imaging result"),
    Column("document", Text, comment="reference of the document that made the model run"),
    Column("resources", Text, nullable=False, comment="JSON list of the versioned references that were written"),
    Column("inputs", Text, nullable=False, comment="JSON list of the versioned inputs"),
    Column("image", Text, comment="blob address of the image as the model saw it (PNG)"),
    Column("heat_map", Text, comment="blob address of the heat map over the image (PNG)"),
    Column("reason", Text, comment="why there is no prediction; none where there is one"),
    Column(
        "state",
        Text,
        nullable=False,
        server_default="preliminary",
        comment="preliminary | amended | superseded | withdrawn | entered-in-error",
    ),
    Column("superseded_by", Text, comment="id of the result that replaced this one"),
    Column("subject_version", Text, comment="versioned reference of the Patient as it was read"),
    Column("outputs", Text, nullable=False, server_default="[]", comment="JSON list of what the model answered"),
    Column("features", Text, nullable=False, server_default="[]", comment="JSON list: what became of each"),
    Column("latency_ms", Double, comment="of the model, its queue included"),
    Column(
        "artefacts",
        Text,
        nullable=False,
        server_default="[]",
        comment="JSON list of name, kind, media_type, blob, shape and geometry",
    ),
    Column("software_version", Text, comment="of this server; none for results before revision 0004"),
    Column(
        "statement", Text, nullable=False, server_default="", comment="hash of what it says, whatever was said before"
    ),
    Column("computed_at", Instant, nullable=False),
)
Index("results_subject", results.c.subject, results.c.model)
Index("results_statement", results.c.statement)
Index("results_study", results.c.study, results.c.model)

audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=False, comment="0, 1, 2, … without gaps"),
    Column("id", Text, nullable=False, unique=True),
    Column("recorded", Instant, nullable=False),
    Column("leaf", LargeBinary, nullable=False, comment="SHA-256(0x00 || event), RFC 9162 section 2.1"),
    Column("event", LargeBinary, nullable=False, comment="the AuditEvent's JSON"),
    Column("action", Text, nullable=False),
    Column("patient", Text),
    Column("entity", Text),
)
Index("audit_log_patient", audit_log.c.patient, audit_log.c.seq)
Index("audit_log_entity", audit_log.c.entity, audit_log.c.seq)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("peaks", LargeBinary, nullable=False, comment="roots of the perfect subtrees, left to right, 32 bytes each"),
    Column("seal", LargeBinary, nullable=False, comment="keyed digest of size and peaks"),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("signed_at", Instant, nullable=False),
    Column("signature", LargeBinary, nullable=False, comment="Ed25519 over the checkpoint's text"),
)

small_blobs = Table(
    "small_blobs",
    metadata,
    Column("address", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False, comment="the content, sealed: PHI"),
)

instances = Table(
    "instances",
    metadata,
    Column("SOPInstanceUID", Text, primary_key=True),
    Column("SOPClassUID", Text, nullable=False),
    Column("StudyInstanceUID", Text, nullable=False),
    Column("SeriesInstanceUID", Text, nullable=False),
    Column("Modality", Text),
    Column("TransferSyntaxUID", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
)
Index("instances_study", instances.c.StudyInstanceUID)

replaced_instances = Table(
    "replaced_instances",
    metadata,
    Column("SOPInstanceUID", Text, nullable=False),
    Column("SOPClassUID", Text, nullable=False),
    Column("StudyInstanceUID", Text, nullable=False),
    Column("SeriesInstanceUID", Text, nullable=False),
    Column("Modality", Text),
    Column("TransferSyntaxUID", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("replaced_at", Instant, nullable=False, comment="when a reconciled version took its place"),
    PrimaryKeyConstraint("SOPInstanceUID", "blob"),
)
Index("replaced_instances_study", replaced_instances.c.StudyInstanceUID)

studies = Table(
    "studies",
    metadata,
    Column("StudyInstanceUID", Text, primary_key=True),
    Column("revision", Integer, nullable=False, comment="0 while incomplete; a late instance opens the next one"),
    Column("instances", Integer, nullable=False, comment="how many the newest revision holds"),
    Column("last_received_at", Instant, nullable=False),
    Column("completed_at", Instant),
)

identity_holds = Table(
    "identity_holds",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False, comment="message | study"),
    Column("subject", Text, nullable=False, comment="source of the messages, or StudyInstanceUID"),
    Column("patient", Text, nullable=False, comment="reference of the Patient whom the identifier names"),
    Column("reasons", Text, nullable=False, comment="JSON list of codes; no PHI"),
    Column("fingerprint", Text, nullable=False, comment="keyed digest of what is stated of the person"),
    Column("stated", LargeBinary, nullable=False, comment="JSON, sealed: PHI"),
    Column("state", Text, nullable=False, comment="open | accepted | rejected"),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("decided_by", Text),
    UniqueConstraint("kind", "subject", "patient", "fingerprint"),
)
Index("identity_holds_state", identity_holds.c.state, identity_holds.c.seq)

held_messages = Table(
    "held_messages",
    metadata,
    Column("message", Text, primary_key=True, comment="id of the row of the inbox"),
    Column("hold", Text, nullable=False),
    Column("seq", BigInteger, nullable=False, comment="order of arrival within the hold"),
)
Index("held_messages_hold", held_messages.c.hold, held_messages.c.seq)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Text, primary_key=True, comment="logical id of the Subscription"),
    Column("revision", BigInteger, nullable=False, comment="grows with each change of what is watched"),
    Column("state", Text, nullable=False, comment="requested | active | error | off"),
    Column("definition", Text, nullable=False, comment="the Subscription as it is stored; headers sealed"),
    Column("events", BigInteger, nullable=False, comment="number of its newest event"),
    Column("sent", BigInteger, nullable=False, comment="number of the newest event that was accepted"),
    Column("sent_at", Instant, comment="when the endpoint last accepted anything"),
    Column("failures", Integer, nullable=False, comment="in a row"),
    Column("failing_since", Instant),
    Column("next_at", Instant, comment="not before this time, after a failure"),
    Column("problem", Text, comment="of the last failure; no PHI"),
)
Index("subscriptions_revision", subscriptions.c.revision)

subscription_events = Table(
    "subscription_events",
    metadata,
    Column("subscription", Text, nullable=False),
    Column("number", BigInteger, nullable=False, comment="from 1, without gaps"),
    Column("reference", Text, nullable=False, comment="versioned reference of what was stored"),
    Column("patient", Text, comment="reference of the patient concerned"),
    Column("at", Instant, nullable=False, comment="when it was stored"),
    PrimaryKeyConstraint("subscription", "number"),
    sqlite_with_rowid=False,
)

associations = Table(
    "associations",
    metadata,
    Column("association", Text, nullable=False),
    Column("StudyInstanceUID", Text, nullable=False),
    Column("listener", Text, nullable=False, comment="the DICOM listener that holds it open"),
    Column("seen_at", Instant, nullable=False),
    PrimaryKeyConstraint("association", "StudyInstanceUID"),
)
Index("associations_study", associations.c.StudyInstanceUID)

federated_rounds = Table(
    "federated_rounds",
    metadata,
    Column("run", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("record", Text, nullable=False, comment="JSON: sites, sizes, metrics, digest of the weights"),
    PrimaryKeyConstraint("run", "round"),
)
