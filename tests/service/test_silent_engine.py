"""An engine that accepts the connection and never answers delays its own messages, and nothing else."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.hl7v2.client import MllpClient, Timeouts
from kernel.testing import FakeClock
from service.application import build
from service.destinations.mllp import MllpDestination
from service.listeners.intake import IntakeListeners
from service.settings import HostPort, load

from .hospital import Hospital
from .scripted import ScriptedEhr, ScriptedEngine, accept, replace_client, stay_silent
from .test_held_deliveries import ADA, BOB, EVERYBODY, deliveries, pass_time, score
from .test_undelivered import ready

PATIENCE_S = 20


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], engine: ScriptedEngine) -> Hospital:
    hospital = open_hospital(ehr_url="", interface_engine=HostPort(host="127.0.0.1", port=engine.port), pacs=None)
    destination = hospital.application.destinations["engine"]
    assert isinstance(destination, MllpDestination)
    replace_client(destination, MllpClient("127.0.0.1", engine.port, Timeouts(answer_s=0.2)))
    return hospital


def test_a_silent_engine_is_named_and_tried_on_a_schedule(hospital: Hospital, engine: ScriptedEngine) -> None:
    engine.replies[b""] = stay_silent
    score(hospital, ADA)
    state = ready(hospital)
    assert (state["status"], state["deliveries"]["engine"]["held"]) == ("warn", 1)
    assert state["deliveries"]["engine"]["output"] == "the HL7 receiver did not answer in time"
    pass_time(hospital, 1)
    assert 10 < len(engine.arrived) < 20
    assert len(set(engine.arrived)) == 1


def test_an_engine_that_is_silent_for_everybody_is_asked_once_at_a_time(
    hospital: Hospital, engine: ScriptedEngine
) -> None:
    engine.replies[b""] = stay_silent
    score(hospital, *EVERYBODY)
    engine.arrived.clear()
    pass_time(hospital, 0.5)
    assert len(engine.arrived) <= 62  # each half minute, and not for every message
    assert hospital.parked() == []
    engine.replies.clear()
    pass_time(hospital, 0.5)
    assert len(engine.accepted) == len(EVERYBODY)


def test_a_late_acknowledgement_is_not_that_of_another_message(hospital: Hospital, engine: ScriptedEngine) -> None:
    """The engine does not answer the first message, and every later one with the acknowledgement of another."""
    kept: list[bytes] = []

    def one_behind(raw: bytes) -> bytes | None:
        kept.append(raw)
        others = [other for other in kept if other != raw]
        return accept(others[-1]) if others else None

    engine.replies[b""] = one_behind
    score(hospital, ADA, BOB)
    assert deliveries(hospital, "delivered") == []
    engine.replies.clear()
    pass_time(hospital, 0.1)
    assert (len(engine.about("ADA")), len(engine.about("BOB"))) == (1, 1)


def test_a_silent_engine_takes_no_hand_from_the_ehr(tmp_path: Path, engine: ScriptedEngine, ehr: ScriptedEhr) -> None:
    """The engine holds its message for 30 s; one thread runs the jobs, besides those of the destinations."""
    engine.replies[b""] = stay_silent
    asked, second = threading.Event(), threading.Event()
    engine.arrived, ehr.accepted = _Signals(asked, 1), _Signals(second, 2)
    settings = load(
        {},
        None,
        data_dir=tmp_path / "ausculta",
        mllp_port=0,
        dicom_port=0,
        ehr_url=ehr.url,
        interface_engine=HostPort(host="127.0.0.1", port=engine.port),
        device="cpu",
        worker_threads=1,
    )
    application = build(settings, clock=FakeClock())
    listeners = IntakeListeners(application)
    application.start()
    listeners.open()
    absent: Any = None
    around = {"web": absent, "ehr": absent, "engine": absent, "pacs": absent}
    sender = Hospital(application=application, listeners=listeners, clock=FakeClock(), **around)
    try:
        assert sender.hl7(sender.vitals(ADA)) == "AA"
        assert asked.wait(PATIENCE_S)
        assert sender.hl7(sender.vitals(BOB)) == "AA"
        assert second.wait(PATIENCE_S)
    finally:
        listeners.close()
        engine.close()
        application.close()


class _Signals(list[Any]):
    """A list that sets an event when it has so many items."""

    def __init__(self, event: threading.Event, count: int) -> None:
        super().__init__()
        self._event, self._count = event, count

    def append(self, item: Any) -> None:
        super().append(item)
        if len(self) >= self._count:
            self._event.set()
