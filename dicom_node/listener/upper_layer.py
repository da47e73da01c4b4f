"""The DICOM upper layer of a server's association, in the association's own thread (PS3.8 section 9).

pynetdicom provides the state machine, the PDUs and the negotiation. Its own loop is a second thread that polls a queue
and a socket every millisecond, and that a peer can block for ever by sending half a PDU. Here the thread that waits for
a message drives the same state machine: reading waits on the socket, every read has a deadline, and a PDU is refused by
its declared length before it is buffered.
"""

import queue
import ssl
import struct
import time
from typing import Any, Final, TypeAlias

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import _PDU_TYPES, DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.listener.arriving import ArrivingFile
from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.store_messages import StoreRequest, read_store_request
from dicom_node.listener.transport import CONNECTION_CLOSED
from kernel.blobs import Digest
from kernel.log import get_logger

DATA_RECEIVED: Final = "Evt10"
FRAGMENTS_TAKEN: Final = "Evt10, action DT-2"
ARTIM_EXPIRED: Final = "Evt18"
INVALID_PDU: Final = "Evt19"
"""Events of the upper layer's state machine (PS3.8 Table 9-8)."""

AWAITING_REQUEST: Final = "Sta2"
ESTABLISHED: Final = "Sta6"
AWAITING_CLOSE: Final = "Sta13"
"""States of it (PS3.8 Tables 9-1 to 9-5)."""
_UNDER_ARTIM: Final = frozenset({AWAITING_REQUEST, AWAITING_CLOSE})
_KINDS: Final = frozenset(kind[0] for kind in _PDU_TYPES)

P_DATA_TF: Final = 0x04
"""Type of the PDU that carries messages (PS3.8 Table 9-22)."""

_HEADER: Final = struct.Struct(">BxL")
_VALUE: Final = struct.Struct(">LB")
_PART_OF_COMMAND: Final = b"\x01"
_LAST_OF_COMMAND: Final = b"\x03"
_IS_COMMAND: Final = 0b01
_IS_LAST: Final = 0b10
"""Message control headers, and their bits (PS3.8 section E.2)."""

Values: TypeAlias = list[tuple[int, memoryview]]
"""The presentation data values of a PDU: presentation context, message control header and fragment."""

_log = get_logger(__name__)


class UpperLayer(DULServiceProvider):  # type: ignore[misc]
    """pynetdicom's upper layer without its thread: :meth:`step` waits for one PDU and processes it.

    Parameters
    ----------
    association
        The association that it belongs to.
    limits
        Bounds on what the peer may send.
    """

    def __init__(self, association: Any, limits: DicomLimits) -> None:
        super().__init__(association)
        self._limits = limits
        self._timeout_at = time.monotonic() + limits.artim_s

    @property
    def state(self) -> str:
        """The state machine's state."""
        state: str = self.state_machine.current_state
        return state

    @property
    def ended(self) -> bool:
        """Whether the connection and the state machine have ended."""
        return bool(self._kill_thread)

    def step(self) -> bool:
        """Wait for one PDU, or for a timeout, and let the state machine process it.

        Returns
        -------
        bool
            Whether it was nothing but fragments of a message, which change no state.
        """
        self.act()
        if self.ended:
            return False
        event = self._next_event()
        if event is FRAGMENTS_TAKEN:
            return True
        if event is not None:
            self.event_queue.put(event)
        else:
            self.assoc.acse.send_ap_abort(0x00)
        self.act()
        return False

    def send_pdu(self, primitive: Any) -> None:
        """Send the PDU of ``primitive``; returns when it is sent."""
        super().send_pdu(primitive)
        self.act()

    def send_command(self, context_id: int, command: bytes, longest: int) -> None:
        """Send the command set of a message without dataset; returns when it is sent.

        Parameters
        ----------
        context_id
            The presentation context.
        command
            The encoded command set.
        longest
            Maximum Length of the peer, 0 when it states none.
        """
        most = max(2, (longest - _VALUE.size - 1) & ~1) if longest else len(command)  # fragments are of even length
        for start in range(0, len(command), most):
            is_last = start + most >= len(command)
            value = (_LAST_OF_COMMAND if is_last else _PART_OF_COMMAND) + command[start : start + most]
            if self.state == ESTABLISHED and self.event_queue.empty():
                length = len(value) + 1
                pdu = _HEADER.pack(P_DATA_TF, length + 4) + _VALUE.pack(length, context_id) + value
                self.socket.send(pdu)
            else:
                primitive = P_DATA()
                primitive.presentation_data_value_list.append((context_id, value))
                self.send_pdu(primitive)
        self.act()

    def act(self) -> None:
        """Let the state machine process all queued events."""
        while not self.ended and (self.event_queue.queue or self.to_provider_queue.queue):
            if not self.event_queue.queue:
                self._process_recv_primitive()
            try:
                event = self.event_queue.get_nowait()
            except queue.Empty:
                return
            before = self.state
            self.state_machine.do_action(event)
            if self.state == AWAITING_CLOSE != before:
                self._timeout_at = time.monotonic() + self._limits.artim_s

    def _next_event(self) -> str | None:
        """Read one PDU; None when the peer of an established association has been silent for too long."""
        under_artim = self.state in _UNDER_ARTIM
        try:
            deadline = self._timeout_at if under_artim else time.monotonic() + self._limits.idle_s
            self.socket.fill(1, deadline=deadline)
            if not under_artim:
                deadline = time.monotonic() + self._limits.pdu_s
            header = bytes(self.socket.read(_HEADER.size, deadline=deadline))
            kind, length = _HEADER.unpack(header)
            if kind not in _KINDS or length > self._limits.pdu_bytes:
                _log.warning("pdu_refused", kind=kind, length=length)
                return INVALID_PDU
            body = self.socket.read(length, deadline=deadline)
        except TimeoutError:
            return ARTIM_EXPIRED if under_artim else None
        except (OSError, ssl.SSLError):
            return CONNECTION_CLOSED
        return self._decoded(kind, header, body)

    def _decoded(self, kind: int, header: bytes, body: memoryview) -> str:
        """Decode a PDU for the state machine; the fragments of an established association are taken at once."""
        try:
            if kind == P_DATA_TF:
                values = data_values(body)
                if self.state == ESTABLISHED:  # action DT-2 leads to the same state
                    self.assoc.dimse.receive_values(values)
                    return FRAGMENTS_TAKEN
                decoded, event = DataTransfer(values), DATA_RECEIVED
            else:
                decoded, event = self._decode_pdu(bytearray(header + body))
        except Exception as failure:  # noqa: BLE001 - whatever a malformed PDU breaks, it is the peer's to hear
            _log.warning("pdu_undecodable", kind=kind, length=len(body), failure=failure)
            return INVALID_PDU
        self._recv_pdu.put(decoded)
        return str(event)


def data_values(body: memoryview) -> Values:
    """Split a P-DATA-TF PDU without its header into views of its values (PS3.8 section 9.3.5).

    Raises
    ------
    struct.error
        A value is cut short.
    """
    values, at = [], 0
    while at < len(body):
        length, context_id = _VALUE.unpack_from(body, at)
        end = at + 4 + length
        if length < 2 or end > len(body):
            raise struct.error("a presentation data value is not of the length that it says")
        values.append((context_id, body[at + _VALUE.size : end]))
        at = end
    return values


class DataTransfer:
    """A P-DATA-TF PDU for the state machine, which may look at it after the next read."""

    def __init__(self, values: Values) -> None:
        self._values = [(context_id, bytes(value)) for context_id, value in values]

    def to_primitive(self) -> P_DATA:
        """Return the service primitive for the state machine."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._values)
        return primitive


class BoundedMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """Assembles DIMSE messages; the bytes of a message over the limit are dropped (PS3.8 Annex E).

    Parameters
    ----------
    association
        The association that it belongs to.
    largest
        Largest command set and dataset together, in bytes.
    """

    def __init__(self, association: Any, largest: int) -> None:
        super().__init__(association)
        self.message: Any = None
        """What pynetdicom assembles: a message that is not an ordinary C-STORE request."""
        self.decided = False
        """Whether the newest message is a C-STORE request that was decided on before its dataset had arrived."""
        self._largest = largest
        self._received = 0
        self._is_arriving = False
        self._dropping = False
        self._file = ArrivingFile()
        self._request: StoreRequest | None = None
        self._context_id = 0
        self._digest: Digest | None = None

    @property
    def address(self) -> str | None:
        """The address of the newest message's instance, where it was computed while the dataset arrived."""
        return None if self._digest is None else self._digest.hexdigest()

    @property
    def too_large(self) -> bool:
        """Whether the newest message exceeds the limit, so that its dataset is not complete."""
        return self._received > self._largest

    def arriving_store(self) -> tuple[int, StoreRequest] | None:
        """Return a C-STORE request, once, whose command set is complete while its dataset still arrives.

        Returns
        -------
        tuple[int, StoreRequest] | None
            Presentation context and request; ``decided`` is true from now on. None when there is no such request.
        """
        if self.decided or not self._is_arriving:
            return None
        if self._request is not None:
            self.decided = True
            return self._context_id, self._request
        if isinstance(self.message, C_STORE_RQ):
            self.decided = True
            return self.message.context_id, StoreRequest.of(self.message.message_to_primitive())
        return None

    def add_to(self, digest: Digest) -> None:
        """Add the dataset of the arriving message to a digest, what has arrived and what follows."""
        if self._request is not None:
            digest.update(self._request.dataset.dataset())
            self._digest = digest

    def drop(self) -> None:
        """Discard the dataset of the arriving message, which is answered already, fragment by fragment."""
        self._dropping = True

    def receive_primitive(self, primitive: Any) -> None:
        """Take the fragments of a P-DATA that went through the state machine."""
        self.receive_values([(context, memoryview(data)) for context, data in primitive.presentation_data_value_list])

    def receive_values(self, values: Values) -> None:
        """Add the fragments of one PDU; a complete message goes to ``msg_queue``, unless it is discarded.

        Raises
        ------
        ValueError
            A command follows the beginning of a dataset.
        """
        is_new = not self._is_arriving
        if is_new:
            self._is_arriving = True
            self._received = 0
            self._request = self._digest = None
            self.decided = self._dropping = False
        for _, data in values:
            self._received += len(data) - 1
        if self.too_large or self._dropping:
            values = [(context, data[:1]) for context, data in values]
        elif is_new and values:
            self._read_command(*values[0])
            del values[: self._request is not None]
        if self._request is None:
            self._add_to_message(values)
        elif self._add_to_file(self._request.dataset, values):
            self._complete(self._context_id, self._request)

    def _add_to_message(self, values: Values) -> None:
        """Leave fragments to pynetdicom."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(values)
        self.message = self.message or DIMSEMessage()
        if self.message.decode_msg(primitive, self.assoc):
            message, self.message = self.message, None
            complete = None if self._dropping else message.message_to_primitive()
            self._complete(message.context_id, StoreRequest.of(complete) if isinstance(complete, C_STORE) else complete)

    def _add_to_file(self, file: ArrivingFile, values: Values) -> bool:
        """Add fragments to the dataset of an ordinary C-STORE request; return whether it is complete."""
        for _, data in values:
            control, fragment = data[0], data[1:]
            if control & _IS_COMMAND:
                msg = "a command within a dataset"
                raise ValueError(msg)
            file.add(fragment)
            if self._digest is not None:
                self._digest.update(fragment)
            if control & _IS_LAST:
                return True
        return False

    def _complete(self, context_id: int, message: Any) -> None:
        self._is_arriving = False
        if not self._dropping:
            self.msg_queue.put((context_id, message))

    def _read_command(self, context_id: int, value: memoryview) -> None:
        """Read the command set of an ordinary C-STORE request, when the first fragment of a message holds it whole."""
        if value[0] != _LAST_OF_COMMAND[0]:
            return
        self._file.clear()
        self._request = read_store_request(value[1:], self._file)
        self._context_id = context_id
