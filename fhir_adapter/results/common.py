"""What all results share: labels, names, references and the words for an outcome that is not there."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from fhir_adapter.results.context import ExpectedOutput, ResultContext
from fhir_adapter.store.document import Json
from inference.contract import ModelIdentity, NotAvailable, Outcome, Output, Prediction, result_id
from inference.wording import refusal

RESULT_SYSTEM: Final = "urn:ausculta:result"
MODEL_SYSTEM: Final = "urn:ausculta:model"
CARD_SYSTEM: Final = "urn:ausculta:model-card"

URI: Final = "urn:ietf:rfc:3986"

AIAST: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
"""The security label of everything that a machine asserted."""
MODEL_STATUS_SYSTEM: Final = "urn:ausculta:model-status"
SHADOW: Final = {"system": MODEL_STATUS_SYSTEM, "code": "shadow", "display": "Of a model in shadow: not delivered"}
"""The tag of what a model in shadow says: nobody has decided that it may be relied on."""

AI_PROFILES: Final = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/"
AI_CODES: Final = "http://hl7.org/fhir/uv/aitransparency/CodeSystem/"
ARTIFICIAL_INTELLIGENCE: Final = {"system": f"{AI_CODES}AIdeviceTypeCS", "code": "Artificial-Intelligence"}

_ALTERNATE_REFERENCE: Final = "http://hl7.org/fhir/StructureDefinition/alternate-reference"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_ABSENT_CODES: Final = {
    "declined": ("not-performed", "Not Performed"),
    "failed": ("error", "Error"),
    "stopped": ("not-performed", "Not Performed"),
}


def derived_id(*parts: str) -> str:
    """Name a resource after what it is about: 64 hexadecimal digits, as many as an id may have."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def device_id(model: ModelIdentity) -> str:
    """Return the id of the Device that is a model."""
    return derived_id("Device", model.name, model.version, model.digest)


def card_id(model: ModelIdentity) -> str:
    """Return the id of the DocumentReference that is a model's card."""
    return derived_id("DocumentReference", model.name, model.version, model.digest)


def model_key(model: ModelIdentity) -> str:
    """Return the business identifier of a model."""
    return f"{model.name}:{model.version}:{model.digest}"


def labelled(outcome: Outcome, key: str = "") -> Json:
    """Return ``meta`` and ``identifier`` of an AI result.

    Parameters
    ----------
    outcome
        The outcome that the result states.
    key
        Distinguishes several results of one type; empty when there is one.
    """
    value = f"{result_id(outcome)}.{key}" if key else result_id(outcome)
    tags = status_tags(outcome.model)
    meta: Json = {"security": [AIAST]} | ({"tag": tags} if tags else {})
    return {"meta": meta, "identifier": [{"system": RESULT_SYSTEM, "value": value}]}


def status_tags(model: ModelIdentity) -> list[Json]:
    """Return the tags that mark what a model says: :data:`SHADOW` for a model in shadow."""
    return [SHADOW] if model.status == "shadow" else []


def about(outcome: Outcome, context: ResultContext) -> Json:
    """Return ``subject`` and, where the context has one, ``encounter``.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    fields: Json = {"subject": {"reference": outcome.subject.reference}}
    if not context.encounter:
        return fields
    encounter: Json = {"reference": context.encounter}
    if context.visit_number is not None:
        system, value = context.visit_number
        encounter["identifier"] = {"system": system, "value": value}
    return fields | {"encounter": encounter}


def device_reference(model: ModelIdentity) -> Json:
    """Refer to the model."""
    return {"reference": f"Device/{device_id(model)}", "display": f"{model.title} {model.version}"}


def device_performer(model: ModelIdentity) -> list[Json]:
    """Name the model as performer where R4 allows no Device, by HL7's extension alternate-reference."""
    return [{"extension": [{"url": _ALTERNATE_REFERENCE, "valueReference": device_reference(model)}]}]


def method(model: ModelIdentity) -> Json:
    """Return ``method``: the model and its version."""
    coding = {"system": MODEL_SYSTEM, "code": model.name, "version": model.version, "display": model.title}
    return {"coding": [coding], "text": f"{model.title} {model.version}"}


def input_references(outcome: Outcome, *kinds: str) -> list[Json]:
    """Refer to the versioned inputs that are resources.

    Parameters
    ----------
    outcome
        The outcome whose inputs they are.
    kinds
        Resource types; all when none is given.
    """
    sources = dict.fromkeys([used.source for used in outcome.inputs] + list(outcome.input_versions))
    return [{"reference": source} for source in sources if _is_resource(source, kinds)]


def other_inputs(outcome: Outcome) -> list[str]:
    """Name the inputs that are no resources, such as the versions of DICOM instances."""
    sources = dict.fromkeys([used.source for used in outcome.inputs] + list(outcome.input_versions))
    return [source for source in sources if source and not _is_resource(source, ())]


def _is_resource(source: str, kinds: Iterable[str]) -> bool:
    parts = source.split("/")
    return len(parts) in {2, 4} and parts[0][:1].isupper() and (not kinds or parts[0] in kinds)


def outputs_of(outcome: Outcome, context: ResultContext) -> tuple[Output | ExpectedOutput, ...]:
    """Return the outputs of a prediction or, for an outcome that is not available, the expected outputs.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    return outcome.outputs if isinstance(outcome, Prediction) else context.expected


def concept(output: Output | ExpectedOutput) -> Json:
    """Return the code of an output."""
    coding = {"system": output.system, "code": output.code, "display": output.display}
    return {"coding": [coding], "text": output.display}


def absent_reason(outcome: NotAvailable) -> Json:
    """Return ``dataAbsentReason`` (R4 value set data-absent-reason) with the reason in words."""
    code, display = _ABSENT_CODES[outcome.kind]
    return {"coding": [{"system": _ABSENT, "code": code, "display": display}], "text": refusal(outcome.reason)}


def number(value: float) -> int | float:
    """Return a number as a person would write it: ``7`` for 7.0, ``0.8312`` for a probability."""
    return int(value) if value == int(value) else round(value, 4)


def when(moment: datetime) -> str:
    """Write an aware datetime as a FHIR dateTime in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
