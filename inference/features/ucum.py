"""Units of the Unified Code for Units of Measure, in its case sensitive form, by the library ucumvert.

The library takes an equivalent for a mole and an osmole for a mole, which is wrong for calcium: both are excluded here,
and :mod:`inference.features.units` counts equivalents by the charge of the analyte. Scales with their own zero and
logarithmic units have no ratio and are excluded too.
"""

import re
from decimal import Decimal
from functools import lru_cache
from threading import Lock
from typing import Any, Final

LONGEST: Final = 40
"""A longer text is not taken for a unit."""

_NOT_COUNTED: Final = re.compile(r"(?:eq|osm)(?![a-z])")
_PLAIN: Final = re.compile(r"[!-~]+")
_guard: Final = Lock()


def is_unit(text: str) -> bool:
    """Return whether a text is a unit of UCUM that has a ratio to others."""
    return _parsed(text) is not None


@lru_cache(maxsize=4096)
def ratio(unit: str, other: str) -> Decimal | None:
    """Return how many ``other`` one ``unit`` is; None when they measure different things, or one is no unit.

    Parameters
    ----------
    unit, other
        Units in the case sensitive form of UCUM.
    """
    this, that = _parsed(unit), _parsed(other)
    if this is None or that is None:
        return None
    with _guard:
        if this.dimensionality != that.dimensionality:
            return None
        found = float(this.to(that.units).magnitude) / float(that.magnitude)
    # Fifteen digits are what a float holds; more would be its rounding error.
    return Decimal(f"{found:.15g}")


@lru_cache(maxsize=4096)
def base(unit: str) -> tuple[Decimal, str] | None:
    """Return how many of the base units one unit is, and the name of those; None for what is no unit.

    Parameters
    ----------
    unit
        A unit in the case sensitive form of UCUM.
    """
    this = _parsed(unit)
    if this is None:
        return None
    with _guard:
        found = this.to_base_units()
    return Decimal(f"{float(found.magnitude):.15g}"), f"{found.units:~C}" or "1"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """Return the quantity of one unit; None when the text is none."""
    if not 0 < len(text) <= LONGEST or not _PLAIN.fullmatch(text) or _NOT_COUNTED.search(text):
        return None
    with _guard:
        try:
            one = _registry().from_ucum(text)
            one = one if hasattr(one, "to") and hasattr(one, "magnitude") else one * 1
            nothing, both = 0 * one, 2 * one
            base = one.to_base_units().magnitude
            linear = nothing.to_base_units().magnitude == 0 and both.to_base_units().magnitude == 2 * base
        except Exception:  # noqa: BLE001 - whatever the library raises at a text of a peer, the text is no unit
            return None
    return one if linear and base > 0 else None


@lru_cache(maxsize=1)
def _registry() -> Any:
    from ucumvert import PintUcumRegistry  # noqa: PLC0415 - takes most of a second, and few models need it

    return PintUcumRegistry()
