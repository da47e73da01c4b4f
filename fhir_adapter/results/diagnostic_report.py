"""An imaging result as a DiagnosticReport, ``preliminary`` until a person has signed (R4, diagnosticreport.html)."""

from typing import Final

from fhir_adapter.results.common import about, device_performer, labelled, when
from fhir_adapter.results.context import ResultContext
from fhir_adapter.results.imaging_study import study_reference
from fhir_adapter.results.observation import observation_ids
from fhir_adapter.store.document import Json
from inference.contract import NotAvailable, Outcome, result_id
from inference.wording import refusal

_RADIOLOGY: Final = {"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD", "display": "Radiology"}
_IMAGING: Final = {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:
    """Build the report of an imaging result, none for any other.

    A report on a result that is not available is ``preliminary`` too, not ``cancelled``: lists of reports hide
    cancelled ones, and a missing report must not read as normal.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    study = context.study
    if study is None:
        return ()
    if isinstance(outcome, NotAvailable):
        conclusion = refusal(outcome.reason)
    else:
        conclusion = " ".join(output.text for output in outcome.outputs)
    report = {
        "resourceType": "DiagnosticReport",
        "id": result_id(outcome),
        **labelled(outcome),
        "status": "preliminary",
        "category": [{"coding": [_RADIOLOGY]}],
        "code": {"coding": [_IMAGING], "text": f"AI reading: {outcome.model.title}"},
        **about(outcome, context),
        "effectiveDateTime": when(context.observed or outcome.at),
        "issued": when(context.now),
        "performer": device_performer(outcome.model),
        "result": [{"reference": f"Observation/{name}"} for name in observation_ids(outcome, context)],
        "imagingStudy": [study_reference(study)],
        "conclusion": conclusion,
    }
    return (report,)
