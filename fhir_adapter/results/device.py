"""The model as a Device (profile AI-Device of HL7 AI Transparency)."""

from fhir_adapter.results.common import (
    AI_PROFILES,
    ARTIFICIAL_INTELLIGENCE,
    MODEL_SYSTEM,
    card_id,
    device_id,
    model_key,
)
from fhir_adapter.results.context import ResultContext
from fhir_adapter.store.document import Json
from inference.contract import DEMONSTRATION, Outcome


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:  # noqa: ARG001 - every builder has this form
    """Build the Device that every result of this model version names.

    It depends on the model alone, so that every result brings the same one.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    model = outcome.model
    uses = f"{model.intended_use} {DEMONSTRATION}" if model.demonstration else model.intended_use
    card = {"reference": f"DocumentReference/{card_id(model)}"}
    device = {
        "resourceType": "Device",
        "id": device_id(model),
        "meta": {"profile": [f"{AI_PROFILES}AI-Device"]},
        "extension": [{"url": f"{AI_PROFILES}aitransparency.modelCardDescription", "valueReference": card}],
        "identifier": [{"system": MODEL_SYSTEM, "value": model_key(model)}],
        "status": "active",
        "manufacturer": model.owner,
        "deviceName": [{"name": model.title, "type": "model-name"}],
        "modelNumber": model.name,
        "type": {"coding": [ARTIFICIAL_INTELLIGENCE]},
        "version": [{"value": model.version}, {"type": {"text": "sha256"}, "value": model.digest}],
        "note": [{"text": uses}],
    }
    return (device,)
