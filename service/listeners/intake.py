"""Opening and closing the MLLP and DICOM listeners of an application; HTTP is :mod:`service.listeners.http`."""

from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.server import DicomServer
from fhir_adapter.hl7v2.mllp import MllpLimits, MllpServer
from kernel.errors import Category, Problem
from kernel.log import get_logger
from service.application import Application

_log = get_logger(__name__)


class IntakeListeners:
    """HL7 over MLLP and DICOM, each on its own threads.

    Parameters
    ----------
    application
        What answers.
    """

    def __init__(self, application: Application) -> None:
        settings = application.settings
        self._settings = settings
        self._opened: list[MllpServer | DicomServer] = []
        self._mllp = MllpServer(
            application.hl7_messages.accept, limits=MllpLimits(), clock=application.clock, ids=application.ids
        )
        self._dicom = DicomServer(
            settings.dicom_ae_title,
            application.imaging_studies.accept,
            application.imaging_studies.association_closed,
            DicomLimits(),
            ids=application.ids,
        )

    @property
    def mllp_port(self) -> int:
        """Where HL7 v2 is taken."""
        return self._mllp.port

    @property
    def dicom_port(self) -> int:
        """Where DICOM is taken."""
        return self._dicom.port

    def open(self) -> None:
        """Listen.

        Raises
        ------
        Problem
            ``unavailable`` when a port is taken, naming the setting.
        """
        settings = self._settings
        self._open("MLLP_PORT", self._mllp, settings.mllp_host, settings.mllp_port)
        self._open("DICOM_PORT", self._dicom, settings.dicom_host, settings.dicom_port)

    def close(self) -> None:
        """Answer what is in hand and stop listening."""
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
