"""How this hospital writes what the standards leave open."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo


@dataclass(frozen=True, kw_only=True)
class SiteConventions:
    """The site's habits, from the settings."""

    authority: str
    """Assigning authority of patient numbers that arrive without one."""
    systems: Mapping[str, str]
    """Assigning authority to the FHIR system of its identifiers."""
    time_zone: ZoneInfo | None
    """Zone of HL7 v2 times without an offset; without it they keep their date only."""
