"""The PACS: a Comprehensive 3D SR, and the heat map, beside the images they are about.

Their UIDs are made from the result's id, so a repeated C-STORE is the same object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from dicom_node.results import REPORT, RESULTS
from dicom_node.scu import Peer, send
from inference.contract import Outcome
from kernel.errors import Category, ObjectRefused, PeerProblem
from kernel.log import get_logger
from service.destinations.contract import Destination, ModelResult, Rendered, SiteContext, unwritten
from service.destinations.leave_out import HEAT_MAP
from service.destinations.table import DestinationTable

_log = get_logger(__name__)

_ABOUT_THE_OBJECT: Final = frozenset({Category.INCORRECT, Category.UNSUPPORTED})


@dataclass(frozen=True, kw_only=True)
class DicomSettings:
    """Address of an archive."""

    host: str
    port: int
    ae_title: str


def read(table: DestinationTable) -> DicomSettings:
    """Read the keys of kind ``dicom``: ``host``, ``port`` and ``ae_title``."""
    return DicomSettings(host=table.text("host"), port=table.port("port"), ae_title=table.ae_title("ae_title"))


def build(name: str, settings: DicomSettings, site: SiteContext) -> "DicomDestination":
    """Build a destination of kind ``dicom``.

    Parameters
    ----------
    name
        Name of the instance, unique among the destinations.
    settings
        Its checked settings.
    site
        Gives our application entity title, the calling AE title, and the time zone.
    """
    peer = Peer(ae_title=settings.ae_title, host=settings.host, port=settings.port, calling_ae=site.ae_title)
    return DicomDestination(name, peer, zone=site.zone)


class DicomDestination(Destination):
    """Stores imaging results in the archive of the images.

    Parameters
    ----------
    name
        Of this instance.
    peer
        The archive.
    zone
        Time zone of the site.
    """

    def __init__(self, name: str, peer: Peer, *, zone: tzinfo) -> None:
        self.name = name
        self.address = f"{peer.host}:{peer.port}"
        self._peer = peer
        self._zone = zone

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:  # noqa: ARG002 - the contract's signature
        """Render an imaging result as DICOM objects, and nothing for a result without images.

        Parameters as for :meth:`service.destinations.contract.Destination.render`.
        """
        if model_result.imaging is None:
            return []
        imaging = model_result.imaging
        sources = imaging.sources or (imaging.source,)
        outcome = model_result.outcome
        without_map = self.leave_out.holds(HEAT_MAP, outcome.model.name)
        kinds = [kind for kind in RESULTS if not (without_map and kind == HEAT_MAP)]
        return [one for kind in kinds if (one := self._written(kind, result, outcome, sources)) is not None]

    def send(self, payload: bytes, idempotency_key: str) -> str:
        """Store one object; parameters as for :meth:`service.destinations.contract.Destination.send`.

        Raises
        ------
        Problem
            As :func:`dicom_node.scu.send`; a refusal of a picture says nothing about the reports.
        """
        try:
            receipt = send([payload], self._peer)
        except PeerProblem as refusal:
            is_report = idempotency_key.endswith(f":{REPORT}")
            if is_report or refusal.whole or refusal.category not in _ABOUT_THE_OBJECT:
                raise
            raise ObjectRefused(refusal.category, refusal.detail, diagnostics=refusal.diagnostics) from refusal
        return ", ".join(f"{uid} 0x{status:04X}" for uid, status in receipt.statuses.items())

    def close(self) -> None:
        """Nothing stays open between deliveries."""

    def _written(self, kind: str, result: str, outcome: Outcome, sources: Sequence[bytes]) -> Rendered | None:
        """Return one object of a result; a picture that cannot be drawn does not cost the report."""
        key = f"{result}:{kind}"
        try:
            content = RESULTS[kind](outcome, sources, self._zone)
        except Exception as failure:  # the report alone states the result: without it nothing is written
            if kind == REPORT:
                raise
            _log.error("result_not_written", kind=kind, failure=failure)
            return Rendered(
                idempotency_key=key, payload=b"", failure=unwritten(f"the {kind} could not be written", failure)
            )
        return None if content is None else Rendered(idempotency_key=key, payload=content)
