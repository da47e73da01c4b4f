"""The risk of a future event as a RiskAssessment (R4, riskassessment.html).

R4 gives ``probability`` as a percentage (ras-2: at most 100) while much software writes a fraction, so the band and the
words always stand beside it. A score is no probability and gets none: the points are in the mirrored Observation.
"""

from fhir_adapter.results.common import (
    about,
    device_reference,
    input_references,
    labelled,
    method,
    when,
)
from fhir_adapter.results.context import ResultContext
from fhir_adapter.results.values import predictions_of
from fhir_adapter.store.document import Json
from inference.contract import NotAvailable, Outcome, result_id
from inference.wording import refusal


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:
    """Build the RiskAssessment of an outcome that concerns the future, none for a finding that is present now.

    One that is not available is ``cancelled``, R4's word for "unavailable because not started or not completed",
    without a prediction, and states why.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    if not _concerns_future(outcome, context):
        return ()
    model = outcome.model
    assessment: Json = {
        "resourceType": "RiskAssessment",
        "id": result_id(outcome),
        **labelled(outcome),
        "status": "cancelled" if isinstance(outcome, NotAvailable) else "preliminary",
        "method": method(model),
        **about(outcome, context),
        "occurrenceDateTime": when(outcome.at),
        "performer": device_reference(model),
    }
    inputs = input_references(outcome)
    assessment |= {"basis": inputs} if inputs else {}
    if isinstance(outcome, NotAvailable):
        return (assessment | {"note": [{"text": refusal(outcome.reason)}]},)
    future = [output for output in outcome.outputs if output.future]
    notes = [{"text": output.text} for output in future]
    return (assessment | {"prediction": [one for output in future for one in predictions_of(output)], "note": notes},)


def _concerns_future(outcome: Outcome, context: ResultContext) -> bool:
    if isinstance(outcome, NotAvailable):
        expected = [output.future for output in context.expected]
        return any(expected) if expected else context.study is None
    return any(output.future for output in outcome.outputs)
