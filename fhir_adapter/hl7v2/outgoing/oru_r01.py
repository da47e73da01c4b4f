"""A model's result, or the reason why it is not available, as ORU^R01 (HL7 v2.5.1 section 7.3.1).

Each OBX has one value. An output is one OBX or, by its kind, several with sub-ids (OBX-4 ``1``, ``1.1``, ``1.2``). The
result is preliminary (OBR-25, OBX-11 ``P``) because no person has reviewed it, and its first note states it. A result
that is not available is an OBX with status ``X``, because no message at all could be read as a normal result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from fhir_adapter.hl7v2 import writer
from fhir_adapter.hl7v2.outgoing.values import LOCAL, ObxValue, values_of
from inference.bands import codes_of
from inference.contract import DEMONSTRATION, NotAvailable, Outcome, Output, Prediction, opened, result_id
from inference.wording import refusal

_CODING: Final = {"http://loinc.org": "LN", "http://snomed.info/sct": "SCT"}
_LONGEST_CONTROL_ID: Final = 50


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An application and its facility, MSH-3 and MSH-4 or MSH-5 and MSH-6."""

    application: str
    facility: str


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """The patient of the result, with the identifiers of the hospital that receives it."""

    #: PID-3.1.
    identifier: str
    #: PID-3.4.1, the assigning authority's namespace.
    authority: str
    #: PID-5.1 and PID-5.2; sent only where given.
    family: str = ""
    given: str = ""
    #: PID-7.
    birth_date: date | None = None
    #: PID-8, table 0001.
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class OruResult:
    """The content of one message."""

    #: The model's outcome.
    outcome: Outcome
    #: Id of the delivery, the same at every attempt; it becomes MSH-10.
    idempotency_key: str
    #: MSH-7, aware.
    at: datetime
    #: The patient of the result.
    patient: Recipient
    #: MSH-3 and MSH-4: this server.
    sender: Endpoint
    #: MSH-5 and MSH-6: the interface engine.
    receiver: Endpoint
    #: OBR-2, when the result belongs to an order.
    placer_order: str = ""
    #: MSH-11, table 0103.
    processing_id: str = "P"


def build(result: OruResult) -> bytes:
    """Write the message.

    Parameters
    ----------
    result
        Content and recipient of the message.

    Returns
    -------
    bytes
        UTF-8, without MLLP framing; the same bytes for the same result.
    """
    outcome = result.outcome
    body = [_pid(result.patient), _obr(result)]
    if isinstance(outcome, Prediction):
        first = 1
        for ordinal, output in enumerate(outcome.outputs, start=1):
            values = values_of(output, result_id(outcome))
            body += _output_segments(outcome, output, values, first=first, sub_id=str(ordinal))
            first += len(values)
    else:
        body += _not_available_segment(outcome)
    return writer.message(_msh(result), body)


def _msh(result: OruResult) -> dict[int, writer.Field]:
    return {
        3: result.sender.application,
        4: result.sender.facility,
        5: result.receiver.application,
        6: result.receiver.facility,
        7: writer.stamp(result.at),
        9: ("ORU", "R01", "ORU_R01"),
        10: result.idempotency_key[:_LONGEST_CONTROL_ID],
        11: result.processing_id,
        12: "2.5.1",
    }


def _pid(patient: Recipient) -> str:
    fields: dict[int, writer.Field] = {
        1: "1",
        3: (patient.identifier, "", "", patient.authority, "MR"),
        5: (patient.family, patient.given),
        7: writer.stamp(patient.birth_date) if patient.birth_date else "",
        8: patient.sex,
    }
    return writer.segment(
        "PID", {number: content for number, content in fields.items() if content not in ("", ("", ""))}
    )


def _obr(result: OruResult) -> str:
    outcome = result.outcome
    fields: dict[int, writer.Field] = {
        1: "1",
        2: result.placer_order,
        3: (result_id(outcome), "AUSCULTA"),
        4: (outcome.model.name, outcome.model.title, LOCAL),
        7: writer.stamp(outcome.at),
        22: writer.stamp(outcome.at),
        25: "P" if isinstance(outcome, Prediction) else "X",
    }
    return writer.segment("OBR", fields)


def _output_segments(
    outcome: Prediction, output: Output, values: Sequence[ObxValue], *, first: int, sub_id: str
) -> list[str]:
    """Return the OBX of an output, the notes after the first of them."""
    headline, *others = values
    text = opened(output.text, demonstration=outcome.model.demonstration)
    segments = [_obx(outcome, output, headline, number=first, sub_id=sub_id, flag=codes_of(output.band).flag)]
    segments += _notes(text, _model(outcome))
    return segments + [
        _obx(outcome, output, value, number=first + place, sub_id=f"{sub_id}.{place}")
        for place, value in enumerate(others, start=1)
    ]


def _obx(outcome: Prediction, output: Output, value: ObxValue, *, number: int, sub_id: str, flag: str = "") -> str:
    fields: dict[int, writer.Field] = {
        1: str(number),
        2: value.type,
        3: value.identifier or (output.code, output.display, _CODING.get(output.system, LOCAL)),
        4: sub_id,
        5: value.content,
        6: value.unit,
        8: flag,
        11: "P",
        14: writer.stamp(value.at or outcome.at),
        18: _equipment(outcome),
    }
    return writer.segment("OBX", fields)


def _not_available_segment(outcome: NotAvailable) -> list[str]:
    fields: dict[int, writer.Field] = {
        1: "1",
        2: "ST",
        3: (outcome.model.name, outcome.model.title, LOCAL),
        4: "1",
        11: "X",
        14: writer.stamp(outcome.at),
        18: _equipment(outcome),
    }
    return [writer.segment("OBX", fields), *_notes(refusal(outcome.reason), _model(outcome))]


def _equipment(outcome: Outcome) -> writer.Field:
    return (f"{outcome.model.name} {outcome.model.version}", "AUSCULTA", outcome.model.digest, "L")


def _model(outcome: Outcome) -> str:
    model = outcome.model
    use = f" {DEMONSTRATION}" if model.demonstration else ""
    return f"Model: {model.title} ({model.name} {model.version}).{use}"


def _notes(*texts: str) -> list[str]:
    return [writer.segment("NTE", {1: str(number), 2: "O", 3: text}) for number, text in enumerate(texts, start=1)]
