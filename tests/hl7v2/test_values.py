"""Each kind of output as OBX, read back by another parser."""

from dataclasses import replace

import hl7
import pytest

from fhir_adapter.hl7v2.outgoing.oru_r01 import build
from fhir_adapter.hl7v2.outgoing.values import VALUES
from inference.contract import result_id
from inference.testing import output_of_each_kind

from .test_outgoing import PREDICTION, RESULT

OUTPUTS = output_of_each_kind()
NUMBER = result_id(PREDICTION)
LOCAL = "99AUSCULTA"


def segments(*kinds: str) -> list[tuple[str, ...]]:
    """Return OBX-2 to OBX-6 of outputs of these kinds."""
    outcome = replace(PREDICTION, outputs=tuple(OUTPUTS[kind] for kind in kinds))
    message = hl7.parse(build(replace(RESULT, outcome=outcome)).decode())
    return [tuple(str(obx[field]) for field in range(2, 7)) for obx in message.segments("OBX")]


def headline(kind: str) -> str:
    return f"toy-{kind}^Toy {kind}^{LOCAL}"


EXPECTED = {
    "score": [("NM", headline("score"), "1", "7", "{score}^^UCUM")],
    "probability": [("NM", headline("probability"), "1", "0.873", "")],
    "category": [("CWE", headline("category"), "1", f"high^high^{LOCAL}", "")],
    "class-set": [
        ("CWE", headline("class-set"), "1", f"high^high^{LOCAL}", ""),
        ("NM", f"low^Probability of low^{LOCAL}", "1.1", "0.2", ""),
        ("NM", f"high^Probability of high^{LOCAL}", "1.2", "0.71", ""),
        ("NM", f"other^Probability of other^{LOCAL}", "1.3", "0.09", ""),
    ],
    "interval": [
        ("NM", headline("interval"), "1", "12.3", "h^^UCUM"),
        ("SN", f"INTERVAL^90 % interval^{LOCAL}", "1.1", "^8.1^-^19", "h^^UCUM"),
    ],
    "time-series": [
        ("NM", headline("time-series"), "1", "0.42", "mg/dL^^UCUM"),
        *(
            ("NM", f"VALUE_AT^Toy time-series at the time of OBX-14^{LOCAL}", f"1.{place}", value, "mg/dL^^UCUM")
            for place, value in enumerate(("0.5", "0.77", "0.42"), start=1)
        ),
    ],
    "mask": [
        ("NM", headline("mask"), "1", "0.124", "1^fraction of the image^UCUM"),
        ("ST", f"MASK^Mask^{LOCAL}", "1.1", f"urn:ausculta:result:{NUMBER}#lesion", ""),
    ],
    "spans": [
        ("NM", headline("spans"), "1", "2", ""),
        ("SN", f"drug^drug^{LOCAL}", "1.1", "^0^-^4", "{characters}^characters^UCUM"),
        ("SN", f"dose^dose^{LOCAL}", "1.2", "^9^-^12", "{characters}^characters^UCUM"),
    ],
}


def test_every_kind_is_listed() -> None:
    assert set(VALUES) == set(OUTPUTS) == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_kind_has_its_data_types_and_sub_ids(kind: str) -> None:
    assert segments(kind) == EXPECTED[kind]


def test_set_ids_count_on_and_sub_ids_group_an_output() -> None:
    outcome = replace(PREDICTION, outputs=(OUTPUTS["interval"], OUTPUTS["spans"]))
    message = hl7.parse(build(replace(RESULT, outcome=outcome)).decode())
    assert [(str(obx[1]), str(obx[4])) for obx in message.segments("OBX")] == [
        ("1", "1"),
        ("2", "1.1"),
        ("3", "2"),
        ("4", "2.1"),
        ("5", "2.2"),
    ]


def test_the_values_of_a_time_series_have_their_own_times() -> None:
    outcome = replace(PREDICTION, outputs=(OUTPUTS["time-series"],))
    message = hl7.parse(build(replace(RESULT, outcome=outcome)).decode())
    assert [str(obx[14])[8:12] for obx in message.segments("OBX")] == ["1230", "1200", "1300", "1400"]


def test_the_flag_and_the_notes_belong_to_the_headline() -> None:
    outcome = replace(PREDICTION, outputs=(OUTPUTS["interval"],))
    message = hl7.parse(build(replace(RESULT, outcome=outcome)).decode())
    assert [str(obx[8]) for obx in message.segments("OBX")] == ["H", ""]
    assert [str(segment[0]) for segment in message] == ["MSH", "PID", "ORC", "OBR", "OBX", "NTE", "NTE", "OBX"]
