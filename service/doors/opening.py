"""Opening and closing the MLLP and DICOM doors of a house; HTTP is :mod:`service.doors.http`."""

from dicom_node.limits import DicomLimits
from dicom_node.scp import DicomServer
from fhir_adapter.hl7v2.mllp import MllpLimits, MllpServer
from kernel.errors import Category, Problem
from kernel.log import get_logger
from service.wiring import House

_log = get_logger(__name__)


class Doors:
    """HL7 over MLLP and DICOM, each on its own threads.

    Parameters
    ----------
    house
        What answers.
    """

    def __init__(self, house: House) -> None:
        settings = house.settings
        self._settings = settings
        self._opened: list[MllpServer | DicomServer] = []
        self._mllp = MllpServer(house.hl7_messages.accept, limits=MllpLimits(), clock=house.clock, ids=house.ids)
        self._dicom = DicomServer(
            settings.dicom_ae_title,
            house.imaging_studies.accept,
            house.imaging_studies.association_closed,
            DicomLimits(),
            ids=house.ids,
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

    def _open(self, setting: str, door: MllpServer | DicomServer, host: str, port: int) -> None:
        try:
            door.start(host, port)
        except OSError as failure:
            self.close()
            detail = f"{setting} {port} cannot be listened on: {failure.strerror}"
            raise Problem(Category.UNAVAILABLE, detail) from failure
        self._opened.append(door)
