"""C-STORE as a user: the peer's receipts, and the category of each of its refusals."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, JPEG2000Lossless
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicom_node.encoding import open_file
from dicom_node.scu import Peer, Timeouts, echo, send
from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.testing import StandInPacs
from kernel.errors import Category, Problem

XRAY = chest_x_ray(ChestXRay(rows=32, columns=32))
UID = str(open_file(XRAY).SOPInstanceUID)
IMPATIENT = Timeouts(connect_s=1, associate_s=1, answer_s=1, whole_s=5)


@pytest.fixture
def pacs() -> Iterator[StandInPacs]:
    pacs = StandInPacs().start()
    yield pacs
    pacs.close()


@pytest.fixture
def other() -> Iterator[Callable[..., Peer]]:
    """A plain pynetdicom provider with other settings."""
    servers = []

    def start(*, context: str = CTImageStorage, **habits: object) -> Peer:
        entity = AE("OTHER")
        entity.add_supported_context(context)
        for name, value in habits.items():
            setattr(entity, name, value)
        servers.append(entity.start_server(("127.0.0.1", 0), block=False))
        return Peer(ae_title="OTHER", host="127.0.0.1", port=servers[-1].server_address[1])

    yield start
    for server in servers:
        server.shutdown()


def category(action: Callable[[], object]) -> Category:
    with pytest.raises(Problem) as refusal:
        action()
    return refusal.value.category


def test_an_instance_arrives_byte_for_byte(pacs: StandInPacs) -> None:
    assert send([XRAY], pacs.peer).statuses == {UID: 0x0000}
    assert pacs.dataset(UID) == open_file(XRAY)


def test_a_file_goes_in_its_own_transfer_syntax(pacs: StandInPacs, written: Callable[[Dataset], bytes]) -> None:
    compressed = open_file(XRAY)
    compressed.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    send([written(compressed)], pacs.peer)
    assert pacs.dataset(UID).file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_arrivals_are_counted_and_written(tmp_path: Path) -> None:
    pacs = StandInPacs(folder=tmp_path).start()
    for _ in range(2):
        send([XRAY], pacs.peer)
    pacs.close()
    assert pacs.arrivals == {UID: 2}
    assert open_file((tmp_path / f"{UID}.dcm").read_bytes()) == open_file(XRAY)


def test_echo_verifies_a_running_peer(pacs: StandInPacs) -> None:
    echo(pacs.peer)


def test_an_unreachable_peer_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        peer = Peer(ae_title="AWAY", host="127.0.0.1", port=unused.getsockname()[1])
        assert category(lambda: send([XRAY], peer, IMPATIENT)) is Category.UNAVAILABLE


def test_a_peer_that_rejects_our_calling_ae_title_is_forbidden(other: Callable[..., Peer]) -> None:
    peer = other(context=Verification, require_calling_aet=["FRIEND"])
    assert category(lambda: echo(peer)) is Category.FORBIDDEN


def test_a_peer_that_rejects_the_called_ae_title_is_forbidden(other: Callable[..., Peer]) -> None:
    peer = other(context=Verification, require_called_aet=True)
    wrong = Peer(ae_title="WRONG", host=peer.host, port=peer.port)
    assert category(lambda: echo(wrong)) is Category.FORBIDDEN


def test_a_peer_with_too_many_associations_is_busy(other: Callable[..., Peer]) -> None:
    peer = other(context=Verification, maximum_associations=1)
    entity = AE("FIRST")
    entity.add_requested_context(Verification)
    first = entity.associate(peer.host, peer.port)
    assert category(lambda: echo(peer)) is Category.BUSY
    first.release()


def test_a_peer_that_rejects_the_sop_class_is_unsupported(other: Callable[..., Peer]) -> None:
    assert category(lambda: send([XRAY], other(context=CTImageStorage))) is Category.UNSUPPORTED


@pytest.fixture(scope="module")
def configurable() -> Iterator[tuple[Peer, list[int]]]:
    """A plain provider that answers with the status in the list."""
    statuses = [0x0000]
    entity = AE("CONFIGURABLE")
    entity.add_supported_context(open_file(XRAY).SOPClassUID)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _event: statuses[0])]
    )
    yield Peer(ae_title="CONFIGURABLE", host="127.0.0.1", port=server.server_address[1]), statuses
    server.shutdown()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0xA700, Category.BUSY),
        (0xA900, Category.INCORRECT),
        (0xC001, Category.INCORRECT),
        (0x0110, Category.UNAVAILABLE),
        (0x0122, Category.UNSUPPORTED),
        (0x0124, Category.FORBIDDEN),
    ],
)
def test_each_refusal_has_its_category(configurable: tuple[Peer, list[int]], status: int, expected: Category) -> None:
    peer, statuses = configurable
    statuses[0] = status
    assert category(lambda: send([XRAY], peer)) is expected


@pytest.mark.parametrize("status", [0xB000, 0x0111])
def test_a_warning_and_a_duplicate_are_kept(configurable: tuple[Peer, list[int]], status: int) -> None:
    peer, statuses = configurable
    statuses[0] = status
    assert send([XRAY], peer).statuses == {UID: status}


def test_a_refusal_of_the_stand_in_raises_its_category(pacs: StandInPacs) -> None:
    pacs.refuse_with = Problem(Category.BUSY, "full")
    assert category(lambda: send([XRAY], pacs.peer)) is Category.BUSY
    assert pacs.arrivals == {}


def test_a_peer_that_accepts_and_does_not_answer_is_unavailable() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []
    accepting = threading.Thread(target=lambda: taken.append(listener.accept()[0]))
    accepting.start()
    peer = Peer(ae_title="SILENT", host="127.0.0.1", port=listener.getsockname()[1])
    started = time.monotonic()
    assert category(lambda: send([XRAY], peer, IMPATIENT)) is Category.UNAVAILABLE
    assert time.monotonic() - started < 10
    accepting.join()
    taken[0].close()
    listener.close()


def test_a_peer_that_never_answers_an_instance_is_unavailable() -> None:
    entity, released = AE("SLOW"), threading.Event()
    entity.add_supported_context(open_file(XRAY).SOPClassUID)
    handlers = [(evt.EVT_C_STORE, lambda _event: 0x0000 if released.wait(30) else 0xA700)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer = Peer(ae_title="SLOW", host="127.0.0.1", port=server.server_address[1])
    started = time.monotonic()
    assert category(lambda: send([XRAY], peer, IMPATIENT)) is Category.UNAVAILABLE
    assert time.monotonic() - started < 10
    released.set()
    server.shutdown()
