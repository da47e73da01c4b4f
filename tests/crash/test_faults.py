"""When the disk fails the sender gets a refusal; when it works again the same process continues."""

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from benchmarks.faults import FaultyDisk
from benchmarks.items import MAKERS, Interface, Item
from benchmarks.processes import ServerProcess
from benchmarks.senders import dicom_transport, mllp_transport
from kernel.errors import Problem

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

NUMBERS = itertools.count(1)


@pytest.fixture(params=["sync", "full"], ids=["fsync fails", "disk full"])
def broken(request: pytest.FixtureRequest, disk: FaultyDisk) -> Iterator[str]:
    disk.repair()
    yield request.param
    disk.repair()


@pytest.fixture(params=list(Interface), ids=str)
def item(request: pytest.FixtureRequest) -> Item:
    return MAKERS[request.param]("Z", next(NUMBERS))


@pytest.fixture(scope="module")
def answer(server: ServerProcess) -> Iterator[Callable[[Item], str]]:
    """Send an item once and return what the server answered, in the terms of its protocol."""
    transports = {Interface.HL7: mllp_transport(server.ports), Interface.DICOM: dicom_transport(server.ports)}

    def fhir(payload: bytes) -> str:
        headers = {"Content-Type": "application/fhir+json"}
        answered = httpx.post(f"{server.url}/fhir", content=payload, headers=headers, timeout=30.0)
        return f"{answered.status_code} {answered.json()['resourceType']}"

    def send(item: Item) -> str:
        if item.interface is Interface.FHIR:
            return fhir(item.payload)
        try:
            transports[item.interface].send(item.payload)
        except Problem as refused:
            return refused.detail
        return "kept"

    yield send
    for transport in transports.values():
        transport.close()


def stored(server: ServerProcess, item: Item) -> int:
    """Count what the server stores for an item: its resources, messages and instances."""
    with closing(sqlite3.connect(f"file:{server.data / 'ausculta.db'}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM inbox WHERE key = :key) + (SELECT count(*) FROM instances"
            " WHERE SOPInstanceUID = :key) + (SELECT count(*) FROM resource_heads WHERE id = :key)",
            {"key": item.key},
        )
        return int(found.fetchone()[0])


REFUSALS = {
    Interface.HL7: "the HL7 receiver rejected the message for now (AR)",
    Interface.FHIR: "503 OperationOutcome",
    Interface.DICOM: "the peer is out of resources (0xA700)",
}
RECEIPTS = {Interface.HL7: "kept", Interface.FHIR: "200 Bundle", Interface.DICOM: "kept"}


def test_a_failed_write_is_refused_and_stores_nothing(
    server: ServerProcess, disk: FaultyDisk, broken: str, item: Item, answer: Callable[[Item], str]
) -> None:
    disk.fail(broken)

    assert answer(item) == REFUSALS[item.interface]

    disk.repair()
    assert stored(server, item) == 0


def test_when_the_disk_works_again_the_same_process_accepts_the_same_item(
    server: ServerProcess, disk: FaultyDisk, broken: str, item: Item, answer: Callable[[Item], str]
) -> None:
    before = server.pid
    disk.fail(broken)
    answer(item)
    disk.repair()

    assert answer(item) == RECEIPTS[item.interface]
    assert stored(server, item) == 1
    assert (server.alive, server.pid) == (True, before)


def test_an_instance_whose_folders_were_never_synced_is_refused_at_every_try(
    disk: FaultyDisk, answer: Callable[[Item], str]
) -> None:
    """Folder and file of an earlier attempt exist then, but their names may not be durable."""
    item = MAKERS[Interface.DICOM]("Y", 1)
    disk.fail("folder")
    answers = [answer(item) for _ in range(4)]
    disk.repair()

    assert answers == [REFUSALS[Interface.DICOM]] * 4


def test_a_server_that_cannot_save_says_that_it_is_not_ready(
    server: ServerProcess, disk: FaultyDisk, broken: str
) -> None:
    assert httpx.get(f"{server.url}/health/ready").status_code == 200

    disk.fail(broken)

    assert httpx.get(f"{server.url}/health/ready").status_code == 503
    assert httpx.get(f"{server.url}/health/live").status_code == 200


def test_the_audit_log_of_the_run_verifies(server: ServerProcess) -> None:
    assert server.command("audit", "verify").returncode == 0
