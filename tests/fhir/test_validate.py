# ruff: noqa: E501 - one case a line
"""What R4 4.0.1 allows and forbids, by the rules that a sender reads in the answer."""

from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.store import document
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.validate import Validator

from .examples import observation, patient

#: Official examples that are refused: references to a type that R4's own definitions do not allow there, and a narrative
#: with an image of another server, which would learn who reads it.
WRONG = {
    "MedicationRequest-medrx0301.json",
    "Observation-clinical-gender.json",
    "Media-1.2.840.11361907579238403408700.3.1.04.19970327150033.json",
}


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator()


def faults(validator: Validator, resource: dict[str, Any]) -> list[tuple[str, str]]:
    """Return rule or code, and place, of each fault."""
    try:
        validator.check(document.of(resource))
    except Invalid as invalid:
        return [
            (issue.text.split(":")[0] if ": " in issue.text else issue.code, issue.expression)
            for issue in invalid.issues
        ]
    return []


def div(content: str) -> dict[str, Any]:
    return patient(text={"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{content}</div>'})


RISK = {"resourceType": "RiskAssessment", "status": "final", "subject": {"reference": "Patient/1"}}
PERCENT = {"value": 1, "code": "%", "system": "http://unitsofmeasure.org"}
ABSENT = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "error"}]}
SAME = {"code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "valueString": "x"}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (observation(status="banana"), ("code-invalid", "Observation.status")),
        (observation(status=5), ("structure", "Observation.status")),
        ({k: v for k, v in observation().items() if k != "code"}, ("required", "Observation.code")),
        (observation(colour="red"), ("structure", "Observation")),
        (observation(valueBoolean=True), ("structure", "Observation.value")),
        (observation(id="x" * 65), ("value", "Observation.id")),
        (observation(id="a b"), ("value", "Observation.id")),
        (observation(effectiveDateTime="2026-13-01"), ("value", "Observation.effectiveDateTime")),
        (observation("72"), ("structure", "Observation.valueQuantity.value")),
        (observation(subject={"reference": "Encounter/1"}), ("structure", "Observation.subject")),
        (observation(subject={"reference": "http://x.org/fhir/Encounter/1"}), ("structure", "Observation.subject")),
        (observation(dataAbsentReason=ABSENT), ("obs-6", "Observation")),
        (observation(component=[SAME]), ("obs-7", "Observation")),
        (observation(referenceRange=[{"age": {"low": PERCENT}}]), ("obs-3", "Observation.referenceRange[0]")),
        (observation(valueQuantity={"value": 1, "code": "/min"}), ("qty-3", "Observation.valueQuantity")),
        (observation(extension=[{"url": "http://x.org"}]), ("ext-1", "Observation.extension[0]")),
        (RISK | {"prediction": [{"probabilityDecimal": 140}]}, ("ras-2", "RiskAssessment.prediction[0]")),
        (RISK | {"prediction": [{"probabilityRange": {"low": {"value": 1}}}]}, ("ras-1", "RiskAssessment.prediction[0].probabilityRange")),
        (patient(contact=[{"gender": "male"}]), ("pat-1", "Patient.contact[0]")),
        (patient(gender="girl"), ("code-invalid", "Patient.gender")),
        (patient(active="true"), ("structure", "Patient.active")),
        (patient(telecom=[{"value": "1"}]), ("cpt-2", "Patient.telecom[0]")),
        (patient(generalPractitioner=[{"reference": "#gone"}]), ("ref-1", "Patient.generalPractitioner[0]")),
        (patient(contained=[{"resourceType": "Nothing", "id": "n"}]), ("not-supported", "Patient.contained[0]")),
        (patient(contained=[{"resourceType": "Basic", "id": "b", "code": {"text": "x"}, "meta": {"versionId": "1"}}]), ("dom-4", "Patient.contained[0]")),
        (div("<script>alert(1)</script>"), ("txt-1", "Patient.text.div")),
        (div('<a href="javascript:alert(1)">x</a>'), ("txt-1", "Patient.text.div")),
        (div('<p onclick="x()">x</p>'), ("txt-1", "Patient.text.div")),
        (div("<![CDATA[><script>alert(1)</script>]]>x"), ("txt-1", "Patient.text.div")),
        (div("<!--><script>alert(1)</script>-->x"), ("txt-1", "Patient.text.div")),
        (div('<svg xmlns="http://www.w3.org/2000/svg"><p>x</p></svg>'), ("txt-1", "Patient.text.div")),
        (div('<p xmlns:x="http://x.org" x:onclick="x()">x</p>'), ("txt-1", "Patient.text.div")),
        (div("<?x y?>x"), ("txt-1", "Patient.text.div")),
        (div("<p>x"), ("txt-1", "Patient.text.div")),
        (div(" "), ("txt-1", "Patient.text.div")),
        (
            {"resourceType": "Encounter", "status": "finished", "class": {"code": "IMP"}, "period": {"start": "2026-02", "end": "2026-01"}},
            ("per-1", "Encounter.period"),
        ),
        (
            {"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/1"}, "clinicalStatus": {"coding": [{"code": "x"}]}},
            ("code-invalid", "AllergyIntolerance.clinicalStatus"),
        ),
        ({"resourceType": "SubscriptionTopic", "url": "http://x.org", "status": "draft"}, ("not-supported", "Resource")),
        ({"resourceType": 5}, ("not-supported", "Resource")),
        ({"id": "1"}, ("not-supported", "Resource")),
    ],
)  # fmt: skip
def test_resources_that_break_a_rule_of_r4_are_refused_with_its_key(
    validator: Validator, resource: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert faults(validator, resource)[:1] == [expected]


@pytest.mark.parametrize(
    "resource",
    [
        observation(),
        observation(subject={"reference": "urn:uuid:6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a11"}),
        observation(subject={"reference": "Patient?identifier=a|b"}),
        observation(effectiveDateTime="2026"),
        observation(status="final", _status={"extension": [{"url": "http://x.org", "valueBoolean": True}]}),
        RISK | {"prediction": [{"probabilityRange": {"low": PERCENT, "high": PERCENT}}]},
        div('<p style="color:red">A &amp; B<br/><a href="https://x.org">x</a></p>'),
        div("<!-- a comment -->x"),
        patient(
            contained=[{"resourceType": "Organization", "id": "o", "name": "O"}],
            managingOrganization={"reference": "#o"},
        ),
    ],
)
def test_resources_that_r4_allows_are_accepted(validator: Validator, resource: dict[str, Any]) -> None:
    assert faults(validator, resource) == []


def test_the_official_examples_are_valid(validator: Validator, shared: Path) -> None:
    examples = sorted((shared / "data" / "fhir-r4-examples").glob("*.json"))
    refused = {}
    for example in examples:
        try:
            validator.check(document.parse(example.read_bytes()))
        except Invalid as invalid:
            refused[example.name] = invalid.issues
    assert len(examples) > 400
    assert set(refused) == WRONG


def test_a_fault_never_quotes_the_request(validator: Validator) -> None:
    canary = "canary-secret"
    wrong = observation(
        status=canary, effectiveDateTime=canary, subject={"reference": f"Encounter/{canary}"}, note=canary
    )
    with pytest.raises(Invalid) as refusal:
        validator.check(document.of(wrong))
    assert canary not in str(refusal.value)
    assert canary not in str(refusal.value.issues)
