"""What a model said as an Observation: a finding that is present now, or the mirror of a risk (R4, observation.html).

The status is ``preliminary``, because nobody has looked at it. An outcome that is not available is ``cancelled``, which
R4 defines as "unavailable because the measurement was not started or not completed", with a ``dataAbsentReason``.
"""

from typing import Final

from fhir_adapter.results.common import (
    about,
    absent_reason,
    concept,
    derived_id,
    device_performer,
    device_reference,
    input_references,
    labelled,
    method,
    outputs_of,
    when,
)
from fhir_adapter.results.context import ExpectedOutput, ResultContext
from fhir_adapter.results.imaging_study import study_reference
from fhir_adapter.results.values import value_of
from fhir_adapter.store.document import Json
from inference.bands import codes_of
from inference.contract import NotAvailable, Outcome, Output, result_id
from inference.wording import refusal

_INTERPRETATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:
    """Build an Observation for each output; at least one, even when no output is expected.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    outputs = outputs_of(outcome, context)
    several = len(outputs) > 1
    built = [_observation(outcome, context, output, key=_key(output) if several else "") for output in outputs]
    return tuple(built) or (_observation(outcome, context, None, key=""),)


def observation_ids(outcome: Outcome, context: ResultContext) -> list[str]:
    """Return the ids of what :func:`build` builds.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    outputs = outputs_of(outcome, context)
    several = len(outputs) > 1
    return [_id(outcome, _key(output) if several else "") for output in outputs] or [_id(outcome, "")]


def _key(output: Output | ExpectedOutput) -> str:
    return output.code


def _id(outcome: Outcome, key: str) -> str:
    return derived_id(result_id(outcome), key) if key else result_id(outcome)


def _observation(outcome: Outcome, context: ResultContext, output: Output | ExpectedOutput | None, *, key: str) -> Json:
    model, study = outcome.model, context.study
    category = ("imaging", "Imaging") if study else ("survey", "Survey")
    sources = input_references(outcome, "Observation", "ImagingStudy", "DocumentReference", "QuestionnaireResponse")
    sources = [study_reference(study), *sources] if study else sources
    built: Json = {
        "resourceType": "Observation",
        "id": _id(outcome, key),
        **labelled(outcome, key),
        "status": "cancelled" if isinstance(outcome, NotAvailable) else "preliminary",
        "category": [{"coding": [{"system": _CATEGORY, "code": category[0], "display": category[1]}]}],
        "code": concept(output) if output else {"text": model.title},
        **about(outcome, context),
        "effectiveDateTime": when(context.observed or outcome.at),
        "issued": when(context.now),
        "performer": device_performer(model),
        **_said(outcome, output),
        "method": method(model),
        "device": device_reference(model),
    }
    if "effectivePeriod" in built:
        del built["effectiveDateTime"]  # the period of a time series; an Observation has one effective[x]
    return built | ({"derivedFrom": sources} if sources else {})


def _said(outcome: Outcome, output: Output | ExpectedOutput | None) -> Json:
    if isinstance(outcome, NotAvailable):
        return {"dataAbsentReason": absent_reason(outcome), "note": [{"text": refusal(outcome.reason)}]}
    assert isinstance(output, Output)
    return value_of(output, result_id(outcome)) | {
        "interpretation": [_interpretation(output)],
        "note": [{"text": output.text}],
    }


def _interpretation(output: Output) -> Json:
    interpretation = codes_of(output.band).interpretation
    if interpretation is None:
        return {"text": output.band}
    return {
        "coding": [{"system": _INTERPRETATION, "code": interpretation[0], "display": interpretation[1]}],
        "text": output.band,
    }
