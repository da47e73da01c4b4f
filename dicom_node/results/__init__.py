"""What a result becomes in the PACS: one file a kind of object, listed here.

Each takes an outcome, the DICOM files that it rests on and the site's time zone. It returns a DICOM file, or None where
the outcome has nothing to show in that form. The same result always becomes the same bytes under the same UIDs, so that
sending it again changes nothing at the receiver.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from types import MappingProxyType
from typing import Final

from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from dicom_node.results import comprehensive_3d_sr, heat_map
from dicom_node.results.provenance import HEAT_MAP_INSTANCE, REPORT_INSTANCE, uid_of
from inference.contract import Outcome

REPORT: Final = "comprehensive-3d-sr"
"""The kind of object that states the result; every other adds to it."""

RESULTS: Final[Mapping[str, Callable[[Outcome, Sequence[bytes], tzinfo], bytes | None]]] = MappingProxyType(
    {
        REPORT: comprehensive_3d_sr.build,
        "heat-map": heat_map.build,
    }
)
"""Name of a kind of object -> what builds it."""

MADE_CLASSES: Final = frozenset({Comprehensive3DSRStorage, SecondaryCaptureImageStorage})
"""SOP classes of the objects that results become."""


def made_of(results: Iterable[str]) -> frozenset[str]:
    """Return the SOPInstanceUIDs of the objects that results become, so that they are known when they come back.

    Parameters
    ----------
    results
        Ids of results.
    """
    purposes = REPORT_INSTANCE, HEAT_MAP_INSTANCE
    return frozenset(uid_of(result, purpose) for result in results for purpose in purposes)
