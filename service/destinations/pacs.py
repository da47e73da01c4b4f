"""The PACS: a Comprehensive 3D SR, and the heat map, beside the images they are about.

Their UIDs are made from the result's id, so a repeated C-STORE is the same object.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from dicom_node.results import RESULTS
from dicom_node.scu import Peer, send
from service.destinations.contract import Destination, ModelResult, Rendered


class PacsDestination(Destination):
    """Stores imaging results where the images are.

    Parameters
    ----------
    peer
        The archive.
    """

    name: ClassVar[str] = "pacs"

    def __init__(self, peer: Peer) -> None:
        self.address = f"{peer.host}:{peer.port}"
        self._peer = peer

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:  # noqa: ARG002 - the contract's signature
        """Say an imaging result as DICOM objects; a result without images is none of the archive's business."""
        if model_result.imaging is None:
            return []
        made = ((kind, build(model_result.outcome, [model_result.imaging.source])) for kind, build in RESULTS.items())
        return [
            Rendered(idempotency_key=f"{result}:{kind}", payload=content)
            for kind, content in made
            if content is not None
        ]

    def send(self, payload: bytes) -> str:
        """Store one object."""
        receipt = send([payload], self._peer)
        return ", ".join(f"{uid} 0x{status:04X}" for uid, status in receipt.statuses.items())

    def close(self) -> None:
        """Nothing stays open between deliveries."""
