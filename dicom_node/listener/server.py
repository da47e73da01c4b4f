"""The DICOM listener: C-ECHO and C-STORE of any storage class, answered when the instance is durable (PS3.4 Annex B).

The status 0x0000 is sent only after ``on_store`` has returned, so after the instance is durable; an exception from
``on_store`` becomes a status by :data:`kernel.errors.DIMSE_STATUS`. Each connection has a thread of its own from its
first byte, so that neither a TLS handshake nor a silent peer delays another connection.
"""

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pynetdicom.ae import ApplicationEntity

from dicom_node.listener.association import ReceivedInstance, StorageAssociation
from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.transport import acknowledge_immediately
from kernel.blobs import Digest
from kernel.clock import Ids, RandomIds
from kernel.log import get_logger
from privacy.authorize import Authorizer, LoopbackAuthorizer

BACKLOG: Final = 128
"""Connections that the operating system queues until they are accepted."""

POLL_S: Final = 0.1
"""Interval at which the listener checks whether it should stop, in seconds."""

_log = get_logger(__name__)


class _Listener(socketserver.ThreadingTCPServer):
    """Accepts connections; everything that may block runs in the connection's own thread."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int], server: "DicomServer") -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._server = server
        super().__init__(address, socketserver.BaseRequestHandler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        return self._server.secured(connection), address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's signature
        return self._server.open_connection(request)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        self._server.serve_connection(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        _log.exception("dicom_connection_failed")


@dataclass(frozen=True, kw_only=True)
class StorageHandlers:
    """What the server calls: in the association's thread, except for ``before_accepting``."""

    #: Stores an instance; returns when it is durable, raises otherwise.
    store: Callable[[ReceivedInstance], None]
    #: Called with the identifier of each association that has ended, for any reason.
    closed: Callable[[str], None]
    #: Called by :meth:`DicomServer.start` once the port is ours and before the first connection is accepted.
    before_accepting: Callable[[], None] = lambda: None
    #: Makes what computes the address of a DICOM file while it arrives.
    digest: Callable[[], Digest] | None = None


class DicomServer:
    """A storage service class provider.

    Parameters
    ----------
    ae_title
        Our application entity title; the called AE title of a peer is not checked against it.
    handlers
        What the server calls.
    limits
        Bounds on what peers may do.
    ids
        Source of the associations' identifiers.
    ssl_context
        Enables TLS (PS3.15 Annex B); plain TCP when None.
    authorizer
        Decides about each C-ECHO and C-STORE; peers on this machine alone when not given.
    """

    def __init__(
        self,
        ae_title: str,
        handlers: StorageHandlers,
        limits: DicomLimits,
        *,
        ids: Ids | None = None,
        ssl_context: ssl.SSLContext | None = None,
        authorizer: Authorizer | None = None,
    ) -> None:
        self.limits = limits
        self.authorizer = authorizer or LoopbackAuthorizer()
        self.store = handlers.store
        self.digest = handlers.digest
        self._handlers = handlers
        self._ids = ids or RandomIds()
        self._ssl_context = ssl_context
        self._entity = ApplicationEntity(ae_title)
        self._guard = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._associations: set[str] = set()
        self._idle = threading.Condition(self._guard)
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> None:
        """Start listening; returns when connections are accepted.

        Parameters
        ----------
        host
            Address to bind.
        port
            Port to bind; 0 takes a free one.

        Raises
        ------
        OSError
            The address cannot be listened on.
        Problem
            Whatever ``before_accepting`` raises; the port is free again then.
        """
        listener = _Listener((host, port), self)
        try:
            self._handlers.before_accepting()
        except BaseException:
            listener.server_close()
            raise
        self._listener = listener
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(POLL_S,), name="dicom-listener", daemon=True
        )
        self._thread.start()
        _log.info("dicom_listening", host=host, port=self.port)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listener is not None, "start() first"
        return int(self._listener.server_address[1])

    @property
    def associations(self) -> int:
        """How many associations are open."""
        with self._guard:
            return len(self._associations)

    def close(self, *, patience_s: float = 5.0) -> None:
        """Stop listening, complete the running requests, then close the connections.

        Parameters
        ----------
        patience_s
            How long to wait for associations to end after their sockets stop reading, in seconds.
        """
        if self._listener is None:
            return
        self._listener.shutdown()
        self._listener.server_close()
        with self._idle:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._idle.wait_for(lambda: not self._connections, timeout=patience_s)

    def admit(self, association: str) -> bool:
        """Register an association; False when there are as many as the limits allow."""
        with self._guard:
            if len(self._associations) >= self.limits.associations:
                return False
            self._associations.add(association)
            return True

    def secured(self, connection: socket.socket) -> socket.socket:
        """Wrap an accepted connection for TLS, where it is enabled, without waiting for the handshake."""
        if self._ssl_context is None:
            return connection
        return self._ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def open_connection(self, connection: socket.socket) -> bool:
        """Register a connection; False when there are as many as the limits allow."""
        with self._guard:
            if len(self._connections) >= self.limits.connections:
                _log.warning("dicom_connection_refused", connections=len(self._connections))
                return False
            self._connections.add(connection)
        return True

    def serve_connection(self, connection: socket.socket) -> None:
        """Serve one accepted connection to its end, in the calling thread."""
        association = self._ids.new()
        try:
            connection.settimeout(self.limits.artim_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            acknowledge_immediately(connection)
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            StorageAssociation(self._entity, self, connection, association).serve()
        except Exception as failure:  # noqa: BLE001 - a failure ends this connection only
            _log.warning("dicom_association_failed", association=association, failure=failure)
        finally:
            self._forget(connection, association)

    def _forget(self, connection: socket.socket, association: str) -> None:
        with suppress(OSError):
            connection.close()
        with self._idle:
            was_admitted = association in self._associations
            self._associations.discard(association)
        try:
            if was_admitted:
                self._handlers.closed(association)
        except Exception as failure:  # noqa: BLE001 - the association has ended; its rows expire by themselves
            _log.warning("dicom_closing_failed", association=association, failure=failure)
        finally:
            with self._idle:
                self._connections.discard(connection)
                self._idle.notify_all()
