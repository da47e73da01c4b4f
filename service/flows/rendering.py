"""One destination's form of a result, so that a form that cannot be written costs nobody else theirs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from fhir_adapter.results import ResultContext, resources_for
from inference.contract import NotAvailable, Outcome
from kernel.log import get_logger
from service.destinations.contract import Destination, ModelResult, Rendered, unwritten

UNWRITTEN: Final = "the result could not be written in the form of this destination"
"""Completes "AI result not available: ..."."""

_log = get_logger(__name__)


def forms(
    destination: Destination,
    result: str,
    model_result: ModelResult,
    resources: Sequence[dict[str, Any]],
    context: ResultContext,
) -> Sequence[Rendered]:
    """Render a result for one destination; where that fails, the reason in its place, and a record of the failure.

    Parameters
    ----------
    destination
        Who is to have it.
    result
        Its id.
    model_result
        What the model said.
    resources
        Its FHIR resources.
    context
        How FHIR resources describe this server.
    """
    try:
        return destination.render(result, model_result, resources)
    except Exception as failure:  # noqa: BLE001 - whatever one form meets, the others are written
        failed = _unwritten(destination, f"{result}:unwritten", failure)
    refused = replace(model_result, outcome=_refusal(model_result.outcome))
    try:
        return [*destination.render(result, refused, resources_for(refused.outcome, context)), failed]
    except Exception as failure:  # noqa: BLE001 - as above
        return [_unwritten(destination, f"{result}:unwritten", failure)]


def _unwritten(destination: Destination, key: str, failure: Exception) -> Rendered:
    _log.error("result_not_written", destination=destination.name, failure=failure)
    return Rendered(idempotency_key=key, payload=b"", failure=unwritten(UNWRITTEN, failure))


def _refusal(outcome: Outcome) -> NotAvailable:
    return NotAvailable(
        model=outcome.model,
        subject=outcome.subject,
        kind="failed",
        reason=UNWRITTEN,
        missing=(),
        inputs=(),
        input_versions=outcome.input_versions,
        at=outcome.at,
        follows=outcome.follows,
    )
