"""Units that features may be measured in, and how each becomes the feature's own.

The table is explicit: a unit that is not in it is refused, never guessed. Beside the UCUM code (case sensitive form)
are the few spellings that HL7 v2 senders use and that can mean nothing else for that feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final


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
        "mg/dL": _all_same("mg/dL"),
        "mmol/L": _all_same("mmol/L"),
    }
)
"""Canonical unit -> unit as sent (``None``: sent without one) -> conversion."""

_LARGEST: Final = Decimal(10) ** 15
"""A larger value cannot be rounded to six decimals exactly, and is no measurement of a patient."""


def convert(value: Decimal, unit: str | None, canonical: str) -> Decimal | None:
    """Express ``value`` in the canonical unit; ``None`` when the table has no conversion, or no quantity is so large.

    Parameters
    ----------
    value
        The number as sent.
    unit
        The unit as sent, spaces around it ignored; None when it was sent without one.
    canonical
        UCUM code of the feature's unit, a key of :data:`CONVERSIONS`.
    """
    conversion = CONVERSIONS[canonical].get(unit.strip() if unit else None)
    return None if conversion is None or abs(value) > _LARGEST else tidy(conversion(value))


def tidy(value: Decimal) -> Decimal:
    """Cut to six decimals, without trailing zeros or an exponent."""
    short = round(value, 6).normalize()
    return short.quantize(Decimal(1)) if short == short.to_integral_value() else short
