"""A test double of a PACS: a real storage provider on a loopback port that stores the received instances."""

import threading
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.encoding import open_file, part10
from dicom_node.listener.association import ReceivedInstance
from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.server import DicomServer, StorageHandlers
from dicom_node.scu import Peer
from kernel.errors import Problem


class StandInPacs:
    """Receives by C-STORE and stores each instance as a DICOM file, in memory and optionally in a folder.

    Parameters
    ----------
    ae_title
        Its application entity title.
    folder
        Folder in which ``<SOPInstanceUID>.dcm`` is written as well.
    """

    def __init__(self, ae_title: str = "PACS", *, folder: Path | None = None) -> None:
        self._ae_title = ae_title
        self._folder = folder
        self._guard = threading.Condition()
        self._kept: dict[str, bytes] = {}
        self._arrivals: dict[str, int] = {}
        self._server = DicomServer(
            ae_title, StorageHandlers(store=self._keep, closed=lambda _association: None), DicomLimits()
        )
        self.refuse_with: Problem | None = None
        """When set, every instance is refused with it."""
        self.refuse_when: Callable[[ReceivedInstance], Problem | None] | None = None
        """When set, decides for each instance whether it is refused, and with what."""

    def start(self, host: str = "127.0.0.1", port: int = 0) -> "StandInPacs":
        """Start listening.

        Parameters
        ----------
        host
            Address to bind.
        port
            Port to bind; 0 takes a free one.

        Returns
        -------
        StandInPacs
            This object.
        """
        self._host = host
        self._server.start(host, port)
        return self

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    @property
    def peer(self) -> Peer:
        """Address to send to."""
        return Peer(ae_title=self._ae_title, host=self._host, port=self._server.port)

    @property
    def arrivals(self) -> dict[str, int]:
        """SOPInstanceUID -> how often it was received."""
        with self._guard:
            return dict(self._arrivals)

    def file(self, SOPInstanceUID: str) -> bytes:
        """Return a received instance as a DICOM file."""
        with self._guard:
            return self._kept[SOPInstanceUID]

    def dataset(self, SOPInstanceUID: str) -> Dataset:
        """Return a received instance as a dataset."""
        return open_file(self.file(SOPInstanceUID))

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Wait for received instances.

        Parameters
        ----------
        count
            How many different instances to wait for, those received earlier included.
        timeout_s
            Longest wait, in seconds.

        Returns
        -------
        bool
            Whether they were received in time.
        """
        with self._guard:
            return self._guard.wait_for(lambda: len(self._kept) >= count, timeout=timeout_s)

    def _keep(self, received: ReceivedInstance) -> None:
        if self.refuse_with is not None:
            raise self.refuse_with
        refusal = None if self.refuse_when is None else self.refuse_when(received)
        if refusal is not None:
            raise refusal
        content = part10(
            received.encoded,
            SOPClassUID=received.SOPClassUID,
            SOPInstanceUID=received.SOPInstanceUID,
            TransferSyntaxUID=received.TransferSyntaxUID,
        )
        if self._folder is not None:
            (self._folder / f"{received.SOPInstanceUID}.dcm").write_bytes(content)
        with self._guard:
            self._kept[received.SOPInstanceUID] = content
            self._arrivals[received.SOPInstanceUID] = self._arrivals.get(received.SOPInstanceUID, 0) + 1
            self._guard.notify_all()
