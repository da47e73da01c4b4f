"""``ausculta serve`` as several processes: whichever dies, the others work on, and what it had begun is finished."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import ServerProcess
from fhir_adapter.hl7v2.client import MllpClient
from service.supervisor import LONG_LIFE_S, LONGEST_PAUSE_S, pause_before

from .hospital import ADULT, Hospital

WAIT_S = 40.0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server with settings; those that still run at the end are killed."""
    started: list[ServerProcess] = []

    def start(**settings: str) -> ServerProcess:
        server = ServerProcess(tmp_path, settings | {"LOG_LEVEL": "INFO"})
        started.append(server)
        server.start()
        server.wait_ready()
        return server

    yield start
    for server in started:
        if server.alive:
            server.kill()


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT_S} s: {what}"
        time.sleep(0.05)


def ready(server: ServerProcess) -> Mapping[str, object]:
    answer = httpx.get(f"{server.url}/health/ready", timeout=10)
    return {"code": answer.status_code, **answer.json()}


def observations(server: ServerProcess) -> int:
    bundle = httpx.get(f"{server.url}/fhir/Observation?code=8867-4", timeout=10).json()
    return len(bundle.get("entry", ()))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def send(server: ServerProcess, message: bytes) -> str:
    client = MllpClient("127.0.0.1", server.ports.mllp)
    try:
        return client.send(message).code
    finally:
        client.close()


def test_there_is_a_process_for_each_role(serve) -> None:
    server = serve(WORKER_PROCESSES="2", HTTP_PROCESSES="2")
    assert sorted(server.processes()) == ["http-2", "listeners", "worker-1", "worker-2"]
    assert ready(server)["workers"] == 2


def test_a_worker_that_is_killed_is_started_again_and_its_work_is_done(serve, hospital: Hospital) -> None:
    """While there is none, messages are accepted, and readiness warns."""
    server = serve()
    worker = server.processes()["worker-1"]
    os.kill(worker, signal.SIGSTOP)
    assert send(server, hospital.vitals(ADULT)) == "AA"
    os.kill(worker, signal.SIGKILL)
    until(lambda: observations(server) == 1, "the message is converted")
    until(lambda: ready(server)["workers"] == 1, "a worker runs")
    assert server.processes()["worker-1"] != worker
    assert "process_died" in server.log.read_text()


def test_intake_goes_on_while_no_worker_runs(serve, hospital: Hospital) -> None:
    server = serve(WORKER_PROCESSES="0")
    state = ready(server)
    assert (state["code"], state["status"], state["workers"]) == (200, "warn", 0)
    assert send(server, hospital.vitals(ADULT)) == "AA"
    assert "ausculta_workers 0" in httpx.get(f"{server.url}/metrics").text


def test_listeners_that_are_killed_come_back_on_the_same_ports(serve, hospital: Hospital) -> None:
    server = serve()
    listeners = server.processes()["listeners"]
    os.kill(listeners, signal.SIGKILL)
    until(lambda: gone(listeners), "the process ends")
    assert server.wait_ready() < WAIT_S
    assert send(server, hospital.vitals(ADULT)) == "AA"
    until(lambda: observations(server) == 1, "the message is converted")


def test_another_http_process_answers_while_the_first_is_stopped(serve) -> None:
    server = serve(HTTP_PROCESSES="2")
    listeners = server.processes()["listeners"]
    os.kill(listeners, signal.SIGSTOP)
    try:
        answers = 0
        end = time.monotonic() + WAIT_S
        while answers < 5 and time.monotonic() < end:
            try:
                answers += httpx.get(f"{server.url}/fhir/metadata", timeout=0.5).status_code == 200
            except httpx.TimeoutException:  # the stopped one had been given this connection
                continue
        assert answers == 5
    finally:
        os.kill(listeners, signal.SIGCONT)


def test_when_the_supervisor_is_killed_its_processes_end_and_a_new_server_can_start(serve) -> None:
    server = serve()
    children = server.processes().values()
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: all(gone(child) for child in children), "the processes end")
    server.kill()
    server.start()
    server.wait_ready()
    assert ready(server)["workers"] == 1


def test_a_stop_ends_every_process_and_signs_the_whole_audit_log(serve, hospital: Hospital) -> None:
    server = serve(WORKER_PROCESSES="2")
    assert send(server, hospital.vitals(ADULT)) == "AA"
    children = server.processes().values()
    assert server.stop() == 0
    assert all(gone(child) for child in children)
    verified = server.command("audit", "verify")
    assert verified.returncode == 0
    assert "not signed" not in verified.stdout


def test_ctrl_c_at_the_terminal_reaches_all_processes_and_stops_them_in_order(serve) -> None:
    server = serve()
    children = server.processes().values()
    for process in (*children, server.pid):
        os.kill(process, signal.SIGINT)
    assert server.wait() == 0
    assert all(gone(child) for child in children)


def test_a_process_that_dies_again_and_again_is_started_after_longer_and_longer_pauses() -> None:
    assert [pause_before(deaths) for deaths in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert pause_before(50) == LONGEST_PAUSE_S < LONG_LIFE_S


def test_a_server_that_is_stopped_while_it_prepares_does_not_serve(tmp_path: Path) -> None:
    """The index may be half made again: a search on it would find nothing, and a conditional create would double."""
    server = ServerProcess(tmp_path, {"LOG_LEVEL": "INFO"})
    server.data.mkdir()
    with (server.data / "ausculta.db.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        server.start()
        until(lambda: "waiting_for_another_process" in server.log.read_text(), "the preparation waits for the lock")
        assert server.stop() == 0
    assert "listening" not in server.log.read_text()
