"""A stored result, and the states that it goes through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

State: TypeAlias = Literal["preliminary", "amended", "superseded", "withdrawn", "entered-in-error"]

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        "preliminary": frozenset({"amended", "superseded", "withdrawn", "entered-in-error"}),
        "amended": frozenset({"superseded", "withdrawn", "entered-in-error"}),
        "superseded": frozenset({"withdrawn", "entered-in-error"}),
        "withdrawn": frozenset({"entered-in-error"}),
        "entered-in-error": frozenset(),
    }
)
"""State -> the states that may follow it."""

LIVE: Final[tuple[State, ...]] = ("preliminary", "amended")
"""States of a result that nothing has replaced or taken back."""

JsonObject: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a statement stands among the results of one model version about one patient and study."""

    #: The newest result states the same: there is nothing to publish.
    said: bool
    #: The newest result, when the same was stated before it and something else since.
    follows: str | None = None
    #: The newest result of an active version of the model, about the same, is a prediction.
    after_prediction: bool = False
    #: Versioned references of the resources of the result before it: for an active version of the last one that was
    #: published by any active version, else of its own version.
    before: tuple[str, ...] = ()
    #: The outputs of that result; none where it is no prediction.
    outputs: tuple[JsonObject, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class NewResult:
    """What is stored of a result when it is published."""

    #: Its statement, or the hash of that and of the result that it follows (:func:`inference.contract.result_id`).
    id: str
    model: str
    version: str
    digest: str
    #: Of the model at the time: ``shadow`` or ``active``.
    status: str
    #: ``prediction``, ``declined``, ``failed`` or ``stopped``.
    kind: str
    #: One line for a person, without PHI.
    summary: str
    #: Why there is no prediction; None where there is one.
    reason: str | None
    #: Reference of the patient.
    subject: str
    #: Versioned reference of the Patient as it was read; None when this server holds none. It is not part of the id.
    subject_version: str | None
    #: StudyInstanceUID of an imaging result.
    study: str | None
    #: Reference of the document that made the model run.
    document: str | None
    #: Versioned references of the inputs, part of the id.
    inputs: tuple[str, ...]
    #: name, system, code, kind, value, unit, band and detail of each output.
    outputs: tuple[JsonObject, ...]
    #: name, value, unit, status and source of each feature.
    features: tuple[JsonObject, ...]
    #: name, kind, media_type, blob (its address), shape and geometry of each artefact.
    artefacts: tuple[JsonObject, ...]
    #: Blob addresses of pictures for people: the image as the model saw it, and the heat map over it.
    image: str | None
    heat_map: str | None
    #: Version of this software; None for results that were stored before it was recorded.
    software_version: str | None
    #: How long the model took, waiting in its queue included.
    latency_ms: float | None
    computed_at: datetime
    #: Hash of what it states, whatever was said before (:func:`inference.contract.statement_id`).
    statement: str


@dataclass(frozen=True, kw_only=True)
class StoredResult(NewResult):
    """A row of the table."""

    seq: int
    state: State
    #: Id of the result that replaced this one.
    superseded_by: str | None
    #: Versioned references of the resources that were written.
    resources: tuple[str, ...]
