"""What turns an amount of an analyte into a mass, and equivalents into moles: its molar mass and its charge.

A concentration in mg/dL says nothing about mmol/L without them, and a wrong one would be a plausible wrong number. So a
feature names its analyte, and an analyte that is not in the table is refused when the model is added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Analyte:
    """A substance that laboratories report by mass or by amount."""

    #: Grams per mole, from the standard atomic weights (IUPAC 2021).
    molar_mass: Decimal
    #: Equivalents per mole; None where laboratories do not report equivalents.
    charge: int | None = None


def _analyte(molar_mass: str, charge: int | None = None) -> Analyte:
    return Analyte(molar_mass=Decimal(molar_mass), charge=charge)


_HAEMOGLOBIN: Final = _analyte("16114.5")
"""Of one of its four chains, as laboratories report mmol/L."""

ANALYTES: Final[Mapping[str, Analyte]] = MappingProxyType(
    {
        "albumin": _analyte("66463"),
        "bicarbonate": _analyte("61.016", 1),
        "bilirubin": _analyte("584.67"),
        "calcium": _analyte("40.078", 2),
        "chloride": _analyte("35.45", 1),
        "cholesterol": _analyte("386.66"),
        "creatinine": _analyte("113.12"),
        "glucose": _analyte("180.156"),
        "haemoglobin": _HAEMOGLOBIN,
        "hemoglobin": _HAEMOGLOBIN,
        "iron": _analyte("55.845"),
        "lactate": _analyte("89.07", 1),
        "magnesium": _analyte("24.305", 2),
        "phosphorus": _analyte("30.974"),  # phosphate is reported as its phosphorus
        "potassium": _analyte("39.098", 1),
        "sodium": _analyte("22.990", 1),
        "triglycerides": _analyte("885.4"),
        "urate": _analyte("168.11"),
        "urea": _analyte("60.056"),
        "urea nitrogen": _analyte("28.014"),  # the two nitrogen atoms of a molecule of urea
    }
)
"""Name in ``features.yaml`` -> the analyte."""
