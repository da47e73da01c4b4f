"""Valid resources to start from."""

from typing import Any


def observation(value: Any = 72, **more: Any) -> dict[str, Any]:
    """Return a valid heart rate."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-01-15T11:00:00Z",
        "valueQuantity": {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    } | more


def patient(resource_id: str = "p1", **more: Any) -> dict[str, Any]:
    """Return a valid patient."""
    return {
        "resourceType": "Patient",
        "id": resource_id,
        "identifier": [{"system": "urn:oid:1.2.3", "value": f"MRN-{resource_id}"}],
        "name": [{"family": "Müller", "given": ["Änne"]}],
        "gender": "female",
        "birthDate": "1950-02-03",
    } | more


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a Bundle entry; ``fullUrl`` and ``ifNoneExist`` go where they belong."""
    request = {"method": method, "url": url} | {key: value for key, value in more.items() if key.startswith("if")}
    rest = {key: value for key, value in more.items() if not key.startswith("if")}
    return rest | {"request": request} | ({"resource": resource} if resource else {})
