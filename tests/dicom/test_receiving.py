"""C-ECHO and C-STORE through real sockets: an acknowledged instance is stored byte for byte, any other is refused."""

import hashlib
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

from dicom_node.encoding import open_file
from dicom_node.listener.server import DicomServer
from dicom_node.synthesise import ChestXRay, chest_x_ray
from kernel.blobs import SMALL
from kernel.errors import Category, Problem
from kernel.tables import associations

PRIVATE_STORAGE = "1.3.12.2.1107.5.9.1"
Make = Callable[..., Dataset]


def test_echo_is_answered(ward) -> None:
    association = ward.associate()
    assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.parametrize(
    "storage",
    [
        CTImageStorage,
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        EnhancedMRImageStorage,
        EncapsulatedPDFStorage,
        PRIVATE_STORAGE,
    ],
)
def test_every_storage_class_is_taken(ward, instance: Make, storage: str) -> None:
    association = ward.associate((storage, ExplicitVRLittleEndian))
    assert association.send_c_store(instance(storage=storage)).Status == 0x0000
    association.release()
    assert ward.stored[0].SOPClassUID == storage


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_the_dataset_is_kept_byte_for_byte(ward, instance: Make, syntax: str) -> None:
    sent = instance(syntax=syntax)
    association = ward.associate((CTImageStorage, syntax))
    assert association.send_c_store(sent).Status == 0x0000
    association.release()
    uid = sent.file_meta.TransferSyntaxUID
    encoded = encode(sent, uid.is_implicit_VR, uid.is_little_endian, uid.is_deflated)
    kept = ward.archive.read(sent.SOPInstanceUID)
    assert kept.endswith(encoded)
    assert kept[128:132] == b"DICM"
    assert open_file(kept).PatientName == "Doe^Jane"


@pytest.mark.parametrize("longest", [1024, 16_384, 131_072])
@pytest.mark.parametrize("size", [64, 20_000, 300_000])
def test_an_instance_that_arrives_in_any_number_of_parts_has_the_address_of_its_bytes(
    ward, instance: Make, size: int, longest: int
) -> None:
    """It is digested while it arrives."""
    ward.server.limits = replace(ward.server.limits, maximum_length=longest)
    sent = instance(payload=os.urandom(size))
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    assert association.send_c_store(sent).Status == 0x0000
    association.release()
    with ward.database.read() as connection:
        (kept,) = ward.archive.instances(connection, sent.StudyInstanceUID)
    assert kept.blob == hashlib.sha256(ward.archive.read(sent.SOPInstanceUID)).hexdigest()


def test_a_compressed_dataset_is_stored_as_received(ward, written: Callable[[Dataset], bytes]) -> None:
    sent = open_file(chest_x_ray(ChestXRay(rows=64, columns=64)))
    sent.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    association = ward.associate((sent.SOPClassUID, JPEG2000Lossless))
    assert association.send_c_store(sent).Status == 0x0000
    association.release()
    kept = open_file(ward.archive.read(sent.SOPInstanceUID))
    assert kept.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert kept.PixelData == sent.PixelData


def test_a_sop_class_outside_storage_is_not_accepted(ward) -> None:
    association = ward.associate(
        (Verification, ImplicitVRLittleEndian), (ModalityWorklistInformationFind, ImplicitVRLittleEndian)
    )
    assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
    association.release()


def test_the_same_instance_again_changes_nothing(ward, instance: Make) -> None:
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    assert [association.send_c_store(instance()).Status for _ in range(2)] == [0x0000, 0x0000]
    association.release()
    with ward.database.read() as connection:
        assert len(ward.archive.instances(connection, "2.25.1")) == 1


def test_other_content_under_the_same_uid_is_a_conflict(ward, instance: Make) -> None:
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    association.send_c_store(instance(payload=b"\x01\x01"))
    assert association.send_c_store(instance(payload=b"\x02\x02")).Status == 0x0111
    association.release()
    assert open_file(ward.archive.read("2.25.1.2.1")).PixelData == b"\x01\x01"


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (Problem(Category.BUSY, "too much at once"), 0xA700),
        (Problem(Category.FORBIDDEN, "not you"), 0x0124),
        (Problem(Category.UNSUPPORTED, "not that"), 0x0122),
        (ValueError("Doe^Jane"), 0x0110),
    ],
)
def test_every_exception_is_answered(ward, instance: Make, raised: Exception, status: int) -> None:
    ward.raising = raised
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    answer = association.send_c_store(instance())
    assert answer.Status == status
    assert "Doe" not in answer.ErrorComment
    ward.raising = None
    assert association.send_c_store(instance()).Status == 0x0000
    association.release()


def test_an_fsync_that_fails_is_never_acknowledged(ward, instance: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    large = instance(payload=bytes(SMALL))
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        assert association.send_c_store(large).Status == 0xA700
    with pytest.raises(Problem, match="no such instance"):
        ward.archive.read("2.25.1.2.1")
    assert association.send_c_store(large).Status == 0x0000
    association.release()


@pytest.mark.parametrize(
    ("size", "order"),
    [(SMALL, ["file", "folder", "commit", "answer"]), (2, ["commit", "answer"])],
    ids=["a file", "in the commit"],
)
def test_the_answer_follows_the_commit_and_the_commit_follows_the_bytes(
    ward, instance: Make, monkeypatch: pytest.MonkeyPatch, size: int, order: list[str]
) -> None:
    done: list[str] = []
    fsync, write = os.fsync, ward.database.write

    def synced(handle: int) -> None:
        fsync(handle)
        done.append("folder" if Path(f"/proc/self/fd/{handle}").readlink().is_dir() else "file")

    def committed(work: Callable[..., object]) -> object:
        result = write(work)
        done.append("commit")
        return result

    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    with monkeypatch.context() as traced:
        traced.setattr(os, "fsync", synced)
        traced.setattr(ward.database, "write", committed)
        assert association.send_c_store(instance(payload=bytes(size))).Status == 0x0000
        done.append("answer")
    association.release()
    assert done == order


@pytest.mark.parametrize("size", [SMALL, 2], ids=["a file", "in the commit"])
def test_without_its_commit_an_instance_has_no_row_and_is_taken_when_it_is_sent_again(
    ward, instance: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    def fail(_work: object) -> None:
        raise Problem(Category.UNAVAILABLE, "the disk is full")

    sent = instance(payload=bytes(size))
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    with monkeypatch.context() as full:
        full.setattr(ward.database, "write", fail)
        assert association.send_c_store(sent).Status == 0xA700
    with ward.database.read() as connection:
        assert ward.archive.instances(connection, "2.25.1") == []
    assert association.send_c_store(sent).Status == 0x0000
    association.release()
    assert open_file(ward.archive.read(sent.SOPInstanceUID)).PixelData == bytes(size)
    assert len([path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]) == (size == SMALL)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_instance_without_its_identifiers_is_refused(ward, instance: Make, keyword: str) -> None:
    lacking = instance()
    delattr(lacking, keyword)
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    answer = association.send_c_store(lacking)
    association.release()
    assert (answer.Status, answer.ErrorComment) == (0xC000, f"the dataset lacks {keyword}")


def test_an_aborted_association_keeps_what_was_acknowledged(ward, instance: Make) -> None:
    association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
    association.send_c_store(instance(1))
    association.send_c_store(instance(2))
    association.abort()
    ward.server.close()
    with ward.database.read() as connection:
        assert len(ward.archive.instances(connection, "2.25.1")) == 2
        assert connection.execute(associations.select()).all() == []
    assert ward.closed == ["00000000-0000-0000-0000-000000000001"]


def test_one_association_too_many_is_rejected_as_transient(ward) -> None:
    open_ones = [ward.associate() for _ in range(ward.server.limits.associations)]
    assert all(association.is_established for association in open_ones)
    refused = ward.associate()
    assert refused.is_rejected
    assert (refused.acceptor.primitive.result, refused.acceptor.primitive.diagnostic) == (0x02, 0x02)
    for association in open_ones:
        association.release()


def test_parallel_senders_of_one_study_do_not_collide(ward, instance: Make) -> None:
    statuses: list[int] = []

    def send(first: int) -> None:
        association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
        statuses.extend(association.send_c_store(instance(number)).Status for number in range(first, first + 5))
        association.release()

    senders = [threading.Thread(target=send, args=(first,)) for first in (0, 5, 10, 15)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert statuses == [0x0000] * 20
    with ward.database.read() as connection:
        assert len(ward.archive.instances(connection, "2.25.1")) == 20


def test_corrections_of_one_header_that_arrive_at_once_are_all_taken(ward, instance: Make) -> None:
    """The picture is the same in each: none of them is another instance."""
    statuses: list[int] = []
    together = threading.Barrier(6)

    def send(number: int) -> None:
        version = instance()
        version.PatientName = f"Version^{number}"
        association = ward.associate((CTImageStorage, ExplicitVRLittleEndian))
        together.wait(20)
        statuses.append(association.send_c_store(version).Status)
        association.release()

    senders = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert statuses == [0x0000] * 6


def test_tls_works_with_a_certificate(ward, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = DicomServer("AUSCULTA", ward.handlers, ward.server.limits, ssl_context=context)
    server.start("127.0.0.1", 0)
    entity = AE("MODALITY")
    entity.add_requested_context(Verification)
    trusting = ssl.create_default_context(cafile=str(certificate))
    association = entity.associate("127.0.0.1", server.port, tls_args=(trusting, "localhost"))
    assert association.send_c_echo().Status == 0x0000
    association.release()
    server.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


@pytest.mark.skipif(not shutil.which("/usr/bin/storescu"), reason="DCMTK is not installed (Debian package: dcmtk)")
def test_dcmtk_can_send_here(ward, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(chest_x_ray(ChestXRay(rows=64, columns=64, instance=number)))
    command = ["/usr/bin/storescu", "-aec", "AUSCULTA", "127.0.0.1", str(ward.port), *map(str, files)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert [dcmread(f).SOPInstanceUID for f in files] == [stored.SOPInstanceUID for stored in ward.stored]
