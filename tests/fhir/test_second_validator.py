"""An independent validator, ``@medplum/core``, on everything that this server writes: it finds nothing wrong either."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from fhir_adapter.results import resources_for
from fhir_adapter.store import document
from fhir_adapter.store.document import encode
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4
from privacy import balp
from privacy.principal import Principal

from .examples import entry, observation, patient
from .harness import Server
from .outcomes import CASES
from .peers import second_opinion

AT = datetime(2026, 3, 1, 8, 30, 15, 250000, tzinfo=UTC)

_TARGET = "the other one only warns of a reference to a type that the definition does not list"
_SPACES = "the other one refuses white space in base64Binary, which R4's own examples have"
DIFFERENCES = {
    "Binary-example.json": _SPACES,
    "Media-example.json": _SPACES,
    "MedicationRequest-medrx0301.json": _TARGET,
    "Observation-clinical-gender.json": _TARGET,
    "Media-1.2.840.11361907579238403408700.3.1.04.19970327150033.json": "its narrative shows a remote image",
}
"""Official examples on which the two differ, with the reason. On what this server writes they do not differ."""


def results() -> Iterator[Any]:
    for outcome, context in CASES.values():
        for resource in resources_for(outcome, context):
            yield orjson.loads(encode(resource))


def answers(server: Server) -> Iterator[Any]:
    """Return what the server answers over the socket: Bundles of each kind, outcomes, and its statement."""
    client = server.client
    entries = [
        entry("POST", "Observation", observation(), fullUrl="urn:uuid:0b1c9f0e-7c39-4f3c-8a5c-0d8f4b1f2a01"),
        entry("PUT", "Patient/p1", patient()),
        entry("GET", "Patient/p1"),
    ]
    wrong = entry("POST", "Observation", {"resourceType": "Basic"})
    yield server.transact(*entries).json()
    yield server.transact(*entries[:2], entry("DELETE", "Patient/none"), wrong, kind="batch").json()
    yield server.put(patient(active=True)).json()
    for path in ("Patient/p1", "Patient/p1/_history", "Observation?_count=1", "AuditEvent?_count=50", "metadata"):
        yield client.get(f"/{path}").json()
    for path in ("Patient/none", "Nothing", "Patient?_colour=red"):
        yield client.get(f"/{path}").json()
    yield server.post(observation(status="banana", colour=1)).json()
    yield client.post("/Observation/$validate", json=observation(status="banana")).json()
    yield client.post("/Observation/$validate", json=observation()).json()
    yield from server.audited()


def events() -> Iterator[Any]:
    who = Principal(client="epic", client_address="10.0.0.7", user="nurse", request_id="r1")
    what: dict[str, Any] = {"entity": "Observation/1/_history/2", "patient": "Patient/abc", "at": AT}
    yield balp.received(who, **what, what="HL7 v2 message")
    yield balp.disclosed(who, **what, destination="EHR", destination_address="http://ehr/fhir")
    yield balp.administered(who, command="model-stopped", entity="urn:ausculta:model:news2:1", at=AT)


def test_nothing_that_this_server_writes_is_wrong_for_another_validator(server: Server) -> None:
    collected = [*results(), *answers(server), *events()]
    opinions = second_opinion(collected)
    assert len(opinions) == len(collected) > 50
    wrong = {
        (resource["resourceType"], text, place)
        for resource, said in zip(collected, opinions, strict=True)
        for severity, text, place in said
        if severity in {"error", "fatal"}
    }
    assert wrong == set()


def test_both_validators_agree_on_the_official_examples_or_the_difference_is_listed(shared: Path) -> None:
    paths = sorted((shared / "data" / "fhir-r4-examples").glob("*.json"))
    examples = [document.parse(path.read_bytes()).plain for path in paths]
    checks = Checks(r4())
    differences = {
        path.name
        for path, example, said in zip(paths, examples, second_opinion(examples), strict=True)
        if (checks.resource(example) is None) != (not any(it[0] in {"error", "fatal"} for it in said))
    }
    assert differences == DIFFERENCES.keys()
