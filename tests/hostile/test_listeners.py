"""Attacks on each interface of one real server: each is answered in the protocol's terms or disconnected.

Every test runs beside regular senders on all three listeners (``undisturbed``). The attacks contain the canary names
and numbers below, which must not appear in a log.
"""

import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from benchmarks.hospital import waiting
from benchmarks.items import Interface
from benchmarks.processes import ServerProcess

pytestmark = [pytest.mark.xdist_group("hostile"), pytest.mark.timeout(300), pytest.mark.usefixtures("undisturbed")]

Connect = Callable[..., socket.socket]

NAME, NUMBER = "Canaryfamily", "CANARY7741"
ROUNDS = 40
"""Random inputs for each interface."""
IDLE = 200
SLOWEST_S = 75.0
"""Time within which every interface disconnects a client that never finishes (MLLP allows a message 60 s)."""

JSON = {"Content-Type": "application/fhir+json"}


def ended(connection: socket.socket, timeout: float = 20.0) -> bytes:
    """Return everything until the server closes the connection; otherwise the test fails by its timeout."""
    received = b""
    connection.settimeout(timeout)
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionError:
        pass
    return received


# --- FHIR ------------------------------------------------------------------------------------------------------------


def patient(**more: object) -> bytes:
    resource = {"resourceType": "Patient", "name": [{"family": NAME}], "identifier": [{"value": NUMBER}], **more}
    return json.dumps(resource).encode()


def nested(depth: int) -> bytes:
    return b'{"resourceType":"Patient","id":"x","a":' + b"[" * depth + b"]" * depth + b"}"


def contained(depth: int) -> bytes:
    inner = '{"url":"http://example.org/x"}'
    for _ in range(depth):
        inner = '{"url":"http://example.org/x","extension":[' + inner + "]}"
    return ('{"resourceType":"Patient","extension":[' + inner + "]}").encode()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(patient()[:-20], JSON, 400, id="truncated"),
        pytest.param(patient(text="x" * (17 * 2**20)), JSON, 413, id="oversized"),
        pytest.param(patient().replace(b"Canary", b"\xe4\xf6\xfc"), JSON, 400, id="wrong charset"),
        pytest.param(patient().decode().encode("utf-16"), JSON, 400, id="utf-16"),
        pytest.param(nested(200_000), JSON, 400, id="deep nesting"),
        pytest.param(nested(900), JSON, (400, 422), id="nesting that the parser takes"),
        pytest.param(contained(900), JSON, (400, 422), id="extensions in extensions"),
        pytest.param(b"\x00" * 1000, JSON, 400, id="nothing"),
        pytest.param(b"[" + patient() + b"]", JSON, 400, id="no resource"),
        pytest.param(b'{"resourceType":"Patient","birthDate":1e999999}', JSON, (400, 422), id="a number beyond all"),
        pytest.param(patient(), {"Content-Type": "text/plain"}, 415, id="wrong type"),
    ],
)
def test_fhir_answers_what_it_cannot_take(
    server: ServerProcess, body: bytes, headers: dict[str, str], status: int | tuple[int, ...]
) -> None:
    answer = httpx.post(f"{server.url}/fhir/Patient", content=body, headers=headers, timeout=20.0)

    assert answer.status_code in (status if isinstance(status, tuple) else (status,))
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert NAME not in answer.text
    assert NUMBER not in answer.text


def test_fhir_stops_reading_a_body_that_never_ends(connect: Connect) -> None:
    connection = connect(Interface.FHIR)
    connection.sendall(b"POST /fhir/Patient HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n")
    connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    try:
        for _ in range(2000):  # 128 MiB, eight times what is taken
            connection.sendall(chunk)
    except ConnectionError:
        pass
    answer = ended(connection)
    assert not answer or answer.startswith(b"HTTP/1.1 413")


def test_fhir_stops_reading_headers_that_never_end(connect: Connect) -> None:
    connection = connect(Interface.FHIR)
    connection.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    sent = 0
    try:
        for number in range(4096):  # 256 MiB
            sent += connection.send(f"X-{number}: ".encode() + b"a" * 65_536 + b"\r\n")
    except OSError:
        pass
    assert sent < 64 * 2**20


def test_fhir_survives_random_bytes(connect: Connect) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        connection = connect(Interface.FHIR)
        head = b"POST /fhir HTTP/1.1\r\nHost: 127.0.0.1\r\n" if seed % 2 else b""
        connection.sendall(head + chance.randbytes(chance.randrange(1, 4000)) + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = ended(connection)
        assert not answer or answer.startswith(b"HTTP/1.1 4")


def test_fhir_answers_random_json(server: ServerProcess) -> None:
    with httpx.Client(timeout=20.0) as client:
        for seed in range(ROUNDS):
            body = json.dumps({"resourceType": "Observation", **noise(random.Random(seed), 4)})
            answer = client.post(f"{server.url}/fhir/Observation", content=body, headers=JSON)
            assert (answer.status_code, answer.json()["resourceType"]) in {
                (400, "OperationOutcome"),
                (422, "OperationOutcome"),
            }


def noise(chance: random.Random, depth: int) -> dict[str, object]:
    """JSON that resembles an Observation as far as its element names go."""
    names = ("status", "code", "subject", "valueQuantity", "component", "meta", "id", NUMBER, "effectiveDateTime")

    def value(depth: int) -> object:
        kinds: tuple[Callable[[], object], ...] = (
            lambda: NAME,
            lambda: chance.uniform(-1e9, 1e9),
            lambda: None,
            lambda: chance.random() < 0.5,
            lambda: [value(depth - 1) for _ in range(chance.randrange(3))] if depth else [],
            lambda: noise(chance, depth - 1) if depth else {},
        )
        return chance.choice(kinds)()

    return {chance.choice(names): value(depth) for _ in range(chance.randrange(1, 5))}


# --- HL7 v2 ----------------------------------------------------------------------------------------------------------

MSH = rb"MSH|^~\&|STORM|HOSPITAL|AUSCULTA|AUSCULTA|20261120120000+0000||ORU^R01^ORU_R01|%s|P|2.5.1|||||||%s" + b"\r"


def oru(control_id: str, *segments: bytes, charset: bytes = b"UNICODE UTF-8") -> bytes:
    pid = f"PID|1||{NUMBER}^^^STORM^MR||{NAME}^Test\r".encode()
    return MSH % (control_id.encode(), charset) + pid + b"".join(segments)


def framed(message: bytes) -> bytes:
    return b"\x0b" + message + b"\x1c\r"


def acknowledged(connection: socket.socket, timeout: float = 30.0) -> str:
    """Read one acknowledgement; return MSA-1."""
    connection.settimeout(timeout)
    received = b""
    while not received.endswith(b"\x1c\r"):
        chunk = connection.recv(65_536)
        assert chunk, "closed without an acknowledgement"
        received += chunk
    assert NAME.encode() not in received
    return received.split(b"\rMSA|", 1)[1][:2].decode()


OBX = b"OBX|1|NM|8867-4^Heart rate^LN||%s|/min^/min^UCUM|||||F|||20261120120000+0000\r"
OBR = b"OBR|1||F1|VITALS^Vital signs^L|||20261120120000+0000\r"


@pytest.mark.parametrize(
    ("message", "codes"),
    [
        pytest.param(b"", {"AE", "AR"}, id="empty"),
        pytest.param(oru("T1")[:40], {"AE", "AR"}, id="truncated header"),
        pytest.param(oru("T2", OBR, OBX[:30]), {"AA", "AE"}, id="truncated segment"),
        pytest.param(oru("C1", OBR, OBX % b"\xff\xfe\x80"), {"AA", "AE"}, id="bytes that are not the charset's"),
        pytest.param(oru("C2", OBR, OBX % b"72", charset=b"KLINGON"), {"AA", "AE"}, id="a charset that does not exist"),
        pytest.param(oru("C3", OBR, OBX % b"72").decode().encode("utf-16"), {"AE", "AR"}, id="utf-16"),
        pytest.param(oru("N1", OBR, OBX % (b"&" * 200_000)), {"AA", "AE"}, id="deep components"),
        pytest.param(oru("N2", OBR, OBX % (b"~" * 200_000)), {"AA", "AE"}, id="many repetitions"),
        pytest.param(oru("N3", OBR, (OBX % b"72") * 20_000), {"AA", "AE"}, id="many segments"),
        pytest.param(oru("N4", OBR, OBX % (rb"\X0D\\.br\\F\\" * 50_000)), {"AA", "AE"}, id="many escapes"),
        pytest.param(oru("N5", MSH % (b"N6", b"")), {"AE"}, id="a second header"),
    ],
)
def test_hl7_answers_what_it_cannot_take(connect: Connect, message: bytes, codes: set[str]) -> None:
    connection = connect(Interface.HL7)
    connection.sendall(framed(message))

    assert acknowledged(connection) in codes


def test_hl7_refuses_a_message_beyond_its_limit_and_takes_the_next(connect: Connect) -> None:
    connection = connect(Interface.HL7, timeout=60.0)
    connection.sendall(b"\x0b" + oru("O1"))
    for _ in range(1100):  # 69 MiB
        connection.sendall(b"A" * 65_536)
    connection.sendall(b"\x1c\r")

    assert acknowledged(connection) in {"AE", "AR"}


def test_hl7_answers_a_message_that_its_sender_cut_off(connect: Connect) -> None:
    connection = connect(Interface.HL7)
    connection.sendall(framed(oru("U1"))[:-10])
    connection.shutdown(socket.SHUT_WR)

    assert acknowledged(connection) == "AR"


def test_hl7_answers_random_bytes_in_a_frame(connect: Connect) -> None:
    connection = connect(Interface.HL7)
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        body = chance.randbytes(chance.randrange(1, 2000)).replace(b"\x0b", b"").replace(b"\x1c", b"")
        connection.sendall(framed((MSH % (b"R%d" % seed, b"") if seed % 2 else b"") + body))
        assert acknowledged(connection) in {"AE", "AR"}


def test_hl7_survives_random_bytes(connect: Connect) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        connection = connect(Interface.HL7)
        connection.sendall(chance.randbytes(chance.randrange(1, 4000)))
        connection.shutdown(socket.SHUT_WR)
        ended(connection)


# --- DICOM -----------------------------------------------------------------------------------------------------------

ACCEPTED, ABORTED = 0x02, 0x07
REFUSALS = {0xA900, 0xC000, 0xA700, 0x0110}


@pytest.fixture(scope="session")
def association_request() -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "STORM", "AUSCULTA"
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16_384, UID("1.2.3.4")
    primitive.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def p_data(kind: int, body: bytes) -> bytes:
    """One P-DATA-TF PDU with one value in presentation context 1; kind 3 is a whole command, 2 a whole dataset."""
    value = struct.pack(">LBB", len(body) + 2, 1, kind) + body
    return struct.pack(">BxL", 0x04, len(value)) + value


def store_request(SOPInstanceUID: str) -> bytes:
    """A C-STORE-RQ command set, Implicit VR Little Endian."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0x0000, number, len(value)) + value

    numbers = {0x0100: 0x0001, 0x0110: 7, 0x0700: 2, 0x0800: 0x0001}
    coded = b"".join(element(number, struct.pack("<H", value)) for number, value in numbers.items())
    return element(0x0002, CTImageStorage.encode()) + coded + element(0x1000, SOPInstanceUID.encode())


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + struct.pack("<H", len(value)) + value


def dataset(SOPInstanceUID: str, *, charset: bytes = b"ISO_IR 192", name: bytes = NAME.encode()) -> bytes:
    parts = (
        explicit(0x00080005, b"CS", charset),
        explicit(0x00080016, b"UI", CTImageStorage.encode()),
        explicit(0x00080018, b"UI", SOPInstanceUID.encode()),
        explicit(0x00080060, b"CS", b"CT"),
        explicit(0x00100010, b"PN", name),
        explicit(0x00100020, b"LO", NUMBER.encode()),
        explicit(0x0020000D, b"UI", SOPInstanceUID.encode() + b".1"),
        explicit(0x0020000E, b"UI", SOPInstanceUID.encode() + b".2"),
    )
    return b"".join(parts)


NEST = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"


def status(answer: bytes) -> int:
    """Read the status of the C-STORE response that an answer holds."""
    place = answer.index(struct.pack("<HHL", 0x0000, 0x0900, 2))
    return int(struct.unpack("<H", answer[place + 8 : place + 10])[0])


@pytest.mark.parametrize(
    ("uid", "body", "statuses"),
    [
        pytest.param("2.25.90001", dataset("2.25.90001")[:60], REFUSALS, id="truncated"),
        pytest.param(
            "2.25.90002",
            dataset("2.25.90002") + b"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\x7f",
            {0, *REFUSALS},
            id="cut off",
        ),
        pytest.param(
            "2.25.90003",
            dataset("2.25.90003", charset=b"ISO 2022 IR 999", name=b"\xff\xfe"),
            {0, *REFUSALS},
            id="charset",
        ),
        pytest.param("2.25.90004", dataset("2.25.90004", name=b"\xff\xfe\x80"), {0, *REFUSALS}, id="not utf-8"),
        pytest.param("2.25.9", NEST * 10_000, REFUSALS, id="deep nesting"),
        pytest.param(
            "2.25.90006", dataset("2.25.90006") + NEST * 5_000, {0, *REFUSALS}, id="deep nesting after the identifiers"
        ),
        pytest.param("2.25.9", random.Random(1).randbytes(5000), REFUSALS, id="random bytes"),
        pytest.param("2.25.9", b"\0", REFUSALS, id="nothing"),
    ],
)
def test_dicom_answers_what_it_cannot_take(
    connect: Connect, association_request: bytes, uid: str, body: bytes, statuses: set[int]
) -> None:
    connection = connect(Interface.DICOM)
    connection.sendall(association_request + p_data(3, store_request(uid)) + p_data(2, body))
    connection.shutdown(socket.SHUT_WR)

    assert status(ended(connection)) in statuses


def test_dicom_refuses_a_pdu_beyond_its_limit(connect: Connect, association_request: bytes) -> None:
    connection = connect(Interface.DICOM)
    connection.sendall(association_request + b"\x04\x00\xff\xff\xff\xff" + bytes(1024))
    answer = ended(connection)

    assert (answer[0], answer[-10]) == (ACCEPTED, ABORTED)


def test_dicom_ends_an_association_that_is_cut_off(connect: Connect, association_request: bytes) -> None:
    connection = connect(Interface.DICOM)
    connection.sendall(association_request + p_data(3, store_request("2.25.9")) + p_data(2, bytes(1000))[:500])
    connection.shutdown(socket.SHUT_WR)

    assert ended(connection)[0] == ACCEPTED


def test_dicom_survives_random_bytes(connect: Connect, association_request: bytes) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        body = chance.randbytes(chance.randrange(1, 2000))
        connection = connect(Interface.DICOM)
        connection.sendall((association_request if seed % 2 else b"") + (p_data(3, body) if seed % 3 else body))
        connection.shutdown(socket.SHUT_WR)
        ended(connection)


# --- all listeners --------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", list(Interface), ids=str)
def test_two_hundred_idle_connections_do_not_delay_an_association(connect: Connect, interface: Interface) -> None:
    idle = [connect(interface) for _ in range(IDLE)]
    time.sleep(3)
    assert len(idle) == IDLE


def begun(association_request: bytes) -> Iterator[tuple[Interface, bytes]]:
    """Yield beginnings that are never finished."""
    yield Interface.FHIR, b""
    yield Interface.FHIR, b"POST /fhir/Patient HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Na"
    yield (
        Interface.FHIR,
        b"POST /fhir/Patient HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n"
        + (b"Content-Length: 500\r\n\r\n" + patient()[:30]),
    )
    yield Interface.HL7, framed(oru("S1"))[:-20]
    yield Interface.DICOM, b""
    yield Interface.DICOM, association_request[:50]
    yield Interface.DICOM, association_request + p_data(3, store_request("2.25.9"))[:40]


def test_clients_that_never_finish_are_disconnected(connect: Connect, association_request: bytes) -> None:
    """Ten of each kind at once, each sending one more byte now and then; every one is disconnected in time."""
    beginnings = list(begun(association_request)) * 10
    slow = []
    for interface, beginning in beginnings:
        connection = connect(interface)
        connection.sendall(beginning)
        connection.settimeout(0.0)
        slow.append((interface, beginning, connection))
    until = time.monotonic() + SLOWEST_S
    while slow and time.monotonic() < until:
        slow = [one for one in slow if not hung_up(one[2])]
        time.sleep(0.5)
    assert sorted({(str(interface), beginning[:60]) for interface, beginning, _ in slow}) == []


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(65_536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_afterwards_nothing_is_parked_and_the_server_is_ready(server: ServerProcess) -> None:
    ready = httpx.get(f"{server.url}/health/ready", timeout=10.0)

    assert ready.status_code == 200
    assert waiting(server)["parked"] == 0
    assert server.alive


def test_afterwards_the_log_names_nobody(server: ServerProcess) -> None:
    log = server.log.read_text(errors="replace")

    assert log
    assert NAME not in log
    assert NUMBER not in log
