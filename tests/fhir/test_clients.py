"""Clients that others have written run their ordinary flows against a live server."""

import json
from typing import Any

import fhirclient.client
import pytest
from fhirclient.models.bundle import Bundle
from fhirclient.models.codeableconcept import CodeableConcept
from fhirclient.models.fhirreference import FHIRReference
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

from .examples import entry, observation, patient
from .harness import Server
from .peers import run


def test_fhirpy(server: Server) -> None:
    client = SyncFHIRClient(server.url)
    person = client.resource("Patient", **patient())
    person.save()
    made = client.resource("Observation", **observation(1))
    made.save()
    assert made.id is not None

    found = client.reference("Observation", made.id).to_resource()
    assert found["valueQuantity"]["value"] == 1
    found["valueQuantity"]["value"] = 2
    found.save()
    assert client.reference("Observation", made.id).to_resource()["meta"]["versionId"] == "2"

    for value in range(3, 8):
        client.resource("Observation", **observation(value)).save()
    searched = client.resources("Observation").search(subject="Patient/p1").limit(2)
    assert sorted(it["valueQuantity"]["value"] for it in searched) == [2, 3, 4, 5, 6, 7]  # over three pages
    assert found.is_valid()
    found["status"] = "banana"
    assert not found.is_valid()
    with pytest.raises(OperationOutcome):
        found.save()

    made.delete()
    with pytest.raises(ResourceNotFound):
        client.reference("Observation", made.id).to_resource()


def test_fhirclient(server: Server) -> None:
    client = fhirclient.client.FHIRClient(settings={"app_id": "tests", "api_base": server.url})
    person = Patient(patient())
    assert person.update(client.server)["id"] == "p1"
    made = Observation({"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}})
    made.subject = FHIRReference({"reference": "Patient/p1"})
    made.id = made.create(client.server)["id"]

    found = Observation.read(made.id, client.server)
    assert found.code.text == "pulse"
    found.code = CodeableConcept({"text": "heart rate"})
    assert found.update(client.server)["meta"]["versionId"] == "2"
    sent = [entry("POST", "Observation", observation(value)) for value in range(4)]
    bundle = Bundle({"resourceType": "Bundle", "type": "transaction", "entry": sent})
    answered = client.server.post_json("", bundle.as_json())
    assert [it["response"]["status"] for it in answered.json()["entry"]] == ["201"] * 4

    query = {"subject": "Patient/p1", "_count": "2"}
    assert len(list(Observation.where(query).perform_resources_iter(client.server))) == 5  # over three pages
    found.delete(client.server)
    assert len(list(Observation.where(query).perform_resources_iter(client.server))) == 4


def test_fhir_kit_client(server: Server) -> None:
    seen: dict[str, Any] = json.loads(run("flow.mjs", "", server.url))
    assert seen == {
        "version": "4.0.1",
        "read": 1,
        "versions": 2,
        "vread": 1,
        "transaction": ["201", "201", "201"],
        "paged": [2, 2],
        "validated": ["Observation.status"],
        "deleted": 410,
    }
