"""``ausculta serve`` as a process and as a mounted application: start, refusal to start, stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.testing import LoopbackServer
from service.api import create_app
from service.application import build
from service.settings import load

from .hospital import Hospital
from .test_fhir_path import put_patient

AUSCULTA = Path(sys.executable).with_name("ausculta")
FREE = {"AUSCULTA_HTTP_PORT": "0", "AUSCULTA_MLLP_PORT": "0", "AUSCULTA_DICOM_PORT": "0"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start ``ausculta`` as a process; processes that still run at the end are terminated."""
    running: list[subprocess.Popen[str]] = []

    def run(*words: str, **settings: str) -> "subprocess.Popen[str]":
        environment = {"PATH": "/usr/bin:/bin", "AUSCULTA_DATA_DIR": str(tmp_path / "data"), **FREE, **settings}
        with (tmp_path / f"log-{len(running)}").open("w") as log:
            process = subprocess.Popen(
                [AUSCULTA, *words], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True
            )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def announced(process: "subprocess.Popen[str]") -> dict[str, str]:
    """Read where the listeners are: the four lines that serve prints once it listens."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    return {line[:9].strip(): line[9:].strip() for line in lines}


def test_serve_announces_its_listeners_answers_and_stops_cleanly_on_sigterm(start, tmp_path: Path) -> None:
    process = start("serve")
    listeners = announced(process)
    assert httpx.get(f"{listeners['FHIR']}/metadata").json()["fhirVersion"] == "4.0.1"
    assert httpx.get(listeners["console"]).status_code == 200
    assert listeners["DICOM"].startswith("AUSCULTA@127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert "stopped" in (tmp_path / "log-0").read_text()
    assert (tmp_path / "data" / "keys.json").stat().st_mode & 0o077 == 0


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_goes_on(start, tmp_path: Path) -> None:
    first = start("serve")
    listeners = announced(first)
    second = start("serve")
    assert second.wait(60) != 0
    assert f"another server uses this data folder (process {first.pid})" in (tmp_path / "log-1").read_text()
    assert httpx.get(f"{listeners['FHIR']}/metadata").status_code == 200
    first.kill()
    first.wait()
    third = start("serve")
    assert httpx.get(f"{announced(third)['FHIR']}/metadata").status_code == 200


def test_a_message_accepted_before_a_stop_is_processed_after_the_next_start(start, hospital: Hospital) -> None:
    """SIGTERM right after the receipt: the job is in the database, and the next process does it."""
    process = start("serve", AUSCULTA_EHR_URL=hospital.ehr.url)
    listeners = announced(process)
    client = MllpClient("127.0.0.1", int(listeners["HL7 v2"].rpartition(":")[2]))
    hospital.ehr.put(
        {
            "resourceType": "Patient",
            "id": "e",
            "identifier": [{"system": "urn:ausculta:authority:HOSPITAL", "value": "4711"}],
        }
    )
    hospital.clock.advance((time.time() - hospital.clock.now().timestamp()) - 60)
    client.send(hospital.vitals())
    process.send_signal(signal.SIGTERM)
    client.close()
    assert process.wait(30) == 0
    start("serve", AUSCULTA_EHR_URL=hospital.ehr.url)
    until = time.monotonic() + 30
    while not hospital.ehr.received("RiskAssessment") and time.monotonic() < until:
        time.sleep(0.05)
    assert len(hospital.ehr.received("RiskAssessment")) == 1


@pytest.mark.parametrize("name", ["HTTP_PORT", "MLLP_PORT", "DICOM_PORT"])
def test_a_port_in_use_stops_the_start_and_names_the_setting(start, name: str, tmp_path: Path) -> None:
    taken = LoopbackServer(FastAPI())
    try:
        process = start("serve", **{f"AUSCULTA_{name}": str(taken.port)})
        assert process.wait(60) == 2
    finally:
        taken.close()
    log = (tmp_path / "log-0").read_text()
    assert f"{name} {taken.port} cannot be listened on" in log
    assert "Traceback" not in log


def test_an_open_server_beyond_loopback_does_not_start(start, tmp_path: Path) -> None:
    process = start("serve", AUSCULTA_HTTP_HOST="0.0.0.0")
    assert process.wait(60) == 2
    assert "HTTP_HOST is not loopback" in (tmp_path / "log-0").read_text()


@pytest.mark.postgres
def test_workers_in_other_processes_share_one_postgresql_database(start, new_postgres_url, tmp_path: Path) -> None:
    url = new_postgres_url()
    application = build(load({}, None, data_dir=tmp_path / "data", database_url=url))
    start("worker", AUSCULTA_DATABASE_URL=url)
    try:
        application.database.write(lambda tx: application.jobs.enqueue(tx, "deliver", {"destination": "nowhere"}))
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with application.database.read() as connection:
                (job,) = application.jobs.listing(connection)
            if job.problem is not None:
                break
            time.sleep(0.05)
        assert job.problem is not None
        assert job.problem.detail == "destination nowhere is not configured"
    finally:
        application.close()


def test_ausculta_can_be_mounted_in_an_existing_application(tmp_path: Path) -> None:
    ours = create_app(load({}, None, data_dir=tmp_path / "data", mllp_port=0, dicom_port=0))
    host = FastAPI()
    host.mount("/ausculta", ours)
    with LoopbackServer(host) as server:
        assert httpx.get(f"{server.url}/ausculta/fhir/metadata").status_code == 200
        assert httpx.get(f"{server.url}/ausculta/console").status_code == 200
        assert httpx.post(f"{server.url}/ausculta/fhir/Patient", json={"resourceType": "Patient"}).status_code == 201
    ours.state.close()


def test_middleware_of_an_application_around_it_gets_fhir_requests(tmp_path: Path) -> None:
    ours = create_app(load({}, None, data_dir=tmp_path / "data", mllp_port=0, dicom_port=0))
    ours.add_middleware(GZipMiddleware, minimum_size=1)
    with LoopbackServer(ours) as server:
        assert httpx.get(f"{server.url}/fhir/metadata").headers["content-encoding"] == "gzip"
    ours.state.close()


def test_a_page_of_another_name_cannot_read_this_server(hospital: Hospital) -> None:
    """DNS rebinding: a foreign name that resolves to this machine is still a foreign name."""
    put_patient(hospital)
    answer = httpx.get(f"{hospital.url}/Patient/p1", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_the_log_of_a_running_server_has_no_phi(start, tmp_path: Path) -> None:
    process = start("serve", AUSCULTA_LOG_LEVEL="DEBUG")
    listeners = announced(process)
    secret = {
        "resourceType": "Patient",
        "id": "p1",
        "name": [{"family": "CANARYNAME"}],
        "identifier": [{"system": "urn:x", "value": "CANARYMRN"}],
        "birthDate": "1911-11-11",
    }
    assert httpx.put(f"{listeners['FHIR']}/Patient/p1", json=secret).status_code == 201
    assert httpx.post(f"{listeners['FHIR']}/Patient", json=secret | {"gender": "CANARYSEX"}).status_code == 422
    assert httpx.get(f"{listeners['FHIR']}/Patient?identifier=CANARYMRN").status_code == 200
    assert httpx.get(f"{listeners['FHIR']}/Patient?nonsense=CANARYMRN").status_code == 400
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    written = (tmp_path / "log-0").read_text() + os.linesep.join(path.name for path in (tmp_path / "data").rglob("*"))
    for phi in ("CANARY", "1911"):
        assert phi not in written
