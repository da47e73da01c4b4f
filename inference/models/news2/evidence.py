"""The text of the card of NEWS2, and the sealing of its folder after a change."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from inference.finalize import finalize_folder

PACKAGE: Final = "inference.models.news2"

EVIDENCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Method": "The chart of the Royal College of Physicians, *National Early Warning Score (NEWS) 2: Standardising "
        "the assessment of acute-illness severity in the NHS*, updated report of a working party, London 2017, as "
        "arithmetic: nothing is trained. Each value is rounded half up to the chart's own step (one decimal for "
        "temperature, whole numbers otherwise) before it is scored. The newest value of each parameter within 12 "
        "hours is used; without any one of them there is no total, and the refusal names what is missing. The chart is "
        "for one set of observations: values that were measured more than 4 hours apart give no total. Two values "
        "of one parameter at the same time, by different codes, count if they score the same; else there is no total, "
        "and the refusal names both.",
        "Evidence": "Exactness: every band edge of the chart is tested, and the golden cases are answered at every "
        "load. How well NEWS2 itself predicts deterioration is the subject of the College's report.",
    }
)


def finish(out: Path) -> str:
    """Write the card, the golden answers and the checksums of the folder; return the model's digest."""
    return finalize_folder(out, EVIDENCE, package=PACKAGE)
