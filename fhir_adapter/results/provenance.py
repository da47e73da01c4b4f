"""Where a result comes from: model, card, inputs and software (profile AI-Provenance of HL7 AI Transparency)."""

from typing import Final

from fhir_adapter.results import diagnostic_report, observation, risk_assessment
from fhir_adapter.results.common import (
    AI_PROFILES,
    AIAST,
    ARTIFICIAL_INTELLIGENCE,
    RESULT_SYSTEM,
    URI,
    card_id,
    device_reference,
    input_references,
    other_inputs,
    status_tags,
    when,
)
from fhir_adapter.results.context import ResultContext
from fhir_adapter.store.document import Json
from inference.contract import Outcome, Prediction, result_id

_AUTHOR: Final = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"},
    ]
}
_PERFORMER: Final = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "performer"},
    ]
}
_ASSEMBLER: Final = {
    "coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "assembler"},
    ]
}


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:
    """Build the Provenance of everything that one outcome asserts.

    R4's Provenance has no identifier, so a tag holds the result's: ``_tag=urn:ausculta:result|…`` finds it.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    model = outcome.model
    results = [
        *observation.build(outcome, context),
        *risk_assessment.build(outcome, context),
        *diagnostic_report.build(outcome, context),
    ]
    entities: list[Json] = [{"role": "derivation", "what": {"reference": f"DocumentReference/{card_id(model)}"}}]
    entities += [{"role": "source", "what": reference} for reference in input_references(outcome)]
    entities += [
        {"role": "source", "what": {"identifier": {"system": URI, "value": version}}}
        for version in other_inputs(outcome)
    ]
    entities += [
        {"role": "revision", "what": {"identifier": {"system": RESULT_SYSTEM, "value": earlier}}}
        for earlier in context.supersedes
    ]
    software = {
        "identifier": {"system": "urn:ausculta:software", "value": context.software_version},
        "display": "Ausculta",
    }
    built = {
        "resourceType": "Provenance",
        "id": result_id(outcome),
        "meta": {
            "profile": [f"{AI_PROFILES}AI-Provenance"],
            "security": [AIAST],
            "tag": [{"system": RESULT_SYSTEM, "code": result_id(outcome)}, *status_tags(model)],
        },
        "target": [{"reference": f"{result['resourceType']}/{result['id']}"} for result in results],
        "occurredDateTime": when(outcome.at),
        "recorded": when(context.now),
        "reason": [{"coding": [AIAST]}],
        "agent": [
            {"type": _AUTHOR, "role": [{"coding": [ARTIFICIAL_INTELLIGENCE]}], "who": device_reference(model)},
            {"type": _ASSEMBLER, "who": software},
            *_performers(outcome),
        ],
        "entity": entities,
    }
    return (built,)


def _performers(outcome: Outcome) -> list[Json]:
    """Return the model of another server that computed the result, by its URL, where one did."""
    if not isinstance(outcome, Prediction) or not outcome.computed_by:
        return []
    return [
        {"type": _PERFORMER, "who": {"type": "Device", "identifier": {"system": URI, "value": outcome.computed_by}}}
    ]
