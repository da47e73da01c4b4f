"""One real server with regular senders on its three listeners, and attacks at the same time."""

import socket
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from benchmarks.items import MAKERS, Interface
from benchmarks.processes import ServerProcess
from benchmarks.senders import TRANSPORTS

LONGEST_S = 5.0
"""Longest wait of a regular sender for a receipt during an attack (two shared processors)."""
USUAL_S = 1.0
"""Half of them must have it within this time."""
MOST_MEMORY = 384 * 2**20
"""Largest growth of the server's memory after its start, in bytes: six of the largest MLLP messages."""


@dataclass
class Neighbours:
    """Regular senders, one for each interface, almost without pauses."""

    server: ServerProcess
    waits: dict[Interface, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    most_memory: int = 0

    def start(self) -> None:
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._send, args=(interface,), daemon=True) for interface in Interface]
        self.threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def _send(self, interface: Interface) -> None:
        transport, number = TRANSPORTS[interface](self.server.ports), 0
        while not self.stopping.wait(0.2):
            number += 1
            item = MAKERS[interface]("N", number)
            begun = time.monotonic()
            try:
                transport.send(item.payload)
            except Exception as failure:  # noqa: BLE001 - whatever it is, a neighbour was disturbed
                self.failures.append(f"{interface} {number}: {failure}")
            self.waits[interface].append(time.monotonic() - begun)
        transport.close()

    def _watch(self) -> None:
        while not self.stopping.wait(0.05):
            self.most_memory = max(self.most_memory, self.server.memory())

    def seen(self) -> dict[Interface, int]:
        return {interface: len(self.waits[interface]) for interface in Interface}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(
        tmp_path_factory.mktemp("server"), {"DICOM_STUDY_QUIET_S": "0.5", "LOG_LEVEL": "INFO"}
    ) as process:
        process.wait_ready()
        yield process


@pytest.fixture(scope="module")
def neighbours(server: ServerProcess) -> Iterator[Neighbours]:
    honest = Neighbours(server=server)
    honest.start()
    until = time.monotonic() + 15  # the models are loaded and the pools are filled before anything is measured
    while min(honest.seen().values()) < 10 and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(3)
    yield honest
    honest.stop()


@pytest.fixture
def undisturbed(server: ServerProcess, neighbours: Neighbours) -> Iterator[None]:
    """During the test regular senders get their receipts, and the server's memory stays bounded."""
    before, memory = neighbours.seen(), server.memory()
    neighbours.most_memory = memory
    yield
    until = time.monotonic() + 2 * LONGEST_S
    while (
        any(neighbours.seen()[interface] < before[interface] + 3 for interface in Interface)
        and time.monotonic() < until
    ):
        time.sleep(0.05)
    waited = {interface: neighbours.waits[interface][before[interface] :] for interface in Interface}
    assert neighbours.failures == []
    assert {
        interface: wait for interface in Interface if (wait := max(waited[interface], default=LONGEST_S)) >= LONGEST_S
    } == {}
    assert {
        interface: wait for interface in Interface if (wait := statistics.median(waited[interface])) >= USUAL_S
    } == {}
    assert neighbours.most_memory - memory < MOST_MEMORY


@pytest.fixture
def connect(server: ServerProcess) -> Iterator[object]:
    """Open a bare connection to an interface; all are closed with the test."""
    opened: list[socket.socket] = []
    ports = {Interface.HL7: server.ports.mllp, Interface.FHIR: server.ports.http, Interface.DICOM: server.ports.dicom}

    def to(interface: Interface, timeout: float = 15.0) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", ports[interface]), timeout=timeout)
        opened.append(connection)
        return connection

    yield to
    for connection in opened:
        connection.close()
