"""Peers that stall, send false data or attack are refused, with bounded memory and without effect on others."""

import random
import resource
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node import encoding
from dicom_node.encoding import open_file, part10, read_index_attributes
from dicom_node.listener.server import DicomServer
from kernel.errors import Category, Problem

from .conftest import PATIENT

Make = Callable[..., Dataset]

#: For peers that stall: the listener ends their connection soon.
SHORT = replace(PATIENT, artim_s=1.0, pdu_s=1.0, idle_s=5.0, send_s=5.0)
short_timers = pytest.mark.parametrize("limits", [SHORT], ids=["short timers"])


def until_closed(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    connection.close()
    return received


def store_one(ward, instance: Make) -> int:
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    status = association.send_c_store(instance()).Status
    association.release()
    return int(status)


@short_timers
def test_a_silent_client_is_disconnected(ward) -> None:
    assert until_closed(ward.connect()) == b""


@short_timers
def test_half_an_association_request_is_dropped(ward, association_request: bytes) -> None:
    connection = ward.connect()
    connection.sendall(association_request[: len(association_request) // 2])
    assert until_closed(connection) == b""


@short_timers
def test_half_a_message_ends_the_association(ward, association_request: bytes) -> None:
    connection = ward.connect()
    connection.sendall(association_request + b"\x04\x00\x00\x00\x10\x00" + b"\x00" * 10)
    answer = until_closed(connection)
    assert answer[0] == 0x02  # A-ASSOCIATE-AC
    assert answer[-10] == 0x07  # A-ABORT


@short_timers
def test_a_pdu_of_four_gibibytes_is_refused_before_it_is_read(ward, association_request: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = ward.connect()
    connection.sendall(association_request + b"\x04\x00\xff\xff\xff\xff" + bytes(1024))
    assert until_closed(connection)[-10] == 0x07
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_an_instance_beyond_the_limit_is_refused_and_the_next_one_kept(ward, instance: Make) -> None:
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    too_large = instance(1, payload=bytes(ward.server.limits.instance_bytes))
    assert association.send_c_store(too_large).Status == 0xC000
    assert association.send_c_store(instance(2)).Status == 0x0000
    association.release()


def noise(seed: int, request: bytes) -> bytes:
    """Random bytes, with or without a PDU's header, before or after an association request."""
    chance = random.Random(seed)
    body = chance.randbytes(chance.randrange(1, 2000))
    framed = struct.pack(">BxL", chance.randrange(1, 8), len(body)) + body
    return (request if seed % 2 else b"") + (framed if seed % 3 else body)


def test_random_bytes_are_survived(ward, instance: Make, association_request: bytes) -> None:
    for seed in range(24):
        connection = ward.connect()
        connection.sendall(noise(seed, association_request))
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)
    assert store_one(ward, instance) == 0x0000


def test_random_command_sets_are_survived(ward, instance: Make, association_request: bytes) -> None:
    for seed in range(24):
        connection = ward.connect()
        connection.sendall(association_request + p_data(3, random.Random(seed).randbytes(200)))
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)
    assert store_one(ward, instance) == 0x0000


def test_two_hundred_idle_connections_do_not_hold_up_a_sender(ward, instance: Make) -> None:
    idle = [ward.connect() for _ in range(200)]
    assert store_one(ward, instance) == 0x0000
    for connection in idle:
        connection.close()


@short_timers
def test_a_silent_tls_client_does_not_hold_up_the_next_one(ward) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = DicomServer("AUSCULTA", ward.handlers, ward.server.limits, ssl_context=context)
    server.start("127.0.0.1", 0)
    silent = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    refused = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    refused.sendall(b"\x16\x03\x01 not a handshake")
    until_closed(refused)  # answered while the other is still silent
    until_closed(silent)
    server.close()


def p_data(kind: int, body: bytes) -> bytes:
    """One P-DATA-TF PDU with one value in presentation context 1; kind 3 is a whole command, 2 a whole dataset."""
    value = struct.pack(">LBB", len(body) + 2, 1, kind) + body
    return struct.pack(">BxL", 0x04, len(value)) + value


def store_command(SOPInstanceUID: bytes) -> bytes:
    """A C-STORE-RQ command set, Implicit VR Little Endian."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0x0000, number, len(value)) + value

    numbers = {0x0100: 0x0001, 0x0110: 7, 0x0700: 2, 0x0800: 0x0001}
    coded = [element(number, struct.pack("<H", value)) for number, value in numbers.items()]
    return element(0x0002, CTImageStorage.encode()) + b"".join(coded) + element(0x1000, SOPInstanceUID)


@pytest.mark.parametrize("uid", [b"../../etc/passwd", b"1.2.3; DROP TABLE", b"1.2.a", b"1.2\\1.3", b"\xe9"])
def test_a_malformed_uid_is_refused(ward, association_request: bytes, uid: bytes) -> None:
    connection = ward.connect()
    connection.sendall(association_request + p_data(3, store_command(uid)) + p_data(2, b"\x08\x00\x18\x00UI\x00\x00"))
    connection.shutdown(socket.SHUT_WR)
    answer = until_closed(connection)
    assert struct.pack("<HHLH", 0x0000, 0x0900, 2, 0xC000) in answer
    assert ward.stored == []


@short_timers
def test_a_request_for_another_service_aborts_the_association(ward, association_request: bytes) -> None:
    find = store_command(b"1.2.3").replace(
        struct.pack("<HHLH", 0, 0x0100, 2, 1), struct.pack("<HHLH", 0, 0x0100, 2, 0x20)
    )
    connection = ward.connect()
    connection.sendall(association_request + p_data(3, find) + p_data(2, b"\0\0"))
    assert until_closed(connection)[-10] == 0x07


@short_timers
def test_a_command_within_a_dataset_aborts_the_association(ward, association_request: bytes) -> None:
    command = p_data(3, store_command(b"1.2.3"))
    connection = ward.connect()
    connection.sendall(association_request + command + p_data(0, b"\x08\0") + command)
    assert until_closed(connection)[-10] == 0x07
    assert ward.stored == []


def deflated(plain: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(plain) + deflater.flush()


def test_a_deflate_bomb_is_not_inflated(
    instance: Make, written: Callable[[Dataset], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "INFLATED_BYTES", 1024 * 1024)
    head = written(instance(payload=b""))
    plain = head[head.index(b"\x08\x00\x16\x00UI") :] + bytes(64 * 1024 * 1024)
    bomb = deflated(plain)
    assert read_index_attributes(bomb, DeflatedExplicitVRLittleEndian).StudyInstanceUID == "2.25.1"
    syntax = DeflatedExplicitVRLittleEndian
    with pytest.raises(Problem, match="larger than this server reads"):
        open_file(part10(bomb, SOPClassUID=CTImageStorage, SOPInstanceUID="1.2", TransferSyntaxUID=syntax))


def test_deep_nesting_is_refused() -> None:
    nest = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(Problem) as refusal:
        read_index_attributes(nest * 100_000, ExplicitVRLittleEndian)
    assert refusal.value.category is Category.INCORRECT


@pytest.mark.parametrize("seed", range(40))
def test_a_random_dataset_is_refused(seed: int) -> None:
    with pytest.raises(Problem) as refusal:
        read_index_attributes(random.Random(seed).randbytes(500), ExplicitVRLittleEndian)
    assert refusal.value.category is Category.INCORRECT


def test_values_that_break_the_standard_are_not_quoted(ward, instance: Make, capfd: pytest.CaptureFixture[str]) -> None:
    odd = instance()
    odd.file_meta.ImplementationVersionName = "X"
    odd.add_new("PatientBirthDate", "DA", "born Jane Doe")
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    assert association.send_c_store(odd).Status == 0x0000
    association.release()
    assert open_file(ward.archive.read(odd.SOPInstanceUID)).PatientBirthDate == "born Jane Doe"
    assert "Jane" not in "".join(capfd.readouterr())


def test_one_connection_too_many_is_closed_at_once(ward) -> None:
    server = DicomServer("AUSCULTA", ward.handlers, replace(ward.server.limits, connections=1))
    server.start("127.0.0.1", 0)
    first, second = (socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(2))
    started = time.monotonic()
    assert until_closed(second) == b""
    assert time.monotonic() - started < server.limits.artim_s
    first.close()
    server.close()


def test_closing_does_not_wait_for_idle_peers(ward) -> None:
    idle = [ward.connect() for _ in range(5)]
    closing = threading.Thread(target=ward.server.close)
    closing.start()
    closing.join(timeout=5)
    assert not closing.is_alive()
    for connection in idle:
        connection.close()
