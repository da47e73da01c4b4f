"""A model's result, or the reason why it is not available, as ORU^R01 (HL7 v2.5.1 section 7.3.1).

Each OBX has one value. An output is one OBX or, by its kind, several with sub-ids (OBX-4 ``1``, ``1.1``, ``1.2``). The
result is preliminary (OBR-25, OBX-11 ``P``) because no person has reviewed it, and its first note states it. A result
that is not available is an OBX with status ``X`` for each output, with the OBX-3 and OBX-4 that the output would have
had: a receiver that files by them does not keep an earlier score as the newest. For the same reason each value of the
prediction before it that has no place in a message is sent again in its own place, with status ``X`` and no value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final, TypeAlias

from fhir_adapter.hl7v2 import writer
from fhir_adapter.hl7v2.outgoing.authority import Authority
from fhir_adapter.hl7v2.outgoing.values import LOCAL, Code, ObxValue, values_of
from fhir_adapter.results.context import ExpectedOutput
from inference.bands import codes_of
from inference.contract import DEMONSTRATION, NotAvailable, Outcome, Output, Prediction, opened, result_id
from inference.wording import refusal

_CODING: Final = {"http://loinc.org": "LN", "http://snomed.info/sct": "SCT"}
_LONGEST_CONTROL_ID: Final = 50

_Place: TypeAlias = tuple[str, str, str]
"""OBX-3.1, OBX-3.3 and OBX-4: what a receiver files a value under."""


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
    #: PID-3.4.
    authority: Authority
    #: PID-3.5, table 0203.
    type: str = "MR"
    #: PID-5.1; like the other parts of the name, sent only where given.
    family: str = ""
    #: PID-5.2, and PID-5.3 for all but the first.
    given: tuple[str, ...] = ()
    #: PID-5.5.
    prefix: tuple[str, ...] = ()
    #: PID-5.4.
    suffix: tuple[str, ...] = ()
    #: PID-7.
    birth_date: date | None = None
    #: PID-8, table 0001.
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of an order or a visit, and whoever assigned it."""

    value: str
    authority: Authority
    #: Table 0203; empty where it is not stated.
    type: str = ""


@dataclass(frozen=True, kw_only=True)
class FiledUnder:
    """What a receiver files a result under; each part is left out where it is not known."""

    #: PV1-19.
    visit: Number | None = None
    #: PV1-2, table 0004.
    patient_class: str = ""
    #: PV1-3.9, in words.
    location: str = ""
    #: ORC-2, OBR-2 and OBR-29.1: the order that the result rests on, as its placer counts.
    placer: Number | None = None
    #: OBR-29.2: the same order, as its filler counts.
    filler: Number | None = None
    #: OBR-18.
    accession: str = ""
    #: An OBX of its own with DICOM's code 110180.
    StudyInstanceUID: str = ""
    #: OBR-7 and OBX-14: when what the result rests on was true; aware.
    observed: datetime | None = None


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
    #: Visit, order and study.
    filed_under: FiledUnder = FiledUnder()
    #: What the model was asked for, in the order of its manifest.
    expected: tuple[ExpectedOutput, ...] = ()
    #: MSH-11, table 0103.
    processing_id: str = "P"
    #: The outputs of the prediction before it: what of them has no place in this message is taken back.
    sent_before: tuple[Output, ...] = ()


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
    outcome, filed = result.outcome, result.filed_under
    body = [_pid(result.patient), *_pv1(filed), _orc(result), _obr(result)]
    first = 1
    filled: set[_Place] = set()
    if isinstance(outcome, Prediction):
        filled = {place for place, _ in _places(outcome.outputs)}
        for ordinal, output in enumerate(outcome.outputs, start=1):
            values = values_of(output, result_id(outcome))
            body += _output_segments(result, outcome, output, values, first=first, sub_id=str(ordinal))
            first += len(values)
    else:
        filled = {(code[0], code[2], str(ordinal)) for ordinal, code in enumerate(_refused_codes(result), start=1)}
        body += _not_available(result, outcome)
        first += len(filled)
    gone = [(place, value) for place, value in _places(result.sent_before) if place not in filled]
    body += [
        _refused(result, value.identifier or "", number, sub_id=place[2], at=value.at)
        for number, (place, value) in enumerate(gone, start=first)
    ]
    first += len(gone)
    if filed.StudyInstanceUID:
        body.append(_study(result, first))
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
    first, *others = patient.given or ("",)
    name = (patient.family, first, " ".join(others), " ".join(patient.suffix), " ".join(patient.prefix))
    fields: dict[int, writer.Field] = {
        1: "1",
        3: cx(patient.identifier, patient.authority, patient.type),
        5: name if any(name) else "",
        7: writer.stamp(patient.birth_date) if patient.birth_date else "",
        8: patient.sex,
    }
    return writer.segment("PID", {number: content for number, content in fields.items() if content})


def _pv1(filed: FiledUnder) -> list[str]:
    if filed.visit is None and not filed.location:
        return []
    number = filed.visit
    fields: dict[int, writer.Field] = {
        1: "1",
        2: filed.patient_class or "U",
        3: ("", "", "", "", "", "", "", "", filed.location),
        19: ("" if number is None else cx(number.value, number.authority, number.type or "VN")),
    }
    return [writer.segment("PV1", fields)]


def _orc(result: OruResult) -> str:
    return writer.segment("ORC", {1: "RE", 2: _number(result.filed_under.placer), 3: _filler(result)})


def cx(number: str, authority: Authority, kind: str) -> writer.Field:
    """Return a number as CX (section 2A.3.14).

    Parameters
    ----------
    number
        CX.1.
    authority
        CX.4.
    kind
        CX.5.
    """
    return (number, "", "", authority.parts, kind)


def _number(number: Number | None) -> tuple[str, ...]:
    """Return a number as EI (section 2A.3.28)."""
    return ("",) if number is None else (number.value, *number.authority.parts)


def _filler(result: OruResult) -> writer.Field:
    return (result_id(result.outcome), "AUSCULTA")


def _observed(result: OruResult) -> str:
    return writer.stamp(result.filed_under.observed or result.outcome.at)


def _obr(result: OruResult) -> str:
    outcome, filed = result.outcome, result.filed_under
    fields: dict[int, writer.Field] = {
        1: "1",
        2: _number(filed.placer),
        3: _filler(result),
        4: (outcome.model.name, outcome.model.title, LOCAL),
        7: _observed(result),
        18: filed.accession,
        22: writer.stamp(outcome.at),
        25: "P" if isinstance(outcome, Prediction) else "X",
        # The numbers of the order's filler stand here: OBR-3 is the number under which this server can be asked.
        29: (_number(filed.placer), _number(filed.filler)),
    }
    return writer.segment("OBR", fields)


def _output_segments(
    result: OruResult, outcome: Prediction, output: Output, values: Sequence[ObxValue], *, first: int, sub_id: str
) -> list[str]:
    """Return the OBX of an output, the notes after the first of them."""
    headline, *others = values
    text = opened(output.text, demonstration=outcome.model.demonstration)
    segments = [_obx(result, output, headline, number=first, sub_id=sub_id, flag=codes_of(output.band).flag)]
    segments += _notes(text, _model(outcome))
    return segments + [
        _obx(result, output, value, number=first + place, sub_id=f"{sub_id}.{place}")
        for place, value in enumerate(others, start=1)
    ]


def _obx(result: OruResult, output: Output, value: ObxValue, *, number: int, sub_id: str, flag: str = "") -> str:
    fields: dict[int, writer.Field] = {
        1: str(number),
        2: value.type,
        3: value.identifier or _coded(output),
        4: sub_id,
        5: value.content,
        6: value.unit,
        8: flag,
        11: "P",
        14: writer.stamp(value.at) if value.at else _observed(result),
        18: _equipment(result.outcome),
        19: writer.stamp(result.outcome.at),
    }
    return writer.segment("OBX", fields)


def _coded(output: Output | ExpectedOutput) -> Code:
    return (output.code, output.display, _CODING.get(output.system, LOCAL))


def _places(outputs: Sequence[Output]) -> list[tuple[_Place, ObxValue]]:
    """Return each value of some outputs with the place that it is filed under; every value has its identifier."""
    found: list[tuple[_Place, ObxValue]] = []
    for ordinal, output in enumerate(outputs, start=1):
        for number, value in enumerate(values_of(output, "")):
            code = value.identifier or _coded(output)
            place = (code[0], code[2], f"{ordinal}.{number}" if number else str(ordinal))
            found.append((place, replace(value, identifier=code)))
    return found


def _refused_codes(result: OruResult) -> list[Code]:
    """Return the code of each expected output; that of the model itself where no output is declared."""
    model = result.outcome.model
    return [_coded(output) for output in result.expected] or [(model.name, model.title, LOCAL)]


def _not_available(result: OruResult, outcome: NotAvailable) -> list[str]:
    """Return the segments that state, for each expected output, why it is not available."""
    notes = _notes(refusal(outcome.reason), _model(outcome))
    segments: list[str] = []
    for number, code in enumerate(_refused_codes(result), start=1):
        segments += [_refused(result, code, number, sub_id=str(number)), *notes]
    return segments


def _refused(result: OruResult, code: writer.Field, number: int, *, sub_id: str, at: datetime | None = None) -> str:
    fields: dict[int, writer.Field] = {
        1: str(number),
        2: "ST",
        3: code,
        4: sub_id,
        11: "X",
        14: writer.stamp(at) if at else _observed(result),
        18: _equipment(result.outcome),
        19: writer.stamp(result.outcome.at),
    }
    return writer.segment("OBX", fields)


def _study(result: OruResult, number: int) -> str:
    """Return the OBX that names the study (PS3.16, code 110180)."""
    fields: dict[int, writer.Field] = {
        1: str(number),
        2: "ST",
        3: ("110180", "Study Instance UID", "DCM"),
        5: result.filed_under.StudyInstanceUID,
        11: "P",
        14: _observed(result),
    }
    return writer.segment("OBX", fields)


def _equipment(outcome: Outcome) -> writer.Field:
    return (f"{outcome.model.name} {outcome.model.version}", "AUSCULTA", outcome.model.digest, "L")


def _model(outcome: Outcome) -> str:
    model = outcome.model
    use = f" {DEMONSTRATION}" if model.demonstration else ""
    return f"Model: {model.title} ({model.name} {model.version}).{use}"


def _notes(*texts: str) -> list[str]:
    return [writer.segment("NTE", {1: str(number), 2: "O", 3: text}) for number, text in enumerate(texts, start=1)]
