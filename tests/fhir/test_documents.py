"""Stored documents become text: the newest of a type, in its character set, or the reason why it cannot be read."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_adapter.documents import (
    Document,
    UnreadableDocument,
    newest_document,
    read_document,
    stored_document,
)

from .harness import Server

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
LOINC = "http://loinc.org"
DISCHARGE = "18842-5"
RADIOLOGY = "18748-4"
SOURCE = "DocumentReference/d/_history/1"


def attachment(text: str | bytes = "No fever.", content_type: str = "text/plain", **more: Any) -> dict[str, Any]:
    content = text.encode() if isinstance(text, str) else text
    return {"contentType": content_type, "data": base64.b64encode(content).decode()} | more


def letter(*attachments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": "d",
        "status": "current",
        "type": {"coding": [{"system": LOINC, "code": DISCHARGE}]},
        "subject": {"reference": "Patient/p1"},
        "date": "2026-01-15T10:00:00Z",
        "content": [{"attachment": one} for one in attachments or (attachment(),)],
    } | more


def report(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": RADIOLOGY}]},
        "subject": {"reference": "Patient/p1"},
        "issued": "2026-01-15T11:00:00Z",
    } | more


def read(resource: dict[str, Any]) -> str:
    """Return the text, or the reason why there is none."""
    found = read_document(resource, (), source=SOURCE)
    return found.text if isinstance(found, Document) else found.reason


def newest(server: Server, *types: str, at: datetime = AT, patient: str = "Patient/p1") -> str | None:
    """Return the source of the newest document, readable or not."""
    with server.database.read() as connection:
        found = newest_document(connection, server.store, patient, types, at)
    return None if found is None else found.source


def stored(server: Server, reference: str, *types: str, at: datetime = AT, patient: str = "Patient/p1") -> str:
    """Return the text of one document, or the reason why there is none."""
    with server.database.read() as connection:
        found = stored_document(connection, server.store, reference, patient, types, at)
    return found.text if isinstance(found, Document) else found.reason


def test_a_letter_is_its_text_with_its_type_language_time_and_version() -> None:
    resource = letter(attachment(language="en", creation="2026-01-15T09:00:00Z"))
    assert read_document(resource, (DISCHARGE,), source=SOURCE) == Document(
        text="No fever.",
        document_type=DISCHARGE,
        language="en",
        authored_at=datetime(2026, 1, 15, 9, tzinfo=UTC),
        source=SOURCE,
    )


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/plain", "Größe".encode()),
        ("text/plain", b"\xef\xbb\xbf" + "Größe".encode()),
        ("text/plain; charset=iso-8859-1", "Größe".encode("latin-1")),
        ('TEXT/PLAIN;charset="windows-1252"', "Größe".encode("cp1252")),
    ],
)
def test_the_character_set_is_that_of_the_content_type_and_utf_8_where_none_is_stated(
    content_type: str, content: bytes
) -> None:
    assert read(letter(attachment(content, content_type))) == "Größe"


@pytest.mark.parametrize(
    ("attached", "reason"),
    [
        ({"contentType": "text/plain", "url": "Binary/1"}, "the document is only referred to by a URL"),
        ({"contentType": "text/plain"}, "the document holds no text"),
        (attachment("  \n"), "the document holds no text"),
        (attachment(b"%PDF-1.7", "application/pdf"), "the document is not plain text"),
        (attachment("<p>x</p>", "text/html"), "the document is not plain text"),
        ({"data": "eA=="}, "the document is not plain text"),
        (attachment(b"\xff\xfe\xff"), "the document's text cannot be read in its character set"),
        (
            attachment("x", "text/plain; charset=klingon"),
            "the document's text cannot be read in its character set",
        ),
        (
            attachment(b"eA==", "text/plain; charset=base64"),
            "the document's text cannot be read in its character set",
        ),
    ],
)
def test_what_is_elsewhere_or_no_text_is_not_read_and_the_reason_is_given(
    attached: dict[str, Any], reason: str
) -> None:
    assert read(letter(attached)) == reason


def test_of_several_attachments_the_one_in_plain_text_is_read() -> None:
    assert read(letter(attachment(b"%PDF-1.7", "application/pdf"), attachment("As text."))) == "As text."


def test_a_report_is_its_presented_text_and_else_its_conclusion() -> None:
    assert read(report(conclusion="Pneumonia.")) == "Pneumonia."
    assert read(report(conclusion="Pneumonia.", presentedForm=[attachment("The whole report.")])) == "The whole report."
    pdf = attachment(b"%PDF-1.7", "application/pdf")
    assert read(report(conclusion="Pneumonia.", presentedForm=[pdf])) == "Pneumonia."
    assert read(report(presentedForm=[pdf])) == "the document is not plain text"


def test_the_newest_document_of_the_declared_types_is_read(server: Server) -> None:
    server.put(letter(id="new", date="2026-01-15T11:00:00Z"))
    server.put(letter(id="old", date="2026-01-14T10:00:00Z"))
    server.put(letter(id="other", subject={"reference": "Patient/p2"}, date="2026-01-15T11:30:00Z"))
    server.put(report(conclusion="Pneumonia.", issued="2026-01-15T11:15:00Z"))
    assert newest(server, DISCHARGE) == "DocumentReference/new/_history/1"
    assert newest(server, f"{LOINC}|{DISCHARGE}") == "DocumentReference/new/_history/1"
    assert newest(server, f"urn:other|{DISCHARGE}") is None
    assert newest(server, RADIOLOGY) == "DiagnosticReport/r/_history/1"
    assert newest(server, DISCHARGE, RADIOLOGY) == "DiagnosticReport/r/_history/1"
    assert newest(server) == "DiagnosticReport/r/_history/1"


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    ("first", "second", "latest"),
    [
        ("10:00:00", "10:00:00", 1),
        ("10:00:30", "10:00:00", 1),
        ("10:00:00", "10:00:30", 1),
        ("10:01:00", "10:00:00", 0),
    ],
    ids=["equal", "to the minute last", "to the minute first", "the minute before"],
)
def test_of_two_documents_of_one_time_the_one_that_arrived_last_is_read(
    server: Server, names: tuple[str, str], first: str, second: str, latest: int
) -> None:
    """A time at the full minute may be of a clock without seconds, and means that minute."""
    for name, time in zip(names, (first, second), strict=True):
        server.put(letter(id=name, date=f"2026-01-15T{time}Z"))
    assert newest(server) == f"DocumentReference/{names[latest]}/_history/1"


def test_a_document_without_a_date_is_as_old_as_its_arrival(server: Server) -> None:
    server.put(letter(id="dated", date="2026-01-15T11:00:00Z"))
    undated = letter(id="undated")
    del undated["date"]
    server.put(undated)
    assert newest(server) == "DocumentReference/undated/_history/1"


def test_a_newer_document_that_cannot_be_read_is_not_replaced_by_an_older_one(server: Server) -> None:
    server.put(letter(id="old", date="2026-01-14T10:00:00Z"))
    server.put(letter(attachment(b"%PDF-1.7", "application/pdf"), id="new"))
    with server.database.read() as connection:
        found = newest_document(connection, server.store, "Patient/p1", (), AT)
    assert found == UnreadableDocument(
        reason="the document is not plain text", source="DocumentReference/new/_history/1"
    )


NOT_STATED: list[dict[str, Any]] = [
    {"status": "superseded"},
    {"status": "entered-in-error"},
    {"docStatus": "entered-in-error"},
    {"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}]}},
]


@pytest.mark.parametrize("change", NOT_STATED, ids=["superseded", "error", "document-error", "ai"])
def test_what_is_not_stated_or_was_asserted_by_ai_is_not_read(server: Server, change: dict[str, Any]) -> None:
    server.put(letter(id="old", date="2026-01-14T10:00:00Z"))
    assert server.put(letter(**change)).status_code == 201
    assert newest(server) == "DocumentReference/old/_history/1"
    assert stored(server, "DocumentReference/d").startswith("the document was superseded")


def test_a_report_without_a_text_is_no_document(server: Server) -> None:
    server.put(letter())
    server.put(report())
    assert newest(server) == "DocumentReference/d/_history/1"
    assert stored(server, "DiagnosticReport/r") == "the document holds no text"


def test_what_is_dated_after_the_prediction_is_not_read(server: Server) -> None:
    server.put(letter(date="2026-01-15T13:00:00Z"))
    assert newest(server) is None
    assert stored(server, "DocumentReference/d") == "the document is dated after the time of the prediction"
    assert newest(server, at=AT.replace(hour=13)) == "DocumentReference/d/_history/1"


def test_a_named_document_is_read_in_its_current_version(server: Server) -> None:
    server.put(letter())
    server.put(letter(attachment("Fever.")))
    server.put(letter(attachment("Newer."), id="e", date="2026-01-15T11:00:00Z"))
    assert stored(server, "DocumentReference/d/_history/1", DISCHARGE) == "Fever."


@pytest.mark.parametrize(
    ("reference", "types", "patient", "reason"),
    [
        ("DocumentReference/none", (), "Patient/p1", "the document is not stored"),
        ("DocumentReference/gone", (), "Patient/p1", "the document is not stored"),
        ("Binary/d", (), "Patient/p1", "the document is of a resource type that is not read"),
        ("DocumentReference/d", (), "Patient/p2", "the document is not about the patient"),
        ("DocumentReference/d", (RADIOLOGY,), "Patient/p1", "the document is not of a type that the model reads"),
    ],
)
def test_a_named_document_that_may_not_be_read_is_not_replaced_by_another(
    server: Server, reference: str, types: tuple[str, ...], patient: str, reason: str
) -> None:
    server.put(letter())
    server.put(letter(id="gone"))
    server.client.delete("/DocumentReference/gone")
    assert stored(server, reference, *types, patient=patient) == reason
