"""Each listener makes the principal, and the authorizer decides, before the content of a request is read.

The clients send what names them and what they want (headers, the MSH segment, the command set) and hold back the rest:
the refusal arrives without it. An MLLP frame is read to its end, for only its end shows that MSH is complete and where
the next frame begins; there nothing after MSH is parsed before the decision.
"""

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import Verification

from dicom_node.scu import Peer, echo
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.hl7v2.message import Message
from kernel.errors import Category, Problem
from kernel.tables import audit_log, inbox, instances
from kernel.testing import FakeClock
from privacy.authorize import Interaction, Request
from privacy.principal import Principal
from service.api import http_application
from service.application import Application, build
from service.listeners.http import HttpListener, listening_socket
from service.listeners.intake import IntakeListeners
from service.settings import load

from .test_roles import rows

MEBIBYTE = 1 << 20
WITHHELD = {
    "with its length": "Content-Length: 100000\r\n",
    "in chunks": "Transfer-Encoding: chunked\r\n",
    "after 100 Continue": "Content-Length: 100000\r\nExpect: 100-continue\r\n",
}
"""How a client announces a body that it does not send."""


class Refusing:
    """An authorizer that allows nothing, and remembers who requested what."""

    def __init__(self) -> None:
        self.requests: list[tuple[Interaction, str, str, str]] = []

    def require(self, principal: Principal, request: Request) -> None:
        self.requests.append((request.interaction, request.target, principal.client, principal.client_address))
        raise Problem(Category.FORBIDDEN, "not for you")


class Server:
    """A whole server on free ports whose authorizer allows nothing."""

    def __init__(self, application: Application, listeners: IntakeListeners, http_port: int, refusing: Refusing):
        self.application = application
        self.refusing = refusing
        self.http_port, self.mllp_port, self.dicom_port = http_port, listeners.mllp_port, listeners.dicom_port

    def post(self, path: str, announced: str, host: str = "localhost") -> tuple[int, str]:
        """Send the headers of a POST, hold back its body, and return the status and the answer's text."""
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/fhir+json\r\n{announced}\r\n"
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=10) as connection:
            connection.sendall(head.encode())
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65_536)
        first, _, rest = received.decode().partition("\r\n")
        return int(first.split()[1]), rest


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    refusing = Refusing()
    bound = listening_socket("127.0.0.1", 0)
    settings = load({}, data_dir=tmp_path / "ausculta", mllp_port=0, dicom_port=0, http_port=bound.getsockname()[1])
    application = build(settings, clock=FakeClock(), authorizer=refusing)
    listeners = IntakeListeners(application)
    listeners.open()
    http = HttpListener(http_application(application), bound)
    http.open()
    yield Server(application, listeners, settings.http_port, refusing)
    http.close()
    listeners.close()
    application.close()


@pytest.mark.parametrize("announced", WITHHELD.values(), ids=WITHHELD)
@pytest.mark.parametrize(
    ("path", "interaction", "target"),
    [("/fhir/Patient", Interaction.CREATE, "Patient"), ("/fhir", Interaction.BUNDLE, "")],
    ids=["create", "bundle"],
)
def test_a_fhir_request_is_refused_without_its_body(
    server: Server, path: str, interaction: Interaction, target: str, announced: str
) -> None:
    status, answer = server.post(path, announced)
    assert (status, "OperationOutcome" in answer) == (403, True)
    assert "connection: close" in answer.lower()  # where the next request begins is not known
    assert server.refusing.requests == [(interaction, target, "anybody on this machine", "127.0.0.1")]
    assert rows(server.application, audit_log) == 1


def test_a_fhir_request_whose_principal_cannot_be_made_is_refused_without_its_body(server: Server) -> None:
    status, _ = server.post("/fhir/Patient", WITHHELD["with its length"], host="rebound.example")
    assert status == 403
    assert server.refusing.requests == []


def hl7(*segments: str) -> bytes:
    return b"\x0b" + "\r".join(segments).encode() + b"\x1c\r"


def test_a_message_is_refused_before_anything_after_msh_is_parsed(server: Server) -> None:
    """Without a PID this message is answered AE as soon as it is parsed; it is answered AR."""
    msh = "MSH|^~\\&|WARDSYS|CITY|AUSCULTA|CITY|20260115120000||ADT^A01|C1|P|2.5.1"
    with socket.create_connection(("127.0.0.1", server.mllp_port), timeout=10) as connection:
        connection.sendall(hl7(msh, "EVN", "nonsense" * 100))
        received = b""
        while not received.endswith(b"\x1c\r"):
            received += connection.recv(65_536)
    acknowledged = Message.parse(received[1:-2]).first("MSA")
    assert acknowledged is not None
    assert (acknowledged.get(1), acknowledged.get(2)) == ("AR", "C1")
    assert server.refusing.requests == [(Interaction.MESSAGE, "ADT^A01", "WARDSYS|CITY", "127.0.0.1")]
    assert rows(server.application, inbox) == 0


def dicom_peer(server: Server) -> Peer:
    return Peer(ae_title="AUSCULTA", host="127.0.0.1", port=server.dicom_port, calling_ae="MODALITY")


def pdu(connection: socket.socket) -> bytes:
    """Receive one PDU."""
    head = connection.recv(6, socket.MSG_WAITALL)
    return head + connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)


@contextmanager
def associated(server: Server) -> Iterator[socket.socket]:
    """Open an association for chest images on a plain socket."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "MODALITY", "AUSCULTA"
    context = build_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16_384, UID("1.2.3.4")
    request.user_information = [length, implementation]
    with socket.create_connection(("127.0.0.1", server.dicom_port), timeout=10) as connection:
        connection.sendall(A_ASSOCIATE_RQ(request).encode())
        assert pdu(connection)[0] == 0x02  # A-ASSOCIATE-AC
        yield connection


def store_request(number: int) -> list[bytes]:
    """Return the P-DATA-TF PDUs of a C-STORE request: the command set, then the fragments of the dataset."""
    request = C_STORE()
    request.MessageID, request.Priority = number, 2
    request.AffectedSOPClassUID = DigitalXRayImageStorageForPresentation
    request.AffectedSOPInstanceUID = f"2.25.{number}"
    request.DataSet = BytesIO(bytes(MEBIBYTE))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return [bytes(P_DATA_TF(part).encode()) for part in message.encode_msg(1, 16_384)]


def answer(connection: socket.socket) -> Any:
    """Receive a DIMSE response that has no dataset."""
    received, message = P_DATA_TF(), DIMSEMessage()
    received.decode(pdu(connection))
    assert message.decode_msg(received.to_primitive())
    return message.message_to_primitive()


def test_an_instance_is_refused_without_its_dataset(server: Server) -> None:
    with associated(server) as connection:
        connection.sendall(store_request(1)[0])
        response = answer(connection)
    assert (response.Status, response.MessageIDBeingRespondedTo) == (0x0124, 1)
    wanted = (Interaction.STORE, str(DigitalXRayImageStorageForPresentation), "MODALITY", "127.0.0.1")
    assert server.refusing.requests == [wanted]
    assert rows(server.application, instances) == 0


def test_a_dataset_that_follows_a_refusal_is_discarded_and_the_next_request_is_answered(server: Server) -> None:
    with associated(server) as connection:
        for number in (1, 2):
            for part in store_request(number):
                connection.sendall(part)
            response = answer(connection)
            assert (response.Status, response.MessageIDBeingRespondedTo) == (0x0124, number)
    assert len(server.refusing.requests) == 2
    assert rows(server.application, instances) == 0


def test_an_echo_that_is_not_allowed_is_answered_0124(server: Server) -> None:
    with pytest.raises(Problem) as refused:  # the peer's word for 0x0124
        echo(dicom_peer(server))
    assert refused.value.category is Category.FORBIDDEN
    assert server.refusing.requests == [(Interaction.ECHO, str(Verification), "MODALITY", "127.0.0.1")]


@pytest.mark.skipif(not shutil.which("/usr/bin/echoscu"), reason="DCMTK is not installed (Debian package: dcmtk)")
def test_dcmtk_understands_both_refusals(server: Server, tmp_path: Path) -> None:
    to = ["-aet", "MODALITY", "-aec", "AUSCULTA", "127.0.0.1", str(server.dicom_port)]
    echoed = subprocess.run(["/usr/bin/echoscu", "-d", *to], capture_output=True, text=True, check=False, timeout=30)
    assert "0x124" in echoed.stdout + echoed.stderr
    image = tmp_path / "chest.dcm"
    image.write_bytes(chest_x_ray(ChestXRay(rows=1024, columns=1024)))  # many PDUs
    stored = subprocess.run(
        ["/usr/bin/storescu", "-d", *to, str(image)], capture_output=True, text=True, check=False, timeout=30
    )
    assert "0x0124" in (stored.stdout + stored.stderr).replace("0x124", "0x0124")
    assert [request[0] for request in server.refusing.requests] == [Interaction.ECHO, Interaction.STORE]
