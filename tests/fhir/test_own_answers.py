"""What this server itself writes and answers is valid R4: Bundles, OperationOutcomes, audit events."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from fhir_adapter.store import document
from fhir_adapter.store.validate import Validator
from privacy import balp
from privacy.principal import Principal

from .examples import entry, observation, patient
from .harness import Server

AT = datetime(2026, 3, 1, 8, 30, 15, 250000, tzinfo=UTC)


def valid(answer: httpx.Response, kind: str) -> None:
    read = document.parse(answer.content)
    assert read.type == kind
    Validator().check(read)


def test_every_answer_is_valid(server: Server) -> None:
    client = server.client
    entries = [
        entry("POST", "Observation", observation(), fullUrl="urn:uuid:0b1c9f0e-7c39-4f3c-8a5c-0d8f4b1f2a01"),
        entry("PUT", "Patient/p1", patient()),
        entry("GET", "Patient/p1"),
    ]
    valid(server.transact(*entries), "Bundle")
    batch = [*entries[:2], entry("DELETE", "Patient/none"), entry("POST", "Observation", {"resourceType": "Basic"})]
    valid(server.transact(*batch, kind="batch"), "Bundle")
    server.put(patient(active=True))
    valid(client.get("/Patient/p1"), "Patient")
    valid(client.get("/Patient/p1/_history"), "Bundle")
    valid(client.get("/Observation?_count=1"), "Bundle")
    valid(client.get("/Observation?code=none"), "Bundle")
    valid(client.get("/AuditEvent?_count=50"), "Bundle")
    valid(client.get("/metadata"), "CapabilityStatement")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/Patient/none", None),
        ("GET", "/Nothing", None),
        ("GET", "/Patient?_colour=red", None),
        ("POST", "/Patient", b"{"),
        ("POST", "/Observation", b'{"resourceType":"Observation","status":"banana","colour":1,"contained":[{}]}'),
        ("POST", "/Observation", b'{"resourceType":"Observation","status":"banana","colour":1}'),
        ("PUT", "/Patient/1", b'{"resourceType":"Patient","id":"2"}'),
    ],
)
def test_every_refusal_is_valid(lasting: Server, method: str, path: str, body: bytes | None) -> None:
    valid(lasting.client.request(method, path, content=body), "OperationOutcome")


@pytest.mark.parametrize("address", ["10.0.0.7", ""])
def test_every_audit_event_is_valid(address: str) -> None:
    who = Principal(client="epic", client_address=address)
    what: dict[str, Any] = {"entity": "Observation/1/_history/2", "patient": "Patient/abc", "at": AT}
    events = [
        balp.created(who, **what),
        balp.updated(who, **what, interaction="patch"),
        balp.deleted(who, **what),
        balp.read(who, **what, interaction="vread"),
        balp.queried(who, query="GET Observation?subject=x", patient="Patient/abc", at=AT),
        balp.received(who, **what, what="HL7 v2 message"),
        balp.disclosed(who, **what, destination="EHR", destination_address="http://ehr/fhir"),
        balp.administered(who, command="model-stopped", entity="urn:ausculta:model:news2:1", at=AT),
    ]
    for event in events:
        Validator().check(document.of(event))
