"""What a sender marks as urgent is converted, assessed and delivered before a backlog of what is not."""

import pytest

from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import is_stat
from fhir_adapter.hl7v2.synthesise import SyntheticPatient

from .hospital import ADULT, Hospital

OTHERS = tuple(
    SyntheticPatient(
        mrn=f"R{number}",
        authority=ADULT.authority,
        family="Routine",
        given="Person",
        birth_date=ADULT.birth_date,
        sex="F",
    )
    for number in range(4)
)


def from_sender(message: bytes, sender: str) -> bytes:
    fields = message.split(b"|")
    fields[2] = sender.encode()
    return b"|".join(fields)


def stat(message: bytes) -> bytes:
    """Write TQ1-9 behind the order."""
    segments = message.split(b"\r")
    order = next(place for place, segment in enumerate(segments) if segment.startswith(b"OBR"))
    return b"\r".join([*segments[: order + 1], b"TQ1|1||||||||S", *segments[order + 1 :]])


def test_a_stat_message_is_delivered_before_a_backlog_of_routine_ones_is_converted(hospital: Hospital) -> None:
    for patient in (ADULT, *OTHERS):
        hospital.admit(patient)
    for number, patient in enumerate(OTHERS):
        assert hospital.hl7(from_sender(hospital.vitals(patient), f"WARD{number}")) == "AA"
    assert hospital.hl7(stat(hospital.vitals(ADULT))) == "AA"
    done = 0
    while not hospital.ehr.received("RiskAssessment"):
        assert hospital.application.worker.run_one()
        done += 1
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert risk["subject"]["reference"] == f"Patient/ehr-{ADULT.mrn}"
    assert done == 3, "the conversion, the assessment and the delivery"
    hospital.work()
    assert len(hospital.ehr.received("RiskAssessment")) == 5


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ("OBR|1||F1|X^Y^L\rTQ1|1||||||||S", True),
        ("OBR|1||F1|X^Y^L\rTQ1|1||||||||S^Stat^HL70485", True),
        ("OBR|1||F1|X^Y^L\rTQ1|1||||||||R", False),
        ("OBR|1||F1|X^Y^L|S", True),
        ("OBR|1||F1|X^Y^L|STAT", True),
        ("OBR|1||F1|X^Y^L|A", False),
        (f"OBR|1||F1|X^Y^L{'|' * 23}^^^^^S", True),
        (f"OBR|1||F1|X^Y^L{'|' * 23}^^^^^R", False),
        ("OBR|1||F1|X^Y^L\rOBR|2||F2|X^Y^L|S", True),
        ("OBR|1||F1|X^Y^L", False),
    ],
)
def test_an_order_says_that_it_is_urgent_where_its_version_has_the_field(segments: str, expected: bool) -> None:
    message = f"MSH|^~\\&|LAB|H|A|H|20260115||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||4711\r{segments}\r"
    assert is_stat(Message.parse(message.encode())) is expected
