"""Opening and closing the MLLP and DICOM listeners of an application; HTTP is :mod:`service.listeners.http`."""

import asyncio
from typing import Final

from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.server import DicomServer, StorageHandlers
from fhir_adapter.hl7v2.header import header as read_header
from fhir_adapter.hl7v2.mllp import Handler, MllpLimits, MllpServer, Peer
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.log import get_logger
from privacy.authorize import Authorizer, Interaction, Request
from privacy.principal import Principal
from service.application import Application
from service.flows.hl7_message import Hl7MessageFlow

SMALL: Final = 64 * 1024
"""A message of this size is parsed in a millisecond, bytes."""

_log = get_logger(__name__)


def authorized(flow: Hl7MessageFlow, database: Database, authorizer: Authorizer) -> Handler:
    """Return the handler of the MLLP listener: it identifies the sender and decides before the message is parsed.

    A small message is parsed on the event loop, a large one in a thread, so that nobody else waits for it.

    Parameters
    ----------
    flow
        Stores and acknowledges messages.
    database
        Where it is stored; awaited.
    authorizer
        Permits or refuses; a refused message is answered AR.
    """

    async def receive(raw: bytes, peer: Peer) -> bytes:
        header = read_header(raw)
        principal = Principal(client=header.sender, client_address=peer.address, request_id=header.control_id)
        authorizer.require(principal, Request(interaction=Interaction.MESSAGE, target=header.event))
        if len(raw) <= SMALL:
            kept = flow.accept(raw, header, principal)
        else:
            kept = await asyncio.to_thread(flow.accept, raw, header, principal)
        return await database.write_async(kept)

    return receive


class IntakeListeners:
    """HL7 over MLLP and DICOM, each on its own threads.

    Parameters
    ----------
    application
        The application that handles the messages.
    """

    def __init__(self, application: Application) -> None:
        settings = application.settings
        self._settings = settings
        self._opened: list[MllpServer | DicomServer] = []
        self._mllp = MllpServer(
            authorized(application.hl7_messages, application.database, application.authorizer),
            limits=MllpLimits(),
            clock=application.clock,
            ids=application.ids,
        )
        self._dicom = DicomServer(
            settings.dicom_ae_title,
            StorageHandlers(
                store=application.imaging_studies.accept,
                closed=application.imaging_studies.association_closed,
                digest=application.imaging_studies.digest,
                before_accepting=lambda: application.database.write(application.imaging_studies.listener_starts),
            ),
            DicomLimits(),
            ids=application.ids,
            authorizer=application.authorizer,
        )

    @property
    def mllp_port(self) -> int:
        """Port of the MLLP listener."""
        return self._mllp.port

    @property
    def dicom_port(self) -> int:
        """Port of the DICOM listener."""
        return self._dicom.port

    def open(self) -> None:
        """Start listening; open associations that a former run of this DICOM listener recorded are removed first.

        Raises
        ------
        Problem
            ``unavailable`` when a port is taken, naming the setting.
        """
        settings = self._settings
        self._open("MLLP_PORT", self._mllp, settings.mllp_host, settings.mllp_port)
        self._open("DICOM_PORT", self._dicom, settings.dicom_host, settings.dicom_port)

    def close(self) -> None:
        """Complete the running requests and stop listening."""
        while self._opened:
            self._opened.pop().close()

    def _open(self, setting: str, listener: MllpServer | DicomServer, host: str, port: int) -> None:
        try:
            listener.start(host, port)
        except OSError as failure:
            self.close()
            detail = f"{setting} {port} cannot be listened on: {failure.strerror}"
            raise Problem(Category.UNAVAILABLE, detail) from failure
        self._opened.append(listener)
