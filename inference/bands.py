"""The codes of each band in the standards, and its severity: one table for every protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class BandCodes:
    """The codes of one band; a code is None where the standard has none of the same meaning."""

    #: HL7 v3 ObservationInterpretation (FHIR ``Observation.interpretation``): code and display.
    interpretation: tuple[str, str] | None = None
    #: HL7 v2 table 0078 as version 2.7 extends it (OBX-8).
    flag: str = ""
    #: HL7 risk-probability (FHIR ``RiskAssessment.prediction.qualitativeRisk``): code and display.
    risk: tuple[str, str] | None = None
    #: SNOMED CT qualifier (qualitative evaluation of TID 1501, PS3.16): code and meaning.
    qualifier: tuple[str, str] | None = None
    #: 0, of no concern, to 3; None where the band's place among the others decides.
    gravity: int | None = None


BANDS: Final[Mapping[str, BandCodes]] = MappingProxyType(
    {
        "positive": BandCodes(
            interpretation=("POS", "Positive"), flag="POS", qualifier=("52101004", "Present"), gravity=3
        ),
        "negative": BandCodes(
            interpretation=("NEG", "Negative"), flag="NEG", qualifier=("2667000", "Absent"), gravity=0
        ),
        "indeterminate": BandCodes(
            interpretation=("IND", "Indeterminate"), qualifier=("82334004", "Indeterminate"), gravity=2
        ),
        "low": BandCodes(flag="N", risk=("low", "Low likelihood"), gravity=0),
        "low-medium": BandCodes(flag="A", gravity=1),
        "medium": BandCodes(flag="A", risk=("moderate", "Moderate likelihood"), gravity=2),
        "moderate": BandCodes(risk=("moderate", "Moderate likelihood"), gravity=2),
        "high": BandCodes(flag="H", risk=("high", "High likelihood"), gravity=3),
    }
)
"""Band -> its codes."""

_WORDS_ALONE: Final = BandCodes()


def codes_of(band: str) -> BandCodes:
    """Return the codes of a band; a band that is not in the table is sent as text only."""
    return BANDS.get(band, _WORDS_ALONE)


def gravities(bands: Sequence[str]) -> list[int]:
    """Return the severity of each band of an output, 0 to 3.

    Parameters
    ----------
    bands
        All bands of the output, from low to high. Where one of them is not in the table, the bands are spread
        evenly from 0 to 3.
    """
    mapped = [codes_of(band).gravity for band in bands]
    declared = [gravity for gravity in mapped if gravity is not None]
    if len(declared) == len(mapped):
        return declared
    return [round(3 * position / max(1, len(bands) - 1)) for position in range(len(bands))]
