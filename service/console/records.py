"""What the pages show, as frozen records: everything is chosen and worded before a template sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from inference.wording import NOT_AVAILABLE
from kernel.backlog import Backlog
from kernel.inbox import UnmatchedMessage


@dataclass(frozen=True, kw_only=True)
class DeliveryShown:
    """One delivery of a result to one destination."""

    id: str
    destination: str
    #: ``pending``, ``delivered``, ``parked``, ``dismissed`` or ``superseded``.
    status: str
    attempts: int
    receipt: str | None
    category: str | None
    detail: str | None
    created_at: datetime
    changed_at: datetime
    #: The result it carries.
    result: str
    #: When it is tried again, where that is known.
    next_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A result in one line."""

    seq: int
    id: str
    at: datetime
    model: str
    version: str
    #: Status of the model when it spoke.
    status: str
    #: Whether there is a prediction; a refusal otherwise.
    available: bool
    #: ``prediction``, ``declined``, ``failed`` or ``stopped``.
    kind: str
    #: What was said, or the reason why nothing was.
    summary: str
    patient: str
    deliveries: tuple[DeliveryShown, ...]
    #: Begins the sentence of a refusal.
    refusal: str = NOT_AVAILABLE


@dataclass(frozen=True, kw_only=True)
class ModelShown:
    """A registered model version."""

    name: str
    version: str
    title: str
    owner: str
    intended_use: str
    digest: str
    status: str
    stopped: bool
    stop_reason: str | None
    demonstration: bool
    added_at: datetime
    changed_at: datetime
    changed_by: str
    #: How many predictions and refusals are stored.
    predictions: int
    refusals: int
    #: The card as Markdown; none when the model's folder cannot be read.
    card: str | None
    #: What every result begins with while the model is stopped.
    refusal: str = NOT_AVAILABLE


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How much waits, and where."""

    jobs: Mapping[str, int]
    #: Destination -> status -> deliveries.
    deliveries: Mapping[str, Mapping[str, int]]

    @property
    def parked_jobs(self) -> int:
        """Jobs that wait for a person."""
        return self.jobs.get("parked", 0)

    @property
    def parked_deliveries(self) -> int:
        """Deliveries that wait for a person."""
        return self._deliveries("parked")

    @property
    def pending_deliveries(self) -> int:
        """Deliveries that have not arrived yet."""
        return self._deliveries("pending")

    def _deliveries(self, status: str) -> int:
        return sum(counts.get(status, 0) for counts in self.deliveries.values())


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The front page."""

    results: tuple[ResultRow, ...]
    traffic: Traffic
    models: tuple[ModelShown, ...]
    #: Continue the list after this one; none at its end.
    older: int | None


@dataclass(frozen=True, kw_only=True)
class OutputShown:
    """One thing that a result says, as its resources say it."""

    title: str
    #: As it was written, digit for digit; none when the model says a class only.
    value: str | None
    unit: str
    band: str
    #: Sentences for a person.
    texts: tuple[str, ...]
    #: (name, value with its unit) of what the output says besides: classes, limits, times, places.
    parts: tuple[tuple[str, str], ...] = ()
    plot: Markup | None = None
    plot_note: str = ""


@dataclass(frozen=True, kw_only=True)
class InputShown:
    """One value that a result rests on."""

    name: str
    value: str
    unit: str
    #: As it was written, with the precision and offset it has.
    time: str
    source: str
    #: Path of the versioned resource; none for what is no FHIR resource here.
    link: str | None


@dataclass(frozen=True, kw_only=True)
class FeatureShown:
    """What became of one feature of the model."""

    name: str
    #: Empty when the model read none.
    value: str
    unit: str
    #: ``used``, ``imputed``, ``dropped``, ``implausible`` or ``missing``.
    status: str
    #: Why a value was not used, and what stands in; empty of one that was used.
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class ArtefactShown:
    """A mask that can be shown as a picture."""

    name: str
    #: In which grid it lies.
    geometry: str


@dataclass(frozen=True, kw_only=True)
class ProvenanceShown:
    """A Provenance resource in short."""

    reference: str
    recorded: str
    activity: str
    #: (what they did, who).
    agents: tuple[tuple[str, str], ...]
    #: (role, reference).
    entities: tuple[tuple[str, str], ...]
    signed: bool


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One event of the audit log."""

    seq: int
    id: str
    recorded: datetime
    who: str
    address: str
    #: The act, in the event's own code.
    act: str
    outcome: str
    reason: str
    entity: str | None
    patient: str | None


@dataclass(frozen=True, kw_only=True)
class ResultPage:
    """Everything about one result."""

    row: ResultRow
    model: ModelShown | None
    #: The digest that spoke; the model's present one may be another.
    digest: str
    study: str | None
    #: ``preliminary``, ``amended``, ``superseded``, ``withdrawn`` or ``entered-in-error``.
    state: str
    #: Id of the result that replaced this one.
    superseded_by: str | None
    #: Milliseconds from the request to the prediction.
    latency_ms: float | None
    #: Of this software when it stored the result; none for one that was stored before it was recorded.
    software_version: str | None
    findings: tuple[OutputShown, ...]
    features: tuple[FeatureShown, ...]
    inputs: tuple[InputShown, ...]
    #: Versioned references of what was written.
    resources: tuple[str, ...]
    provenance: tuple[ProvenanceShown, ...]
    audit: tuple[AuditRow, ...]
    image: str | None
    heat_map: str | None
    masks: tuple[ArtefactShown, ...]


@dataclass(frozen=True, kw_only=True)
class JobShown:
    """A job in the queue."""

    id: str
    step: str
    #: What it is about, name by name.
    about: Mapping[str, str]
    status: str
    attempts: int
    category: str | None
    detail: str | None
    scheduled_at: datetime
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class WorkerShown:
    """A process that works the queue."""

    host: str
    pid: int
    #: How many jobs it runs at a time.
    threads: int
    heartbeat_at: datetime
    #: It runs, and gave a sign of life lately.
    alive: bool


@dataclass(frozen=True, kw_only=True)
class QueuePage:
    """What is under way and what is stuck."""

    traffic: Traffic
    parked: tuple[JobShown, ...]
    #: What waits for each destination, and since when.
    backlogs: tuple[Backlog, ...]
    parked_deliveries: tuple[DeliveryShown, ...]
    running: tuple[JobShown, ...]
    waiting: tuple[JobShown, ...]
    pending_deliveries: tuple[DeliveryShown, ...]
    workers: tuple[WorkerShown, ...]
    #: Messages that correct or withdraw what was not stored.
    unmatched: tuple[UnmatchedMessage, ...]


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """A part of the audit log, newest first."""

    size: int
    signed_size: int
    signed_at: datetime | None
    events: tuple[AuditRow, ...]
    older: int | None
