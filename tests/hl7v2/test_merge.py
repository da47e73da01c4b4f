"""What a message changes of a stored resource leaves a valid resource."""

from typing import Any

from fhir_adapter.hl7v2.merge import merge_resource
from fhir_adapter.store import document
from fhir_adapter.store.validate import Validator


def encounter(*names: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "participant": [{"individual": {"reference": name}} for name in names],
    } | more


def contained(name: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "PractitionerRole", "id": name, "active": True} | more


def test_a_contained_resource_that_the_message_replaces_is_left_out() -> None:
    organization = {"resourceType": "Organization", "id": "of-role", "name": "Ward"}
    roles = [contained("role", organization={"reference": "#of-role"}), organization]
    stored = encounter("#role", contained=roles)
    Validator().check(document.of(stored))

    merged = merge_resource(stored, encounter("Practitioner/1"), authoritative=True)

    Validator().check(document.of(merged))
    assert "contained" not in merged


def test_a_contained_resource_that_is_still_referred_to_is_kept() -> None:
    stored = encounter("#a", contained=[contained("a"), contained("b")], serviceProvider={"display": "x"})
    merged = merge_resource(stored, encounter("#a"), authoritative=True)
    assert [inner["id"] for inner in merged["contained"]] == ["a"]
