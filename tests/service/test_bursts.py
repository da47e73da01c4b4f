"""What a site may leave out, and how values that arrive one by one become one result."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from dicom_node.synthesise import ChestXRay
from fhir_adapter.hl7v2.testing import StandInEngine
from inference.testing_folder import pulse_risk
from kernel.errors import Problem
from kernel.log import get_logger

from .hospital import CHILD, ILL, Hospital

ONE_BY_ONE = [{**dict.fromkeys(ILL, ""), name: value} for name, value in ILL.items() if name != "diastolic"]
"""The seven parameters of NEWS2, each in a message of its own."""
CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=256, columns=256)


@pytest.fixture
def engine() -> Iterator[StandInEngine]:
    engine = StandInEngine()
    yield engine
    engine.close()


@pytest.fixture
def leaving_out(open_hospital: Callable[..., Hospital], engine: StandInEngine) -> Callable[..., Hospital]:
    """Open a hospital whose engine leaves something out; its EHR does not."""

    def open_one(*notices: str, **changes: Any) -> Hospital:
        table = {"name": "engine", "kind": "mllp", "host": "127.0.0.1", "port": engine.port, "leave_out": [*notices]}
        hospital = open_hospital(interface_engine=None, destination=(table,), **changes)
        hospital.admit()
        return hospital

    return open_one


def burst(hospital: Hospital) -> None:
    for values in ONE_BY_ONE:
        assert hospital.hl7(hospital.vitals(**values)) == "AA"
        hospital.work()


def statuses(engine: StandInEngine) -> list[str]:
    """Return OBX-11 of each message."""
    return [message.first("OBX").get(11) for message in engine.received()]


def test_by_default_every_step_of_a_burst_is_delivered(hospital: Hospital) -> None:
    hospital.admit()
    burst(hospital)
    assert statuses(hospital.engine) == ["X"] * (len(ONE_BY_ONE) - 1) + ["P"]


def test_a_destination_of_complete_sets_gets_one_message_of_a_burst(
    leaving_out: Callable[..., Hospital], engine: StandInEngine
) -> None:
    hospital = leaving_out("incomplete")
    burst(hospital)
    assert statuses(engine) == ["P"]
    assert len(hospital.results()) == len(ONE_BY_ONE)
    assert len(hospital.ehr.received("RiskAssessment")) == len(ONE_BY_ONE)


def test_what_is_left_out_says_so_in_the_log(
    leaving_out: Callable[..., Hospital], monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = leaving_out("incomplete")
    hospital.hl7(hospital.vitals(**ONE_BY_ONE[0]))
    with capture_logs() as lines:  # loggers keep the processors that they were made with
        monkeypatch.setattr("service.flows.publish._log", get_logger("service.flows.publish"))
        hospital.work()
    (line,) = [line for line in lines if line["event"] == "delivery_left_out"]
    assert (line["destination"], line["notice"]) == ("engine", "incomplete")


def test_a_destination_that_has_a_score_learns_that_it_no_longer_holds(
    leaving_out: Callable[..., Hospital], engine: StandInEngine
) -> None:
    """Without this the old score would read as the present one."""
    hospital = leaving_out("incomplete")
    hospital.hl7(hospital.vitals())
    hospital.work()
    hospital.clock.advance(13 * 3600)
    for values in ONE_BY_ONE[:3]:
        hospital.hl7(hospital.vitals(**values))
        hospital.work()
    assert statuses(engine) == ["P", "X"]


def test_a_value_that_cannot_be_used_is_no_incomplete_set(
    leaving_out: Callable[..., Hospital], engine: StandInEngine
) -> None:
    hospital = leaving_out("incomplete")
    hospital.hl7(hospital.vitals(spo2="9999"))
    hospital.work()
    assert statuses(engine) == ["X"]


def test_a_notice_out_of_scope_is_left_out_only_where_the_site_says_so(
    leaving_out: Callable[..., Hospital], engine: StandInEngine
) -> None:
    hospital = leaving_out("news2:out-of-scope")
    hospital.admit(CHILD)
    hospital.hl7(hospital.vitals(CHILD))
    hospital.work()
    assert statuses(engine) == []
    (row,) = hospital.results()
    assert row.reason == "the model is not for patients under 16 years"
    assert "X" not in [one.first("OBX").get(11) for one in hospital.engine.received()]


def test_a_rule_for_one_model_leaves_the_notices_of_others(
    leaving_out: Callable[..., Hospital], engine: StandInEngine
) -> None:
    hospital = leaving_out("cxr-pneumonia:out-of-scope", "cxr-pneumonia:incomplete", "cxr-pneumonia:not-available")
    hospital.hl7(hospital.vitals(**ONE_BY_ONE[0]))
    hospital.work()
    assert statuses(engine) == ["X"]


def test_every_notice_may_be_left_out(leaving_out: Callable[..., Hospital], engine: StandInEngine) -> None:
    hospital = leaving_out("not-available")
    hospital.hl7(hospital.vitals(spo2="9999"))
    hospital.work()
    assert statuses(engine) == []
    assert len(hospital.results()) == 1


def test_a_pacs_may_get_the_sr_without_the_heat_map(open_hospital: Callable[..., Hospital]) -> None:
    first = open_hospital()
    pacs = first.pacs.peer
    table = {"name": "pacs", "kind": "dicom", "host": pacs.host, "port": pacs.port, "ae_title": pacs.ae_title}
    hospital = open_hospital(pacs=None, destination=({**table, "leave_out": ["heat-map"]},))
    hospital.dicom(CHEST)
    hospital.rest()
    classes = [str(first.pacs.dataset(uid).SOPClassUID.name) for uid in first.pacs.arrivals]
    assert classes == ["Comprehensive 3D SR Storage"]
    (row,) = hospital.results()
    assert row.heat_map is not None


@pytest.mark.parametrize("notices", ["incomplete", ["all"], [":incomplete"], [3]])
def test_what_nobody_can_leave_out_stops_the_start(open_hospital: Callable[..., Hospital], notices: Any) -> None:
    table = {"name": "engine", "kind": "mllp", "host": "127.0.0.1", "port": 2, "leave_out": notices}
    with pytest.raises(Problem, match="destination engine: leave_out"):
        open_hospital(destination=(table,), interface_engine=None)


def test_values_that_settle_first_become_one_result(open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(settle_s={"news2": 20.0})
    hospital.admit()
    burst(hospital)
    assert hospital.results() == []
    hospital.clock.advance(20)
    hospital.work()
    assert statuses(hospital.engine) == ["P"]


def test_a_model_may_declare_how_long_its_values_settle(open_hospital: Callable[..., Hospital], tmp_path: Path) -> None:
    trigger = '{kind: codes, codes: ["8867-4"], settle_seconds: 5}'
    hospital = open_hospital(model_dirs=(pulse_risk(tmp_path / "v1", trigger=trigger),))
    hospital.admit()
    counts = []
    for seconds in (0, 4, 1):
        hospital.clock.advance(seconds)
        hospital.hl7(hospital.vitals())
        hospital.work()
        counts.append(len([row for row in hospital.results() if row.model == "pulse-risk"]))
    assert counts == [0, 0, 1]


def test_a_chatty_monitor_does_not_put_the_result_off(open_hospital: Callable[..., Hospital]) -> None:
    """The time counts from the first value, so that no further value delays the result."""
    hospital = open_hospital(settle_s={"news2": 20.0})
    hospital.admit()
    hospital.hl7(hospital.vitals())
    for _ in range(4):
        hospital.work()
        hospital.clock.advance(5)
        hospital.hl7(hospital.vitals())
    hospital.work()
    assert len(hospital.results()) == 1


def test_values_that_settle_are_no_wrong_clock(open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(settle_s={"news2": 20.0})
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    ready = httpx.get(f"{hospital.web.url}/health/ready").json()
    assert "future" not in str(ready.get("warnings", ""))
