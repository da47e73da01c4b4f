"""How the index holds values: text, references, dates, numbers and quantities, so that they can be compared.

A number in the index is a range; a plain one has the same start and end. A quantity has two: as it is written, and in
the base units of UCUM when its unit is one that can be compared (R4, search.html#quantity).
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from math import nextafter
from typing import Any, Final, NamedTuple

from fhir_adapter.store.search.parameters import units
from fhir_adapter.store.times import EARLIEST, LATEST, span
from kernel.errors import Problem

LONGEST_VALUE: Final = 512
"""Most characters of a value in the index; four bytes each are within what PostgreSQL can index."""
_STEM: Final = LONGEST_VALUE - 64
UCUM: Final = "http://unitsofmeasure.org"
CURRENCY: Final = "urn:iso:std:iso:4217"
BOUNDLESS: Final = 1e300
"""Stands for an end that a comparator leaves open."""
_PARTS: Final = (
    *("text", "family", "given", "prefix", "suffix"),
    *("line", "city", "district", "state", "postalCode", "country"),
)
"""Elements of HumanName, Address and Annotation whose text is searched."""


class Measured(NamedTuple):
    """A number or quantity as the index holds it, without parameter and resource."""

    #: What makes it comparable: a unit in base units, else system and code, else empty.
    unit: str
    low: float
    high: float
    #: As written.
    written_low: float
    written_high: float
    #: Code of the unit.
    code: str
    #: The unit in words.
    text: str


def local(reference: str) -> str:
    """Return a reference without its version, as it is indexed."""
    return reference.split("/_history/", 1)[0]


def fold(text: str) -> str:
    """Return text in the form in which strings are compared: without case, accents and surrounding space."""
    if text.isascii():
        return text.strip().lower()
    decomposed = unicodedata.normalize("NFKD", text.strip())
    return "".join(character for character in decomposed if not unicodedata.combining(character)).casefold()


def key_of(text: str) -> str:
    """Return a text as the index holds it: a longer one than an index of PostgreSQL may hold by its start and digest.

    Parameters
    ----------
    text
        A code or a reference.
    """
    if len(text) <= LONGEST_VALUE:
        return text
    return text[:_STEM] + hashlib.sha256(text.encode()).hexdigest()


def seconds(moment: datetime) -> float:
    """Return an instant in the form of the index: seconds since 1970."""
    return moment.timestamp()


def strings(value: Any) -> Iterator[str]:
    """Yield the texts of a string, or of the parts of a name or an address."""
    if type(value) is str:
        yield value
    elif type(value) is dict:
        for part in _PARTS:
            found = value.get(part)
            if type(found) is str:
                yield found
            elif type(found) is list:
                yield from (text for text in found if type(text) is str)


def period(value: Any) -> tuple[float, float] | None:
    """Return start and end of a date, a Period or a Timing; None for valid R4 that is no time to compare."""
    try:
        if type(value) is str:
            return _span_of_text(value)
        if "event" in value or "repeat" in value:
            return _timing(value)
        if "start" not in value and "end" not in value:
            return None
        low = span(value["start"])[0] if "start" in value else EARLIEST
        high = span(value["end"])[1] if "end" in value else LATEST
    except Problem:
        return None
    return seconds(low), seconds(high)


def _timing(value: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the time from the first event to the last, or the bounds."""
    events = [_span_of_text(text) for text in value.get("event", ()) if type(text) is str]
    bounds = value.get("repeat", {}).get("boundsPeriod")
    if bounds and (found := period(bounds)) is not None:
        events.append(found)
    return (min(low for low, _ in events), max(high for _, high in events)) if events else None


@lru_cache(maxsize=256)
def _span_of_text(text: str) -> tuple[float, float]:
    low, high = span(text)
    return seconds(low), seconds(high)


def number(value: Any) -> Measured:
    """Return a number as the index holds it."""
    at = float(value)
    return Measured("", at, at, at, at, "", "")


def quantity(value: Mapping[str, Any]) -> Measured | None:
    """Return a Quantity, Money or Range as the index holds it; None when it has no number."""
    if "low" in value or "high" in value:
        return _range(*(quantity(value[name]) if name in value else None for name in ("low", "high")))
    if "value" not in value:
        return None
    if "currency" in value:
        system, code, text = CURRENCY, value["currency"], ""
    else:
        system, code, text = value.get("system", ""), value.get("code", ""), value.get("unit", "")
    written = float(value["value"])
    unit, at = comparable(value["value"], system, code)
    low, high = _opened(at, value.get("comparator", ""))
    written_low, written_high = _opened(written, value.get("comparator", ""))
    shown = "" if text == code else text
    return Measured(unit, low, high, written_low, written_high, key_of(code), key_of(shown))


def _range(low: Measured | None, high: Measured | None) -> Measured | None:
    stated = low or high
    if stated is None:
        return None
    return stated._replace(
        low=low.low if low else -BOUNDLESS,
        high=high.high if high else BOUNDLESS,
        written_low=low.written_low if low else -BOUNDLESS,
        written_high=high.written_high if high else BOUNDLESS,
    )


def _opened(at: float, comparator: str) -> tuple[float, float]:
    """Return start and end of a number with a comparator; after ``<`` and ``>`` the number itself is not among them."""
    low = nextafter(at, BOUNDLESS) if comparator == ">" else at
    high = nextafter(at, -BOUNDLESS) if comparator == "<" else at
    return -BOUNDLESS if comparator[:1] == "<" else low, BOUNDLESS if comparator[:1] == ">" else high


def comparable(value: Any, system: str, code: str) -> tuple[str, float]:
    """Return what makes a quantity comparable with others, and its number in that.

    Parameters
    ----------
    value
        The number.
    system, code
        Of its unit; each may be empty.

    Returns
    -------
    unit, number
        The base units of UCUM; for another unit system and code, and the number as it is.
    """
    known = _unit(code) if system == UCUM else None
    if known is None:
        return (key_of(f"{system}|{code}") if code else ""), float(value)
    factor, base, added = known
    try:
        # Twelve digits: two ways to the same quantity must give the same number.
        return base, float(f"{Decimal(str(value)) * factor + added:.12g}")
    except InvalidOperation:
        return key_of(f"{system}|{code}"), float(value)


@lru_cache(maxsize=2048)
def _unit(code: str) -> tuple[Decimal, str, Decimal] | None:
    found = units().get(code)
    return (Decimal(found[0]), found[1], Decimal(found[2])) if found else None
