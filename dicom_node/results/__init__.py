"""What a result becomes in the PACS: one file a kind of object, listed here.

Each takes an outcome, the DICOM files that it rests on and the site's time zone. It returns a DICOM file, or None where
the outcome has nothing to show in that form. The same result always becomes the same bytes under the same UIDs, so that
sending it again changes nothing at the receiver.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from types import MappingProxyType
from typing import Final

from dicom_node.results import comprehensive_3d_sr, heat_map
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
