"""One association as a storage provider: it negotiates, receives, and answers every request (PS3.7, PS3.4 Annex B).

pynetdicom negotiates. Accepted are all storage SOP classes that the peer offers, also private ones, in any transfer
syntax that is known. This module changes no process-wide setting.
"""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from pynetdicom import ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import Verification, uid_to_service_class
from pynetdicom.transport import AddressInformation

from dicom_node.encoding import UID_SYNTAX, file_head
from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.store_messages import StoreRequest, store_response
from dicom_node.listener.transport import Transport
from dicom_node.listener.upper_layer import BoundedMessages, UpperLayer
from kernel.blobs import Content, Digest
from kernel.errors import DIMSE_STATUS, Category, Problem, as_problem
from kernel.log import get_logger
from privacy.authorize import Authorizer, Interaction, Request
from privacy.principal import Principal

SUCCESS: Final = 0x0000

LOCAL_LIMIT_EXCEEDED: Final = (0x02, 0x03, 0x02)
"""Rejected transient, by the provider's presentation function: result, source, reason (PS3.8 Table 9-21)."""

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_STANDARD_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReceivedInstance:
    """One C-STORE request; its dataset is not decoded."""

    #: Identifier of the association.
    association: str
    #: The calling AE title and the address of the peer; ``request_id`` is the association.
    principal: Principal
    called_ae: str
    SOPClassUID: str
    SOPInstanceUID: str
    TransferSyntaxUID: str
    #: The encoded dataset, byte for byte as received; no preamble, no file meta information. It is valid until the
    #: instance is answered.
    encoded: Content = field(repr=False)
    #: The DICOM file, where it was put together while the dataset arrived; valid as long as ``encoded``.
    file: Content | None = field(default=None, repr=False)
    #: The address of the DICOM file, where it was computed while the dataset arrived.
    address: str | None = None

    @property
    def calling_ae(self) -> str:
        """Calling AE title of the association."""
        return self.principal.client


class StorageServer(Protocol):
    """The interface of the server to its associations."""

    limits: DicomLimits
    authorizer: Authorizer
    #: Makes what computes the address of an instance while it arrives; None leaves that to :meth:`store`.
    digest: Callable[[], Digest] | None

    def admit(self, association: str) -> bool:
        """Register an association; False when there are too many."""
        ...

    def store(self, received: ReceivedInstance) -> None:
        """Store an instance durably; raises when that fails."""
        ...


def is_storage(SOPClassUID: str) -> bool:
    """Return whether an abstract syntax belongs to the Storage Service Class.

    A private or unknown class is treated as one, because this server offers no other service besides verification.
    """
    service = uid_to_service_class(SOPClassUID)
    if service is StorageServiceClass:
        return True
    unknown = service is ServiceClass and SOPClassUID != _MEDIA_DIRECTORY
    return unknown and (SOPClassUID.startswith(_STANDARD_STORAGE) or not SOPClassUID.startswith("1.2.840.10008."))


def acceptable(offered: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return the presentation contexts to accept among those that a peer offers, in the peer's order."""
    wanted: dict[str, list[str]] = {}
    for context in offered:
        if context.abstract_syntax == Verification or is_storage(str(context.abstract_syntax)):
            syntaxes = wanted.setdefault(str(context.abstract_syntax), [])
            syntaxes += [uid for uid in context.transfer_syntax if uid in ALL_TRANSFER_SYNTAXES and uid not in syntaxes]
    supported = []
    for abstract_syntax, syntaxes in wanted.items():
        if syntaxes:
            context = PresentationContext()
            context.abstract_syntax = abstract_syntax
            context.transfer_syntax = syntaxes
            supported.append(context)
    return supported


class StorageAssociation(Association):  # type: ignore[misc]
    """An association, served from its first byte to its last in the calling thread.

    Parameters
    ----------
    entity
        The local application entity.
    server
        The server that accepted the connection.
    connection
        The accepted socket.
    identifier
        Identifier of the association in this server.
    """

    def __init__(
        self, entity: ApplicationEntity, server: StorageServer, connection: socket.socket, identifier: str
    ) -> None:
        super().__init__(entity, "acceptor")
        self._server = server
        self._identifier = identifier
        self.dul = UpperLayer(self, server.limits)
        self.dimse = BoundedMessages(self, server.limits.instance_bytes)
        self.set_socket(Transport(self, connection, server.limits))
        local, peer = connection.getsockname(), connection.getpeername()
        self.acceptor.maximum_length = server.limits.maximum_length
        self.acceptor.ae_title = entity.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(local)
        self.acceptor.implementation_class_uid = entity.implementation_class_uid
        self.acceptor.implementation_version_name = entity.implementation_version_name
        self.requestor.address_info = AddressInformation.from_tuple(peer)
        self._principal = Principal(client="", client_address=peer[0], server_address=local[0], request_id=identifier)
        self._answers: dict[type, Callable[[Any, PresentationContext, int], None]] = {
            C_ECHO: self._echo,
            StoreRequest: self._store,
        }

    def serve(self) -> None:
        """Serve until the association has ended, however it ends."""
        try:
            self._negotiate()
            if self.is_established:
                self.dul.socket.expect_instances()
            while self.is_established:
                is_fragment = self.dul.step()
                if self._answer_messages() or not is_fragment:
                    self._check_for_end()
            while not self.dul.ended:
                self.dul.step()
        finally:
            self.dul.socket.close()

    def _bind_defaults(self) -> None:
        """Bind the handlers that negotiation uses, but not those that would log whole messages."""
        for event in evt._INTERVENTION_EVENTS:  # noqa: SLF001 - pynetdicom has no public list of them
            self.bind(event, evt.get_default_handler(event))

    def _negotiate(self) -> None:
        self.dul.step()
        request = self.dul.receive_pdu()
        if not isinstance(request, A_ASSOCIATE):
            return
        self.requestor.primitive = request
        self._principal = replace(self._principal, client=str(request.calling_ae_title).strip())
        if not self._server.admit(self._identifier):
            self.acse.send_reject(*LOCAL_LIMIT_EXCEEDED)
            return
        self.acceptor.supported_contexts = acceptable(request.presentation_context_definition_list)
        self.acse.negotiate_association()

    def _answer_messages(self) -> bool:
        """Answer what has arrived; return whether anything was answered."""
        is_answered = self._decide_on_arriving()
        while self.dimse.msg_queue.queue:
            is_answered = True
            context_id, request = self.dimse.msg_queue.get_nowait()
            if request is None:  # how the state machine reports that the association has ended
                break
            answer = self._answers.get(type(request))
            context = self._accepted_cx.get(context_id)
            if answer is None or context is None or request.MessageID is None:
                _log.warning("dicom_request_refused", association=self._identifier, request=type(request).__name__)
                self.acse.send_abort(0x00)
                break
            answer(request, context, context_id)
        return is_answered

    def _decide_on_arriving(self) -> bool:
        """Authorize a C-STORE when its command set is complete; a refused one is answered before its dataset.

        Returns whether it was answered.
        """
        arriving = self.dimse.arriving_store()
        if arriving is None:
            return False
        context_id, request = arriving
        if context_id not in self._accepted_cx or request.MessageID is None:
            return False  # the association is aborted when the message is complete
        try:
            self._authorize(Interaction.STORE, request.AffectedSOPClassUID)
            if self._server.digest is not None and _is_of_uids(request):
                digest = self._server.digest()
                digest.update(_head(request, self._accepted_cx[context_id]))
                self.dimse.add_to(digest)
        except Exception as failure:  # noqa: BLE001 - the peer is always answered
            self.dimse.drop()
            self._answer_store(request, context_id, failure)
            return True
        return False

    def _check_for_end(self) -> None:
        if self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_established = False
        elif self.acse.is_aborted() or self.dul.ended:
            self.is_established = False

    def _echo(self, request: C_ECHO, _context: PresentationContext, context_id: int) -> None:
        response = C_ECHO()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = Verification
        try:
            self._authorize(Interaction.ECHO, Verification)
        except Problem as problem:
            response.Status = DIMSE_STATUS[problem.category]
        else:
            response.Status = SUCCESS
        self.dimse.send_msg(response, context_id)

    def _store(self, request: StoreRequest, context: PresentationContext, context_id: int) -> None:
        refused: Exception | None = None
        try:
            if not self.dimse.decided:
                self._authorize(Interaction.STORE, request.AffectedSOPClassUID)
            self._server.store(self._received(request, context))
        except Exception as failure:  # noqa: BLE001 - the peer is always answered
            refused = failure
        self._answer_store(request, context_id, refused)

    def _answer_store(self, request: StoreRequest, context_id: int, failure: Exception | None) -> None:
        status, comment = SUCCESS, ""
        if failure is not None:
            problem = as_problem(failure)
            _log.warning("instance_refused", association=self._identifier, failure=problem, detail=problem.detail)
            status, comment = DIMSE_STATUS[problem.category], problem.detail
        self.dul.send_command(context_id, store_response(request, status, comment), self.dimse.maximum_pdu_size)

    def _authorize(self, interaction: Interaction, SOPClassUID: str) -> None:
        """Call the server's authorizer for one request; raises ``forbidden``."""
        self._server.authorizer.require(self._principal, Request(interaction=interaction, target=SOPClassUID))

    def _received(self, request: StoreRequest, context: PresentationContext) -> ReceivedInstance:
        if self.dimse.too_large:
            raise Problem(Category.INCORRECT, "the instance is larger than this server takes")
        if not _is_of_uids(request):
            raise Problem(Category.INCORRECT, "a UID of the request is malformed")
        if str(context.abstract_syntax) != request.AffectedSOPClassUID:
            raise Problem(Category.INCORRECT, "the SOP class is not that of the presentation context")
        if not len(request.dataset):
            raise Problem(Category.INCORRECT, "the request holds no dataset")
        return ReceivedInstance(
            association=self._identifier,
            principal=self._principal,
            called_ae=str(self.requestor.primitive.called_ae_title).strip(),
            SOPClassUID=request.AffectedSOPClassUID,
            SOPInstanceUID=request.AffectedSOPInstanceUID,
            TransferSyntaxUID=str(context.transfer_syntax[0]),
            encoded=request.dataset.dataset(),
            file=request.dataset.file(_head(request, context)),
            address=self.dimse.address,
        )


def _is_of_uids(request: StoreRequest) -> bool:
    return all(UID_SYNTAX.fullmatch(uid) for uid in (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID))


def _head(request: StoreRequest, context: PresentationContext) -> bytes:
    return file_head(
        SOPClassUID=request.AffectedSOPClassUID,
        SOPInstanceUID=request.AffectedSOPInstanceUID,
        TransferSyntaxUID=str(context.transfer_syntax[0]),
    )
