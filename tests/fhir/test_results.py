"""An outcome as R4 resources: valid, labelled, explained, and never silent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

import fhir_adapter.results as package
from fhir_adapter.results import BUILDERS, ResultContext, for_ehr, identified, resources_for
from fhir_adapter.store import document
from fhir_adapter.store.validate import Validator
from inference.contract import Outcome, result_id
from kernel.errors import Problem

from .outcomes import CASES, FINDING, IMAGING, NO_READING, NO_RISK, PLAIN, READING, RISK, SCORE

AIAST = "AIAST"
RESULTS = ("RiskAssessment", "Observation", "DiagnosticReport", "Provenance")


def by_type(outcome: Outcome, context: ResultContext) -> dict[str, Any]:
    return {it["resourceType"]: it for it in resources_for(outcome, context)}


@pytest.mark.parametrize("case", CASES)
def test_every_resource_is_valid_r4(case: str) -> None:
    validator = Validator()
    for resource in resources_for(*CASES[case]):
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        validator.check(document.of(resource))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("risk", "DocumentReference Device Observation RiskAssessment Provenance"),
        ("no risk", "DocumentReference Device Observation RiskAssessment Provenance"),
        ("reading", "DocumentReference Device ImagingStudy Observation DiagnosticReport Provenance"),
        ("no reading", "DocumentReference Device ImagingStudy Observation DiagnosticReport Provenance"),
    ],
)
def test_an_available_and_an_unavailable_result_have_the_same_resource_types(case: str, expected: str) -> None:
    assert [it["resourceType"] for it in resources_for(*CASES[case])] == expected.split()


@pytest.mark.parametrize("case", CASES)
def test_every_result_is_labelled_named_and_traced(case: str) -> None:
    outcome, context = CASES[case]
    made = by_type(outcome, context)
    name = result_id(outcome)
    for kind in RESULTS:
        if kind in made:
            assert [label["code"] for label in made[kind]["meta"]["security"]] == [AIAST]
            assert made[kind]["id"] == name
            if kind != "Provenance":
                assert made[kind]["identifier"] == [{"system": "urn:ausculta:result", "value": name}]
    targets = {it["reference"] for it in made["Provenance"]["target"]}
    assert targets == {f"{kind}/{name}" for kind in RESULTS[:3] if kind in made}
    agent = made["Provenance"]["agent"][0]
    assert agent["who"]["reference"] == f"Device/{made['Device']['id']}"
    assert agent["role"][0]["coding"][0]["code"] == "Artificial-Intelligence"
    derived = [it["what"] for it in made["Provenance"]["entity"] if it["role"] == "derivation"]
    assert derived == [{"reference": f"DocumentReference/{made['DocumentReference']['id']}"}]


def test_a_score_has_no_probability() -> None:
    made = by_type(RISK, PLAIN)
    (prediction,) = made["RiskAssessment"]["prediction"]
    assert not [key for key in prediction if key.startswith("probability")]
    assert prediction["qualitativeRisk"]["coding"][0]["code"] == "high"
    assert prediction["rationale"] == SCORE.text
    assert made["RiskAssessment"]["basis"] == [{"reference": "Observation/o1/_history/1"}]
    quantity = made["Observation"]["valueQuantity"]
    assert (quantity["value"], quantity["code"]) == (7, "{score}")
    assert made["Observation"]["derivedFrom"] == [{"reference": "Observation/o1/_history/1"}]


def test_a_probability_of_a_future_event_is_a_percentage() -> None:
    output = replace(SCORE, kind="probability", value=0.025, unit=None, band="low-medium")
    (prediction,) = by_type(replace(RISK, outputs=(output,)), PLAIN)["RiskAssessment"]["prediction"]
    assert prediction["probabilityDecimal"] == 2.5
    assert prediction["qualitativeRisk"] == {"text": "low-medium"}


def test_a_finding_is_a_probability_with_an_interpretation() -> None:
    made = by_type(READING, IMAGING)
    finding = made["Observation"]
    assert (finding["valueQuantity"]["value"], finding["valueQuantity"]["code"]) == (0.8312, "1")
    assert finding["interpretation"][0]["coding"][0]["code"] == "POS"
    assert finding["derivedFrom"] == [{"reference": f"ImagingStudy/{made['ImagingStudy']['id']}"}]
    report = made["DiagnosticReport"]
    assert (report["status"], report["conclusion"]) == ("preliminary", FINDING.text)
    assert report["result"] == [{"reference": f"Observation/{finding['id']}"}]
    assert made["Provenance"]["entity"][1]["what"]["identifier"]["value"] == "urn:oid:1.2.3.4.1.1#abc"


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_final(case: str) -> None:
    statuses = {it["status"] for it in resources_for(*CASES[case]) if it["resourceType"] in RESULTS and "status" in it}
    assert statuses <= {"preliminary", "cancelled"}


def test_an_unavailable_result_gives_its_reason_on_every_page() -> None:
    reason = "AI result not available: missing oxygen saturation"
    made = by_type(NO_RISK, PLAIN)
    assert "prediction" not in made["RiskAssessment"]
    assert made["RiskAssessment"]["note"] == [{"text": reason}]
    mirrored = made["Observation"]
    assert mirrored["dataAbsentReason"]["text"] == reason
    assert mirrored["code"]["coding"][0]["code"] == SCORE.code
    assert not [key for key in mirrored if key.startswith("value")]
    failed = by_type(NO_READING, IMAGING)
    assert failed["Observation"]["dataAbsentReason"]["coding"][0]["code"] == "error"
    assert failed["DiagnosticReport"]["conclusion"] == "AI result not available: the model failed"


def test_a_result_with_several_outputs_has_an_observation_for_each() -> None:
    second = replace(FINDING, code="36118008", display="Pneumothorax")
    outcome = replace(READING, outputs=(FINDING, second))
    made = [it for it in resources_for(outcome, IMAGING) if it["resourceType"] == "Observation"]
    assert len({it["id"] for it in made}) == len({it["identifier"][0]["value"] for it in made}) == 2
    report = by_type(outcome, IMAGING)["DiagnosticReport"]
    assert report["result"] == [{"reference": f"Observation/{it['id']}"} for it in made]


def test_an_unavailable_result_without_declared_outputs_has_an_observation() -> None:
    made = by_type(NO_RISK, replace(PLAIN, expected=()))
    assert made["Observation"]["code"] == {"text": NO_RISK.model.title}
    assert "RiskAssessment" in made


@pytest.mark.parametrize("case", CASES)
def test_an_ehr_gets_no_reference_that_it_cannot_resolve(case: str) -> None:
    outcome, context = CASES[case]
    bundle = for_ehr(resources_for(outcome, context), outcome.subject, "https://us.example.org/fhir/")
    names = {it["fullUrl"] for it in bundle["entry"]}
    for reference in references(bundle):
        known = reference in names or reference.startswith(("https://us.example.org/fhir/", "Patient?identifier="))
        assert known, reference
    assert {it["request"]["method"] for it in bundle["entry"]} == {"POST"}
    assert all(it["request"]["ifNoneExist"] for it in bundle["entry"])
    assert "id" not in bundle["entry"][0]["resource"]


def test_a_patient_without_an_identifier_is_never_named_by_our_own_id() -> None:
    subject = replace(RISK.subject, identifier=None)
    bundle = for_ehr(resources_for(RISK, PLAIN), subject, "https://us.example.org/fhir")
    assert not [it for it in references(bundle) if "Patient/" in it]
    with pytest.raises(Problem, match="the patient has no identifier"):
        identified(document.encode(bundle), lambda: None)
    later = identified(document.encode(bundle), lambda: ("urn:a", "7"))
    subject = replace(subject, identifier=("urn:a", "7"))
    assert later == document.encode(for_ehr(resources_for(RISK, PLAIN), subject, "https://us.example.org/fhir"))


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["reference"]] if isinstance(value.get("reference"), str) else []
        return own + [it for item in value.values() for it in references(item)]
    return [it for item in value for it in references(item)] if isinstance(value, list) else []


def test_every_file_that_builds_a_resource_is_in_the_table() -> None:
    shared = {"__init__", "bundles", "common", "context", "values"}
    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - shared
    assert files == {build.__module__.rsplit(".", 1)[-1] for build in BUILDERS.values()}


def test_a_result_that_another_server_computed_names_the_model_there() -> None:
    url = "https://models.hospital.example/v2/models/risk/versions/3"
    outcome = replace(RISK, computed_by=url)
    made = by_type(outcome, PLAIN)["Provenance"]
    get_fhir_model_class("Provenance").model_validate(made)
    Validator().check(document.of(made))
    performer = made["agent"][-1]
    assert performer["type"]["coding"][0]["code"] == "performer"
    assert performer["who"] == {"type": "Device", "identifier": {"system": "urn:ietf:rfc:3986", "value": url}}
    assert by_type(RISK, PLAIN)["Provenance"]["agent"] == made["agent"][:-1]
