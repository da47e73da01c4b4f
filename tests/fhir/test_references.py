"""References need not resolve, because feeds arrive out of order; their type must be one that R4 allows there."""

from typing import Any

import pytest

from kernel.tables import resource_versions

from .examples import entry, observation, patient
from .harness import Server

FIRST = "urn:uuid:6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a11"
SECOND = "urn:uuid:6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a12"
MEDICATION: dict[str, Any] = {"resourceType": "Medication", "code": {"text": "x"}}


@pytest.mark.parametrize(
    "reference",
    ["Patient/none", "http://other.org/fhir/Patient/1", "urn:oid:1.2.3", FIRST, "Location/1/_history/2"],
)
def test_a_reference_need_not_resolve(server: Server, reference: str) -> None:
    assert server.post(observation(subject={"reference": reference})).status_code == 201


@pytest.mark.parametrize("reference", ["Medication/1", "http://other.org/fhir/Medication/1", "Medication?code=x"])
def test_a_reference_to_a_type_that_r4_does_not_list_is_refused(server: Server, reference: str) -> None:
    refused = server.post(observation(subject={"reference": reference}))
    assert (refused.status_code, refused.json()["issue"][0]["expression"]) == (422, ["Observation.subject"])


def test_a_link_of_a_transaction_must_name_one_of_its_entries(server: Server) -> None:
    refused = server.transact(entry("POST", "Observation", observation(subject={"reference": FIRST})))
    assert refused.status_code == 400
    assert server.count(resource_versions) == 0


@pytest.mark.parametrize("url", [FIRST, "http://other.org/things/1"])
def test_a_link_of_a_transaction_must_name_an_entry_of_a_type_that_r4_lists(server: Server, url: str) -> None:
    linked = entry("POST", "Observation", observation(subject={"reference": url}), fullUrl=SECOND)
    refused = server.transact(linked, entry("POST", "Medication", MEDICATION, fullUrl=url))
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.subject"]
    assert server.count(resource_versions) == 0

    taken = server.transact(linked, entry("POST", "Patient", patient(), fullUrl=url))
    assert taken.status_code == 200
    # What a transaction said holds for it alone.
    assert server.post(observation(subject={"reference": url})).status_code == 201


def test_a_link_to_an_entry_that_changes_or_finds_a_resource_has_its_type_too(server: Server) -> None:
    for method, url in (("PUT", "Medication/m1"), ("POST", "Medication")):
        resource = MEDICATION | {"id": "m1"}
        linked = entry("POST", "Observation", observation(subject={"reference": FIRST}))
        assert server.transact(linked, entry(method, url, resource, fullUrl=FIRST)).status_code == 422
