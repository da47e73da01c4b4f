"""Results as ORU^R01, read back by another parser."""

from dataclasses import replace
from datetime import UTC, date, datetime

import hl7
import pytest

from fhir_adapter.hl7v2.conversion import Context
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import convert
from fhir_adapter.hl7v2.outgoing.authority import Authority
from fhir_adapter.hl7v2.outgoing.oru_r01 import Endpoint, FiledUnder, OruResult, Recipient, build
from fhir_adapter.hl7v2.synthesise import LabResult, SyntheticPatient, adt_a03, adt_a04, adt_a08, oru_labs, oru_vitals
from fhir_adapter.results import ExpectedOutput
from inference.contract import ModelIdentity, NotAvailable, Output, Prediction, Spans, Subject, result_id
from inference.testing import output_of_each_kind

AT = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)
SUBJECT = Subject(reference="Patient/abc", birth_date=date(1948, 3, 5), sex="female", identifier=None)
MODEL = ModelIdentity(
    name="news2",
    version="1.0.0",
    digest="d" * 64,
    title="NEWS2",
    intended_use="",
    owner="",
    demonstration=False,
    card="",
    status="active",
)
SCORE = Output(
    name="news2",
    system="http://snomed.info/sct",
    code="1104051000000101",
    display="NEWS2 | total & score^",
    kind="score",
    value=7.0,
    unit="{score}",
    band="high",
    text="AI-generated, not reviewed by a person. NEWS2 7 (high) \\ respirations 25~\nurgent: Łódź 山",
    future=True,
)
FINDING = replace(SCORE, name="finding", system="http://example.org", code="P", value=None, unit=None, band="positive")
PREDICTION = Prediction(
    model=MODEL, subject=SUBJECT, outputs=(SCORE, FINDING), inputs=(), input_versions=("Observation/1/1",), at=AT
)
ABSENT = NotAvailable(
    model=MODEL,
    subject=SUBJECT,
    kind="declined",
    reason="missing oxygen saturation, consciousness",
    missing=("oxygen saturation", "consciousness"),
    inputs=(),
    input_versions=(),
    at=AT,
)
GENERAL = Authority(namespace="GENERAL")
RESULT = OruResult(
    outcome=PREDICTION,
    idempotency_key="k" * 64,
    at=AT,
    patient=Recipient(identifier="4711", authority=GENERAL, family="Müller & Söhne", given=("Änne",), sex="F"),
    sender=Endpoint(application="AUSCULTA", facility="GENERAL"),
    receiver=Endpoint(application="ENGINE", facility="GENERAL"),
)


def read(result: OruResult) -> hl7.Message:
    return hl7.parse(build(result).decode())


def test_the_header_says_what_it_is_and_names_the_delivery() -> None:
    message = read(RESULT)
    assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    assert str(message["MSH.F10"]) == "k" * 50
    assert [str(message[f"MSH.F{field}"]) for field in (3, 5, 11, 12, 18)] == [
        "AUSCULTA",
        "ENGINE",
        "P",
        "2.5.1",
        "UNICODE UTF-8",
    ]


def test_the_patient_is_named_by_the_hospitals_own_identifier() -> None:
    pid = read(RESULT).segment("PID")
    assert str(pid[3]) == "4711^^^GENERAL^MR"
    assert hl7.parse(build(RESULT).decode())["PID.F5.R1.C1"] == "Müller & Söhne"


def test_names_are_left_out_where_they_are_not_given() -> None:
    bare = replace(RESULT, patient=Recipient(identifier="4711", authority=GENERAL))
    assert str(read(bare).segment("PID")) == "PID|1||4711^^^GENERAL^MR"


def test_each_output_is_one_preliminary_obx() -> None:
    message = read(RESULT)
    score, finding = message.segments("OBX")
    assert [str(score[field]) for field in (2, 5, 6, 8, 11)] == ["NM", "7", "{score}^^UCUM", "H", "P"]
    assert [str(finding[field]) for field in (2, 5, 8, 11)] == ["CWE", "positive^positive^99AUSCULTA", "POS", "P"]
    assert str(message.segment("OBR")[25]) == "P"
    assert str(message.segment("OBR")[3]) == f"{result_id(PREDICTION)}^AUSCULTA"
    assert str(score[18]) == f"news2 1.0.0^AUSCULTA^{'d' * 64}^L"


def test_the_text_and_the_names_are_read_back_unchanged() -> None:
    message = Message.parse(build(RESULT))
    first, second = list(message.all("NTE"))[:2]
    assert first.field(3).text == SCORE.text
    assert second.field(3).text == "Model: NEWS2 (news2 1.0.0)."
    obx = message.first("OBX")
    assert obx
    assert obx.get(3, 2) == SCORE.display


def test_the_first_note_says_that_no_person_has_reviewed_it() -> None:
    bare = replace(PREDICTION, outputs=(replace(SCORE, text="NEWS2 7"),))
    note = str(read(replace(RESULT, outcome=bare)).segment("NTE")[3])
    assert note == "AI-generated, not reviewed by a person. NEWS2 7"


def test_the_card_of_a_demonstration_model_says_that_it_is_one() -> None:
    shown = replace(PREDICTION, model=replace(MODEL, demonstration=True))
    assert "Demonstration model, not for clinical use." in build(replace(RESULT, outcome=shown)).decode()


def test_a_result_that_is_not_available_is_said_with_its_reason() -> None:
    message = read(replace(RESULT, outcome=ABSENT))
    obx = message.segment("OBX")
    assert (str(obx[5]), str(obx[11]), str(message.segment("OBR")[25])) == ("", "X", "X")
    assert str(message.segment("NTE")[3]) == "AI result not available: missing oxygen saturation, consciousness"


def test_a_result_that_is_not_available_is_said_in_the_place_of_each_output() -> None:
    expected = tuple(
        ExpectedOutput(system=one.system, code=one.code, display=one.display, future=one.future)
        for one in (SCORE, FINDING)
    )
    given = read(RESULT).segments("OBX")
    absent = read(replace(RESULT, outcome=ABSENT, expected=expected, filed_under=FiledUnder(StudyInstanceUID="1.2.3")))
    *refused, study = absent.segments("OBX")
    assert [(str(one[3]), str(one[4])) for one in refused] == [(str(one[3]), str(one[4])) for one in given]
    assert [(str(one[1]), str(one[5]), str(one[11])) for one in refused] == [("1", "", "X"), ("2", "", "X")]
    assert (str(study[1]), str(study[5])) == ("3", "1.2.3")
    reason = "AI result not available: missing oxygen saturation, consciousness"
    assert [str(note[3]) for note in absent.segments("NTE")] == [reason, "Model: NEWS2 (news2 1.0.0)."] * 2


def test_a_result_with_fewer_values_than_the_one_before_it_takes_the_others_back() -> None:
    spans = output_of_each_kind()["spans"]
    assert isinstance(spans.detail, Spans)
    fewer = replace(spans, value=1.0, detail=Spans(spans=spans.detail.spans[:1]))
    later = replace(RESULT, outcome=replace(PREDICTION, outputs=(fewer,)), sent_before=(spans,))
    found = [(str(one[1]), str(one[3][0][0]), str(one[4]), str(one[11])) for one in read(later).segments("OBX")]
    assert found == [("1", "toy-spans", "1", "P"), ("2", "drug", "1.1", "P"), ("3", "dose", "1.2", "X")]
    assert str(read(later).segments("OBX")[2][5]) == ""


def test_the_same_result_gives_the_same_bytes() -> None:
    assert build(RESULT) == build(RESULT)


ANN = SyntheticPatient(
    mrn="7", authority="GEN", family="O'Neil & Søn", given="Ann", birth_date=date(1950, 2, 3), sex="F"
)


@pytest.mark.parametrize(
    "raw",
    [
        adt_a03(ANN, "S1", AT),
        adt_a04(ANN, "S2", AT),
        adt_a08(ANN, "S3", AT, visit="V1"),
        oru_vitals(ANN, {"pulse": "72", "temperature": "37.10", "consciousness": "Alert"}, "S4", AT),
        oru_labs(ANN, [LabResult(code="2160-0", display="Creatinine", value="80", unit="umol/L", flag="N")], "S5", AT),
    ],
)
def test_synthetic_messages_are_mapped_without_rest(raw: bytes, context: Context) -> None:
    conversion = convert(Message.parse(raw), context)
    assert conversion.unmapped == ()
    assert conversion.bundle["entry"][0]["resource"]["name"][0]["family"] == "O'Neil & Søn"
