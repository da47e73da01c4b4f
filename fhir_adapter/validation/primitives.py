"""The primitive types of R4 (datatypes.html): their JSON types and regular expressions.

The expressions are HL7's. Three are not run as they are written, because they take exponential time or allow what the
text of the page forbids: ``base64Binary`` (RFC 4648), dates (a day that its month does not have), and numbers (JSON).
"""

import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from fhir_adapter.validation import narrative

Check: TypeAlias = Callable[[Any], bool]

_YEAR: Final = r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
_ZONE: Final = r"(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
EXPRESSIONS: Final[Mapping[str, str]] = {
    "base64Binary": r"(\s*([0-9a-zA-Z\+/=]){4}\s*)+",
    "boolean": r"true|false",
    "canonical": r"\S*",
    "code": r"[^\s]+(\s[^\s]+)*",
    "date": _YEAR + r"(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1]))?)?",
    "dateTime": _YEAR + r"(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])(T" + _TIME + _ZONE + r")?)?)?",
    "decimal": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    "id": r"[A-Za-z0-9\-\.]{1,64}",
    "instant": _YEAR + r"-(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])T" + _TIME + _ZONE,
    "integer": r"-?([0]|([1-9][0-9]*))",
    "markdown": r"[ \r\n\t\S]+",
    "oid": r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+",
    "positiveInt": r"[1-9][0-9]*",
    "string": r"[ \r\n\t\S]+",
    "time": _TIME,
    "unsignedInt": r"[0]|([1-9][0-9]*)",
    "uri": r"\S*",
    "url": r"\S*",
    "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
"""HL7's expressions, from the StructureDefinitions of the types."""

LONGEST_STRING: Final = 1024 * 1024
"""R4, datatypes.html#string: strings SHALL NOT exceed 1 MB. The same holds here for all texts but base64Binary."""
_GREATEST: Final = 2**31 - 1
_BASE64: Final = re.compile(r"[0-9a-zA-Z+/]+={0,2}")
_FAST_DATE: Final = r"(?!0000)[0-9]{4}"
_FAST_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_FAST_ZONE: Final = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_MONTH: Final = r"-(?:0[1-9]|1[0-2])"
_DAY: Final = r"-(?:0[1-9]|[12][0-9]|3[01])"
_FAST: Final[Mapping[str, str]] = {
    "date": f"{_FAST_DATE}(?:{_MONTH}(?:{_DAY})?)?",
    "dateTime": f"{_FAST_DATE}(?:{_MONTH}(?:{_DAY}(?:T{_FAST_TIME}{_FAST_ZONE})?)?)?",
    "instant": f"{_FAST_DATE}{_MONTH}{_DAY}T{_FAST_TIME}{_FAST_ZONE}",
}
"""Expressions that accept the same as HL7's and take less time."""
_MATCHES: Final = {name: re.compile(_FAST.get(name, text), re.ASCII).fullmatch for name, text in EXPRESSIONS.items()}
_MISPLACED_SPACE: Final = re.compile(r"\A\s|\s\s|\s\Z", re.ASCII).search
"""What the expression of a code forbids; to look for it takes no memory, which that expression does."""
_UNSPACED: Final = re.compile(r"\S+", re.ASCII).fullmatch
_SPACED: Final = re.compile(r"[ \r\n\t\S]+", re.ASCII).fullmatch


# A printable string has no white space but U+0020, so for most strings no expression need be run.


def _string(value: Any) -> bool:
    if type(value) is not str:
        return False
    if value.isprintable():
        return 0 < len(value) <= LONGEST_STRING
    return len(value) <= LONGEST_STRING and _SPACED(value) is not None


def _uri(value: Any) -> bool:
    if type(value) is not str or len(value) > LONGEST_STRING:
        return False
    return (value.isprintable() and " " not in value and value != "") or _UNSPACED(value) is not None


def _code(value: Any) -> bool:
    if type(value) is not str or len(value) > LONGEST_STRING:
        return False
    return value != "" and ((value.isprintable() and " " not in value) or _MISPLACED_SPACE(value) is None)


def _matching(name: str) -> Check:
    matches = _MATCHES[name]

    def check(value: Any) -> bool:
        return type(value) is str and len(value) <= LONGEST_STRING and matches(value) is not None

    return check


def _dated(name: str) -> Check:
    matches = _MATCHES[name]

    def check(value: Any) -> bool:
        if type(value) is not str or len(value) > LONGEST_STRING or matches(value) is None:
            return False
        day = value[8:10]
        return day < "29" or int(day) <= monthrange(int(value[:4]), int(value[5:7]))[1]

    return check


def _base64(value: Any) -> bool:
    if type(value) is not str:
        return False
    plain = "".join(value.split())
    return len(plain) % 4 == 0 and _BASE64.fullmatch(plain) is not None


def _boolean(value: Any) -> bool:
    return type(value) is bool


def _decimal(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _whole(least: int) -> Check:
    def check(value: Any) -> bool:
        return type(value) is int and least <= value <= _GREATEST

    return check


def _xhtml(value: Any) -> bool:
    return type(value) is str and narrative.is_safe(value)


CHECKS: Final[Mapping[str, Check]] = {
    "base64Binary": _base64,
    "boolean": _boolean,
    "canonical": _uri,
    "code": _code,
    "date": _dated("date"),
    "dateTime": _dated("dateTime"),
    "decimal": _decimal,
    "id": _matching("id"),
    "instant": _dated("instant"),
    "integer": _whole(-_GREATEST - 1),
    "markdown": _string,
    "oid": _matching("oid"),
    "positiveInt": _whole(1),
    "string": _string,
    "time": _matching("time"),
    "unsignedInt": _whole(0),
    "uri": _uri,
    "url": _uri,
    "uuid": _matching("uuid"),
    "xhtml": _xhtml,
}
"""Primitive type -> whether a JSON value is one."""

_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "boolean": (bool,),
    "decimal": (int, float),
    "integer": (int,),
    "positiveInt": (int,),
    "unsignedInt": (int,),
}


def is_too_long(name: str, value: Any) -> bool:
    """Return whether a text is longer than one of its primitive type may be.

    Parameters
    ----------
    name
        The primitive type.
    value
        A JSON value.
    """
    if type(value) is not str or name == "base64Binary":
        return False
    return narrative.is_too_long(value) if name == "xhtml" else len(value) > LONGEST_STRING


def has_json_type(name: str, value: Any) -> bool:
    """Return whether a value has the JSON type of a primitive type, whatever its content.

    Parameters
    ----------
    name
        The primitive type.
    value
        A JSON value.
    """
    return type(value) in _JSON_TYPES.get(name, (str,))
