"""The model's card as a DocumentReference (profile AI-ModelCard of HL7 AI Transparency)."""

from base64 import b64encode
from hashlib import sha1

from fhir_adapter.results.common import AI_CODES, AI_PROFILES, CARD_SYSTEM, card_id, model_key
from fhir_adapter.results.context import ResultContext
from fhir_adapter.store.document import Json
from inference.contract import Outcome


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:  # noqa: ARG001 - every builder has this form
    """Build the DocumentReference that holds the card; it depends on the model alone.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    model = outcome.model
    card = model.card.encode()
    attachment = {
        "contentType": "text/markdown",
        "data": b64encode(card).decode(),
        "size": len(card),
        "hash": b64encode(sha1(card, usedforsecurity=False).digest()).decode(),  # R4, datatypes.html#Attachment: SHA-1
        "title": f"{model.title} {model.version}",
    }
    if not card:
        attachment = {"contentType": "text/markdown", "title": f"{model.title} {model.version}: no card"}
    document = {
        "resourceType": "DocumentReference",
        "id": card_id(model),
        "meta": {"profile": [f"{AI_PROFILES}AI-ModelCard"]},
        "identifier": [{"system": CARD_SYSTEM, "value": model_key(model)}],
        "status": "current",
        "type": {"coding": [{"system": f"{AI_CODES}AIinputsCS", "code": "AIModelCard"}]},
        "category": [{"coding": [{"system": f"{AI_CODES}AIinputsCS", "code": "AIModelCardMarkdownFormat"}]}],
        "description": f"Model card of {model.title} {model.version}",
        "content": [{"attachment": attachment}],
    }
    return (document,)
