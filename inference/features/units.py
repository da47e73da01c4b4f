"""Units that features may be measured in, and how each becomes the feature's own.

Of the units of vital signs, and of the pH, an explicit table holds what senders write, in UCUM (case sensitive form)
and in the few spellings that can mean nothing else for that feature; a rate of breaths per hour is a slip. Every other
unit is read as UCUM, by its ratio (:mod:`inference.features.ucum`), and between mass, amount and equivalents by the
feature's analyte. What has no such conversion is refused, never guessed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from inference.features import ucum
from inference.features.analytes import ANALYTES


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """``canonical = (value - subtract) * multiply / divide``: affine, since temperature scales have their own zero."""

    subtract: Decimal = Decimal(0)
    multiply: Decimal = Decimal(1)
    divide: Decimal = Decimal(1)

    def __call__(self, value: Decimal) -> Decimal:
        """Convert one value."""
        return (value - self.subtract) * self.multiply / self.divide


_SAME: Final = Conversion()
_FRACTION: Final = Conversion(multiply=Decimal(100))
_FAHRENHEIT: Final = Conversion(subtract=Decimal(32), multiply=Decimal(5), divide=Decimal(9))
_KELVIN: Final = Conversion(subtract=Decimal("273.15"))


def _all_same(*units: str | None) -> dict[str | None, Conversion]:
    return dict.fromkeys(units, _SAME)


_RATE: Final = ("/min", "{beats}/min", "{breaths}/min", "{Beats}/min", "{Breaths}/min", "1/min", "bpm", "beats/min")

CONVERSIONS: Final[Mapping[str, Mapping[str | None, Conversion]]] = MappingProxyType(
    {
        "/min": _all_same(*_RATE, "breaths/min", "br/min"),
        "%": _all_same("%", "%{sat}", "%{oxygen}") | {"1": _FRACTION, "{fraction}": _FRACTION},
        "mm[Hg]": _all_same("mm[Hg]", "mmHg", "mm Hg", "mm(hg)")
        | {"kPa": Conversion(multiply=Decimal(760), divide=Decimal("101.325"))},
        "Cel": _all_same("Cel", "cel", "C", "degC", "°C", "Deg C")
        | dict.fromkeys(("[degF]", "F", "degF", "°F", "Deg F"), _FAHRENHEIT)
        | {"K": _KELVIN},
        "L/min": _all_same("L/min", "l/min", "LPM") | {"mL/min": Conversion(divide=Decimal(1000))},
        "{score}": _all_same("{score}", "1", None),
        "a": _all_same("a"),
        "[pH]": _all_same("[pH]", "pH", "1"),
    }
)
"""Canonical unit of a vital sign -> unit as sent (``None``: sent without one) -> conversion."""

LARGEST: Final = Decimal(10) ** 15
"""A larger value cannot be rounded to six decimals exactly, and is no measurement of a patient."""


_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "IU/L": "[IU]/L",
        "K/uL": "10*3/uL",
        "M/uL": "10*6/uL",
        "G/L": "10*9/L",
        "mcg/L": "ug/L",
        "mcg/mL": "ug/mL",
        "mcg/dL": "ug/dL",
        "mcmol/L": "umol/L",
        "mEq/L": "meq/L",
        "mEq/l": "meq/L",
    }
)
"""What senders write, exactly -> UCUM. ``G`` is gauss and ``M`` no unit in UCUM, so as counts they are unambiguous."""

_EQUIVALENTS: Final = re.compile(r"(?<![A-Za-z\[])([a-z]{0,2})eq(?![A-Za-z])")
_POWER: Final = re.compile(r"^(?:[xX] ?)?10(?:\^|[eE])(\d+)(?=/)")
_PER_LITRE: Final = {"mass": "g/L", "amount": "mol/L"}


def is_unit(text: str) -> bool:
    """Return whether features may be declared in a unit."""
    return text in CONVERSIONS or ucum.is_unit(_in_moles(text)[0])


@lru_cache(maxsize=65_536)
def convert(value: Decimal, unit: str | None, canonical: str, analyte: str | None = None) -> Decimal | None:
    """Express ``value`` in the canonical unit; ``None`` when there is no conversion, or no quantity is so large.

    Parameters
    ----------
    value
        The number as sent.
    unit
        The unit as sent, spaces around it ignored; None when it was sent without one.
    canonical
        UCUM code of the feature's unit.
    analyte
        A key of :data:`~inference.features.analytes.ANALYTES`, by which mass, amount and equivalents are converted.
    """
    conversion = _conversion(unit.strip() if unit else None, canonical, analyte)
    return None if conversion is None or abs(value) > LARGEST else tidy(conversion(value))


@lru_cache(maxsize=4096)
def _conversion(unit: str | None, canonical: str, analyte: str | None) -> Conversion | None:
    listed = CONVERSIONS.get(canonical, {}).get(unit)
    if listed is not None or unit is None or canonical in CONVERSIONS:
        return listed
    factor = _factor(_spelled(unit), canonical, analyte)
    return None if factor is None else Conversion(multiply=factor)


def _spelled(unit: str) -> str:
    """Return a unit in UCUM: powers of ten have ``*``, and the micro sign is ``u``."""
    plain = _POWER.sub(r"10*\1", unit.replace("µ", "u").replace("μ", "u"))
    return _SPELLINGS.get(plain, plain)


def _factor(unit: str, canonical: str, analyte: str | None) -> Decimal | None:
    substance = None if analyte is None else ANALYTES[analyte]
    (this, this_counts), (that, that_counts) = _in_moles(unit), _in_moles(canonical)
    charge = Decimal(1)
    if this_counts != that_counts:
        if substance is None or substance.charge is None:
            return None
        charge = Decimal(substance.charge) if that_counts else 1 / Decimal(substance.charge)
    direct = ucum.ratio(this, that)
    if direct is not None or substance is None:
        return None if direct is None else direct * charge
    for one, other, multiply in (
        ("mass", "amount", 1 / substance.molar_mass),
        ("amount", "mass", substance.molar_mass),
    ):
        to, back = ucum.ratio(this, _PER_LITRE[one]), ucum.ratio(_PER_LITRE[other], that)
        if to is not None and back is not None:
            return to * multiply * back * charge
    return None


def _in_moles(unit: str) -> tuple[str, bool]:
    """Return a unit with moles in the place of equivalents, and whether it had them."""
    found = _EQUIVALENTS.sub(r"\1mol", unit)
    return found, found != unit


def tidy(value: Decimal, decimals: int = 6) -> Decimal:
    """Cut to a number of decimals, without trailing zeros or an exponent.

    Parameters
    ----------
    value
        A number that is no larger than :data:`LARGEST`.
    decimals
        How many.
    """
    short = round(value, decimals).normalize()
    return short.quantize(Decimal(1)) if short == short.to_integral_value() else short
