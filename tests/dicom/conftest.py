"""The DICOM listener with a real archive behind it, and peers that speak to it through real sockets."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import Verification

from dicom_node.archive import Archive, Arrival, StoredInstance
from dicom_node.listener.association import ReceivedInstance
from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.server import DicomServer, StorageHandlers
from dicom_node.scu import Peer, Timeouts, _Sender
from kernel.blobs import Blobs
from kernel.db import Database, Transaction
from kernel.testing import FakeClock, PlainCipher, SequenceIds

#: A sender that the machine holds up is no silent one.
PATIENT = DicomLimits(artim_s=60, pdu_s=60, idle_s=120, send_s=60, associations=8, instance_bytes=4 * 1024 * 1024)


@dataclass
class RunningListener:
    """A running listener, its archive, and the calls that they made to the service."""

    database: Database
    archive: Archive
    clock: FakeClock
    server: DicomServer | None = None
    stored: list[StoredInstance] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    raising: Exception | None = None

    def on_store(self, received: ReceivedInstance) -> None:
        if self.raising:
            raise self.raising
        self.archive.add(received, on_commit=self.then)

    def then(self, tx: Transaction, arrival: Arrival) -> None:
        self.stored.append(arrival.stored)

    def on_closed(self, association: str) -> None:
        self.database.write(lambda tx: self.archive.closed(tx, association))
        self.closed.append(association)

    @property
    def handlers(self) -> StorageHandlers:
        return StorageHandlers(store=self.on_store, closed=self.on_closed, digest=self.archive.digest)

    @property
    def port(self) -> int:
        assert self.server
        return self.server.port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def associate(self, *contexts: tuple[str, str]) -> Association:
        """Associate without the second thread of pynetdicom, which takes answers from the caller under load."""
        wanted = [build_context(*context) for context in contexts] or [build_context(Verification)]
        peer = Peer(ae_title="AUSCULTA", host="127.0.0.1", port=self.port, calling_ae="MODALITY")
        association = _Sender(peer, wanted, Timeouts(connect_s=20, associate_s=20, answer_s=20))
        association.request()
        return association


@pytest.fixture
def limits() -> DicomLimits:
    return PATIENT


@pytest.fixture
def ward(sqlite: Database, tmp_path: Path, clock: FakeClock, limits: DicomLimits) -> Iterator[RunningListener]:
    archive = Archive(sqlite, Blobs(tmp_path / "blobs", PlainCipher(), sqlite), clock)
    ward = RunningListener(database=sqlite, archive=archive, clock=clock)
    ward.server = DicomServer("AUSCULTA", ward.handlers, limits, ids=SequenceIds())
    ward.server.start("127.0.0.1", 0)
    yield ward
    ward.server.close()


@pytest.fixture
def instance() -> Callable[..., Dataset]:
    """Make a small instance of any storage class in any transfer syntax."""

    def make(
        number: int = 1,
        *,
        study: str = "2.25.1",
        storage: str = CTImageStorage,
        syntax: str = ExplicitVRLittleEndian,
        payload: bytes = b"\x01\x02" * 64,
    ) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.SOPClassUID, dataset.SOPInstanceUID = storage, f"{study}.2.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.3"
        dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", "P1", "Doe^Jane"
        dataset.BitsAllocated = 16
        dataset.PixelData = payload
        dataset["PixelData"].VR = "OW"
        return dataset

    return make


@pytest.fixture
def written() -> Callable[[Dataset], bytes]:
    """Encode a dataset as a DICOM file."""

    def write(dataset: Dataset) -> bytes:
        stream = BytesIO()
        dcmwrite(stream, dataset, enforce_file_format=True)
        return stream.getvalue()

    return write


@pytest.fixture
def association_request() -> bytes:
    """An A-ASSOCIATE-RQ PDU that proposes CT storage."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "HOSTILE", "AUSCULTA"
    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, UID("1.2.3.4")
    primitive.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())
