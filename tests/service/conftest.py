"""Opens the hospital of :mod:`.hospital` for a test and closes it afterwards."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import LoopbackServer, StandInEhr
from kernel.testing import FakeClock
from service.api import http_application
from service.application import build
from service.listeners.intake import IntakeListeners
from service.settings import DicomPeer, HostPort, Settings, load

from .hospital import QUIET_S, Hospital
from .scripted import ScriptedEhr, ScriptedEngine


@pytest.fixture
def open_hospital(tmp_path: Path) -> Iterator[Callable[..., Hospital]]:
    """Open a hospital, with settings of one's own."""
    opened: list[Hospital] = []

    def open_one(**changes: Any) -> Hospital:
        clock = FakeClock()
        ehr, engine, pacs = StandInEhr(tmp_path / "ehr"), StandInEngine(), StandInPacs().start()
        settings: Settings = load(
            {},
            None,
            **{
                "data_dir": tmp_path / "ausculta",
                "mllp_port": 0,
                "dicom_port": 0,
                "dicom_study_quiet_s": QUIET_S,
                "ehr_url": ehr.url,
                "interface_engine": HostPort(host="127.0.0.1", port=engine.port),
                "pacs": DicomPeer(ae_title="PACS", host="127.0.0.1", port=pacs.peer.port),
                "device": "cpu",
                "model_deadline_s": 600.0,  # a busy machine needs a minute to import a network's library
                **changes,
            },
        )
        application = build(settings, clock=clock)
        application.worker.register()
        listeners = IntakeListeners(application)
        listeners.open()
        web = LoopbackServer(http_application(application))
        hospital = Hospital(
            application=application, listeners=listeners, web=web, ehr=ehr, engine=engine, pacs=pacs, clock=clock
        )
        opened.append(hospital)
        hospital.set_model("cxr-pneumonia", "active")  # it comes as shadow
        return hospital

    yield open_one
    for hospital in opened:
        hospital.web.close()
        hospital.listeners.close()
        hospital.application.close()
        for around in (hospital.ehr, hospital.engine, hospital.pacs):
            around.close()


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital]) -> Hospital:
    return open_hospital()


@pytest.fixture
def ehr() -> Iterator[ScriptedEhr]:
    server = ScriptedEhr()
    yield server
    server.close()


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    server = ScriptedEngine()
    yield server
    server.close()
