"""Sending instances to a PACS: C-STORE and C-ECHO as a user, every wait bounded (PS3.4 Annex B, PS3.7 section 9).

A peer's refusal becomes a :class:`~kernel.errors.Problem` whose category shows whether sending again can help.
"""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.encoding import open_file
from kernel.errors import Category, ObjectRefused, PeerProblem, Problem

SUCCESS: Final = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
"""Stored, possibly with a warning (PS3.4 Table B.2-1)."""

DUPLICATE: Final = 0x0111
"""Duplicate SOP Instance (PS3.7 Annex C): sent by an earlier attempt; a UID of ours has one content."""

PERMANENT: Final = 0x01
"""Result of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

MOST_CONTEXTS: Final = 128
"""Presentation contexts of one association (PS3.8 section 9.3.2.2)."""

MAXIMUM_LENGTH: Final = 128 * 1024
"""Longest PDU that is accepted from the peer: its answers are short."""

_STATUS: Final[Mapping[int, Category]] = {
    0x0110: Category.UNAVAILABLE,
    0x0122: Category.UNSUPPORTED,
    0x0124: Category.FORBIDDEN,
}
_OUT_OF_RESOURCES: Final = 0xA7
_OF_THE_CLASS: Final = frozenset({0x0122, 0xA900})
"""SOP Class not supported (PS3.7 Annex C); the dataset does not match its SOP Class (PS3.4 Table B.2-1)."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another application entity."""

    ae_title: str
    host: str
    port: int
    #: The calling AE title.
    calling_ae: str = "AUSCULTA"


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Longest waits for a peer, in seconds."""

    connect_s: float = 10.0
    #: For its answer to an association request or release.
    associate_s: float = 15.0
    #: For its answer to one instance, and for each pause while it reads.
    answer_s: float = 60.0
    #: For all instances together; checked before each instance.
    whole_s: float = 600.0


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The peer's answers."""

    #: SOPInstanceUID -> status of its answer: 0x0000, a warning, or 0x0111 when it had the instance already.
    statuses: Mapping[str, int]


def echo(destination: Peer, timeouts: Timeouts | None = None) -> None:
    """Verify the connection to a peer (C-ECHO).

    Raises
    ------
    Problem
        As :func:`send`.
    """
    context = build_context(Verification)
    with _association(destination, [context], timeouts or Timeouts()) as association:
        status = association.send_c_echo()
        if status.get("Status") != 0x0000:
            raise _refusal(status)


def send(files: Sequence[bytes], destination: Peer, timeouts: Timeouts | None = None) -> Receipt:
    """Send instances over one association, each in the transfer syntax of its file.

    Parameters
    ----------
    files
        DICOM files (PS3.10).
    destination
        The peer to send to.
    timeouts
        Bounds on every wait.

    Returns
    -------
    Receipt
        The peer has stored all of them.

    Raises
    ------
    Problem
        ``forbidden`` when the peer does not recognise one of the AE titles, ``unsupported`` when it does not accept
        such objects, ``busy`` when it has no resources now, ``unavailable`` when it is away or does not answer,
        ``incorrect`` when it refuses an instance. Those before the refused one may have been stored.
    """
    waits = timeouts or Timeouts()
    deadline = time.monotonic() + waits.whole_s
    datasets = [open_file(content) for content in files]
    statuses: dict[str, int] = {}
    with _association(destination, _contexts(datasets), waits) as association:
        for dataset in datasets:
            if time.monotonic() > deadline:
                raise Problem(Category.UNAVAILABLE, "the peer takes too long")
            statuses[str(dataset.SOPInstanceUID)] = _store(association, dataset)
    return Receipt(statuses=statuses)


def _store(association: Association, dataset: Dataset) -> int:
    try:
        answer = association.send_c_store(dataset)
    except ValueError as failure:
        detail = "the peer takes no such object in this transfer syntax"
        raise ObjectRefused(Category.UNSUPPORTED, detail, diagnostics=str(failure)) from failure
    except RuntimeError as failure:
        detail = "the association ended before the instance was sent"
        raise Problem(Category.UNAVAILABLE, detail, diagnostics=str(failure)) from failure
    status = answer.get("Status")
    if status in SUCCESS or status == DUPLICATE:
        return int(status)
    raise _refusal(answer)


def _refusal(answer: Dataset) -> Problem:
    status = answer.get("Status")
    if status is None:
        return Problem(Category.UNAVAILABLE, "the peer did not answer")
    diagnostics = str(answer.get("ErrorComment", ""))
    if status >> 8 == _OUT_OF_RESOURCES:
        return Problem(Category.BUSY, f"the peer is out of resources (0x{status:04X})", diagnostics=diagnostics)
    category = _STATUS.get(status, Category.INCORRECT)
    refused = ObjectRefused if status in _OF_THE_CLASS else PeerProblem
    return refused(category, f"the peer refused the instance (0x{status:04X})", diagnostics=diagnostics)


def _contexts(datasets: Sequence[Dataset]) -> list[PresentationContext]:
    pairs = dict.fromkeys((str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets)
    if len(pairs) > MOST_CONTEXTS:
        raise Problem(Category.INCORRECT, "the instances are of too many kinds for one association")
    return [build_context(SOPClassUID, TransferSyntaxUID) for SOPClassUID, TransferSyntaxUID in pairs]


class _Connection(AssociationSocket):  # type: ignore[misc]
    """A connection that is closed also when it could not be opened, and whose writes have a timeout."""

    def connect(self, primitive: Any) -> None:
        super().connect(primitive)
        if self.socket is not None:  # without a timeout pynetdicom waits for ever for a peer that stops reading
            self.socket.settimeout(self.assoc.dimse_timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _shutdown_socket(self) -> None:
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


class _Sender(Association):  # type: ignore[misc]
    """An association whose answers are read by the caller alone.

    pynetdicom runs a second thread that reads the same queue between calls. Under load it sometimes takes an answer for
    which the caller waits, and the caller then waits until its timeout. Here that thread is not started, and a request
    to pause it succeeds immediately.
    """

    def __init__(self, peer: Peer, contexts: Sequence[PresentationContext], timeouts: Timeouts) -> None:
        entity = ApplicationEntity(peer.calling_ae)
        entity.connection_timeout = timeouts.connect_s
        entity.acse_timeout = timeouts.associate_s
        entity.dimse_timeout = entity.network_timeout = timeouts.answer_s
        super().__init__(entity, "requestor")
        self._is_paused = True
        remote = AddressInformation.from_addr_port(peer.host, peer.port)
        local = AddressInformation.from_tuple(("", 0) if remote.is_ipv4 else ("::0", 0))
        self.set_socket(_Connection(self, address=local))
        self.acceptor.ae_title, self.acceptor.address_info = peer.ae_title, remote
        self.requestor.ae_title, self.requestor.address_info = peer.calling_ae, local
        self.requestor.maximum_length = MAXIMUM_LENGTH
        self.requestor.implementation_class_uid = entity.implementation_class_uid
        self.requestor.implementation_version_name = entity.implementation_version_name
        for number, context in enumerate(contexts):
            context.context_id = 2 * number + 1
        self.requestor.requested_contexts = list(contexts)


@contextmanager
def _association(destination: Peer, contexts: list[PresentationContext], timeouts: Timeouts) -> Iterator[Association]:
    association = _Sender(destination, contexts, timeouts)
    association.request()
    if not association.is_established:
        raise _unestablished(association)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    association.release()


def _unestablished(association: Association) -> Problem:
    if association.is_rejected:
        answer = association.acceptor.primitive
        permanent = answer.result == PERMANENT
        category = Category.FORBIDDEN if permanent else Category.BUSY
        return PeerProblem(category, f"the peer rejected the association ({answer.reason_str})", whole=True)
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        return ObjectRefused(Category.UNSUPPORTED, "the peer takes no such object in this transfer syntax")
    return PeerProblem(Category.UNAVAILABLE, "the peer is away", whole=True)
