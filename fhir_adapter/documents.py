"""Stored documents as the text that models read: DocumentReference, and DiagnosticReport with a text of its own.

Read is the text that the resource itself holds: ``attachment.data`` of type ``text/plain``, or a report's conclusion.
What lies elsewhere (``attachment.url``) or is no plain text is not read, and the reason is given. Not read either: what
was entered in error or superseded, and what is labelled as asserted by AI.

FHIR R4: https://hl7.org/fhir/R4/documentreference.html, diagnosticreport.html, datatypes.html#attachment.
"""

import base64
import binascii
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from types import MappingProxyType
from typing import Any, Final

import orjson
from sqlalchemy import Connection, and_, exists, func, or_, select

from fhir_adapter.facts import is_code
from fhir_adapter.production import is_production
from fhir_adapter.store.document import Json
from fhir_adapter.store.search.conditions import of_head
from fhir_adapter.store.search.parameters import numbers_of
from fhir_adapter.store.search.values import key_of, local, seconds
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import point
from fhir_adapter.store.versions import StoredVersion
from kernel.errors import Category, Problem
from kernel.tables import resource_dates, resource_heads, resource_index, resource_versions

_HEADS: Final = resource_heads.c
_AI_ASSERTED: Final = "AIAST"
_PLAIN: Final = "text/plain"


@dataclass(frozen=True, kw_only=True)
class Document:
    """The text of one document."""

    text: str
    #: Code of its type: the declared one that it has, or its first; empty when it states none.
    document_type: str
    #: BCP 47 language tag; empty when not stated.
    language: str
    #: When it was written; None when not stated.
    authored_at: datetime | None
    #: Versioned reference, ``DocumentReference/1/_history/2``.
    source: str


@dataclass(frozen=True, kw_only=True)
class UnreadableDocument:
    """Why a document has no text that can be read; completes "AI result not available: ..."."""

    reason: str
    #: Versioned reference; without a version when nothing is stored.
    source: str


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How a resource type holds a document."""

    #: Statuses (R4, required bindings) in which it states something.
    statuses: frozenset[str]
    #: Element of the document's type, and the search parameter of the same name.
    type: str
    #: Element and search parameter of the time from which it is available.
    available: str
    #: Its attachments.
    attachments: Callable[[Json], Sequence[Json]]


def _reference_texts(resource: Json) -> Sequence[Json]:
    return [content["attachment"] for content in resource.get("content", ())]


def _report_texts(report: Json) -> Sequence[Json]:
    """Return a report's whole text where it has one, else its conclusion, as attachments."""
    forms: list[Json] = [*report.get("presentedForm", ())]
    if "conclusion" in report:
        data = base64.b64encode(report["conclusion"].encode()).decode()
        forms.append({"contentType": _PLAIN, "data": data})
    return forms


_FORMS: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "DocumentReference": _Form(
            statuses=frozenset({"current"}),
            type="type",
            available="date",
            attachments=_reference_texts,
        ),
        "DiagnosticReport": _Form(
            statuses=frozenset({"partial", "preliminary", "final", "amended", "corrected", "appended"}),
            type="code",
            available="issued",
            attachments=_report_texts,
        ),
    }
)
"""Resource type -> how it holds a document."""


def newest_document(
    connection: Connection, store: Store, patient: str, types: Collection[str], at: datetime
) -> Document | UnreadableDocument | None:
    """Read the newest document of a patient; an older one never stands in for a newer one that cannot be read.

    A time at the full minute may be of a clock without seconds and means that minute; one without a fraction means that
    second. Of documents whose times overlap the one that arrived last counts.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that holds the documents.
    patient
        ``Patient/<id>``.
    types
        Codes of document types, empty for all; a system may stand before a bar, ``http://loinc.org|18842-5``.
    at
        The time of prediction: a document that became available later is not read.

    Returns
    -------
    Document or UnreadableDocument or None
        None when there is no document.
    """
    dated = [entry for kind in _FORMS for entry in _dated(connection, kind, patient, types)]
    for entry in _newest_first([entry for entry in dated if entry.when <= seconds(at)]):
        stored = store.read(connection, entry.kind, entry.id)
        resource = orjson.loads(stored.content)
        if _is_stated(resource) and _FORMS[entry.kind].attachments(resource):
            return read_document(resource, types, source=stored.reference)
    return None


def stored_document(
    connection: Connection, store: Store, reference: str, patient: str, types: Collection[str], at: datetime
) -> Document | UnreadableDocument:
    """Read the current version of one document.

    Parameters
    ----------
    connection, store, patient, types, at
        As for :func:`newest_document`.
    reference
        ``DocumentReference/<id>`` or ``DiagnosticReport/<id>``.
    """
    kind, _, identifier = local(reference).partition("/")
    if kind not in _FORMS:
        return UnreadableDocument(reason="the document is of a resource type that is not read", source=reference)
    try:
        stored = store.read(connection, kind, identifier)
    except Problem as problem:
        if problem.category is not Category.NOT_FOUND:
            raise
        return UnreadableDocument(reason="the document is not stored", source=local(reference))
    resource = orjson.loads(stored.content)
    reason = _refusal(stored, resource, patient, types, at)
    if reason is not None:
        return UnreadableDocument(reason=reason, source=stored.reference)
    return read_document(resource, types, source=stored.reference)


def read_document(resource: Json, types: Collection[str], *, source: str) -> Document | UnreadableDocument:
    """Read the text of a DocumentReference or DiagnosticReport: its first attachment in plain text.

    Parameters
    ----------
    resource
        Plain JSON.
    types
        Codes of the document types that were asked for; empty for all.
    source
        Its versioned reference.
    """
    form = _FORMS[resource["resourceType"]]
    attachments = form.attachments(resource)
    if not attachments:
        return UnreadableDocument(reason="the document holds no text", source=source)
    chosen = next((one for one in attachments if _media_type(one) == _PLAIN and "data" in one), attachments[0])
    text, reason = _text(chosen)
    if reason is not None:
        return UnreadableDocument(reason=reason, source=source)
    return Document(
        text=text,
        document_type=_type(resource, types),
        language=chosen.get("language") or resource.get("language") or "",
        authored_at=point(chosen.get("creation")) or point(resource.get(form.available)),
        source=source,
    )


@dataclass(frozen=True, kw_only=True)
class _Dated:
    """When a stored document became available, in seconds since 1970, and its place in the order of arrival."""

    when: float
    arrived: int
    kind: str
    id: str

    @property
    def until(self) -> float:
        """The end of what its time may mean."""
        return self.when + (60 if self.when % 60 == 0 else 1 if self.when % 1 == 0 else 0)


def _newest_first(dated: Sequence[_Dated]) -> Iterator[_Dated]:
    waiting = sorted(dated, key=lambda one: (one.when, one.arrived, one.id))
    while waiting:
        newest = waiting[-1].when
        last = max(
            (one for one in waiting if one.when == newest or one.until > newest),
            key=lambda one: (one.arrived, one.when, one.id),
        )
        waiting.remove(last)
        yield last


def _dated(connection: Connection, kind: str, patient: str, types: Collection[str]) -> Sequence[_Dated]:
    """Return a patient's resources of a type with their times."""
    about, coded, dated = resource_index.alias(), resource_index.alias(), resource_dates.alias()
    form, newest = _FORMS[kind], resource_versions.alias()
    of_patient = about.c.param == numbers_of(kind, "patient")[0], about.c.value == key_of(patient)
    stated = select(func.max(dated.c.low)).where(of_head(dated, kind, form.available)).scalar_subquery()
    statement = (
        select(_HEADS.id, _HEADS.last_updated, stated.label("low"), newest.c.seq.label("arrived"))
        .join(newest, and_(newest.c.key == _HEADS.key, newest.c.version == _HEADS.version))
        .where(_HEADS.deleted.is_(False), _HEADS.key.in_(select(about.c.key).where(*of_patient)))
    )
    if types:
        codes = or_(*(is_code(coded, text) for text in sorted(types)))
        statement = statement.where(exists().where(of_head(coded, kind, form.type), codes))
    rows = connection.execute(statement)
    return [
        _Dated(
            when=seconds(row.last_updated) if row.low is None else row.low, arrived=row.arrived, kind=kind, id=row.id
        )
        for row in rows
    ]


def _refusal(stored: StoredVersion, resource: Json, patient: str, types: Collection[str], at: datetime) -> str | None:
    form = _FORMS[stored.type]
    available = point(resource.get(form.available)) or stored.last_updated
    refusals = (
        (stored.patient != patient, "the document is not about the patient"),
        (not is_production(resource), "the document is labelled as test data"),
        (not _is_stated(resource), "the document was superseded, entered in error or asserted by AI"),
        (bool(types) and not _fitting(resource, types), "the document is not of a type that the model reads"),
        (available > at, "the document is dated after the time of the prediction"),
    )
    return next((reason for refused, reason in refusals if refused), None)


def _is_stated(resource: Json) -> bool:
    labels = {label.get("code") for label in resource.get("meta", {}).get("security", ())}
    form = _FORMS[resource["resourceType"]]
    in_error = resource.get("docStatus") == "entered-in-error"
    stated = resource.get("status") in form.statuses and not in_error and _AI_ASSERTED not in labels
    return stated and is_production(resource)


def _fitting(resource: Json, types: Collection[str]) -> Sequence[str]:
    """Return those of a document's codes that are of the declared types."""
    codings = resource.get(_FORMS[resource["resourceType"]].type, {}).get("coding", ())
    named = [(coding.get("system", ""), coding["code"]) for coding in codings if "code" in coding]
    return [code for system, code in named if not types or code in types or f"{system}|{code}" in types]


def _type(resource: Json, types: Collection[str]) -> str:
    return next(iter(_fitting(resource, types)), "")


def _media_type(attachment: Json) -> str:
    return _content_type(attachment).get_content_type() if "contentType" in attachment else ""


def _content_type(attachment: Json) -> "Message[str, str]":
    header: Message[str, str] = Message()
    header["Content-Type"] = attachment["contentType"]
    return header


def _text(attachment: Json) -> tuple[str, str | None]:
    """Return the text, or else the reason why there is none."""
    if "data" not in attachment:
        is_elsewhere = "url" in attachment
        return "", "the document is only referred to by a URL" if is_elsewhere else "the document holds no text"
    if _media_type(attachment) != _PLAIN:
        return "", "the document is not plain text"
    charset: Any = _content_type(attachment).get_param("charset") or "utf-8"
    try:
        text = base64.b64decode(attachment["data"], validate=False).decode(str(charset)).removeprefix("\ufeff")
    except (LookupError, UnicodeError, binascii.Error):
        return "", "the document's text cannot be read in its character set"
    return text, None if text.strip() else "the document holds no text"
