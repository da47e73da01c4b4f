"""A resource as JSON, without loss: every decimal and every timestamp is returned as it was sent.

FHIR makes the precision of a decimal significant (R4, datatypes.html#decimal): ``1.10`` is not ``1.1``. A number that
Python would change is therefore kept as the characters that were sent, as an :class:`orjson.Fragment`, which orjson
writes unchanged. A second view of the same bytes holds plain Python values for reading; parsing twice costs a few
microseconds. A :class:`WrittenNumber` carries the characters of a number that :func:`exact_values` reads for a change.

:func:`parse` first refuses JSON that parsers interpret differently (RFC 8259 section 4: duplicate names) and JSON that
FHIR forbids (json.html: no empty arrays or objects, null only in arrays).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final, Self, TypeAlias

import orjson

from fhir_adapter.store.problems import Invalid, Issue
from fhir_adapter.validation.objects import known_names
from fhir_adapter.validation.table import r4
from kernel.errors import Category, Problem

Json: TypeAlias = dict[str, Any]

DEEPEST: Final = 64
"""Most levels of nested arrays and objects."""
LONGEST_NUMBER: Final = 64
"""Most characters in a number; FHIR requires at least 18 digits."""
GREATEST_EXPONENT: Final = 300
"""Greatest exponent that a number may be written with, and its lowest is the negative of it.

Whoever writes a number without its exponent writes as many digits: ``1e-400000000`` would need 400 MB.
"""
MOST_CONTAINERS: Final = 300_000
"""Most objects and arrays in one body. Each takes some hundred bytes of memory, however few of the body it takes."""
MOST_COMMAS: Final = 600_000
"""Most commas outside of strings in one body: about as many as values."""
_SAFE_INTEGER: Final = 18
"""An integer with at most this many characters fits into the 64 bits that orjson writes."""

_STRING_OR_MARK: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|[{\[,]', re.DOTALL)
_ESCAPED_CONTROL: Final = re.compile(rb"\\u00[01]")
_GREAT_EXPONENT: Final = re.compile(rb"[0-9]e[+-]?[0-9]{3}[],}]")
"""May be a float whose exponent is too great; orjson writes no longer ones. A hexadecimal id is followed by others."""
_EXPONENT: Final = re.compile(r"[eE]([+-]?\d+)$")
_MOST_ISSUES: Final = 20
_PLAIN: Final = 40
"""A decimal of our own with an exponent up to this is written without it."""
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""FHIR R4, datatypes.html#string: no character below U+0020 except tab, line feed and carriage return."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One JSON object, in two views of the same bytes."""

    #: Exact: numbers that Python would change are fragments of the original text. For writing only.
    exact: Json
    #: Plain Python values. For reading only.
    plain: Json

    @property
    def type(self) -> str:
        """The resource's type, empty when it states none."""
        kind = self.plain.get("resourceType")
        return kind if isinstance(kind, str) else ""

    @property
    def id(self) -> str | None:
        """The resource's logical id, where it states one."""
        return self.plain.get("id")


class WrittenNumber(Decimal):
    """A number with the characters in which it was written, which :class:`~decimal.Decimal` does not keep.

    Parameters
    ----------
    text
        A JSON number.
    """

    text: str

    def __new__(cls, text: str) -> Self:
        """Read the number and keep its characters."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def parse(raw: bytes) -> Document:
    """Read one JSON object.

    Raises
    ------
    Problem
        ``incorrect`` for anything but one well-formed object in UTF-8 with unique names, no empty array or object, no
        forbidden character, no more than :data:`DEEPEST` levels, :data:`MOST_CONTAINERS` and :data:`MOST_COMMAS`.
    Invalid
        With the path of each number that has more than :data:`LONGEST_NUMBER` characters or an exponent beyond
        :data:`GREATEST_EXPONENT`.
    """
    check_size(raw)
    try:
        plain = orjson.loads(raw)
    except orjson.JSONDecodeError as failure:
        _check_numbers(raw)
        raise Problem(Category.INCORRECT, "the body is not well-formed JSON in UTF-8") from failure
    if not isinstance(plain, dict):
        raise Problem(Category.INCORRECT, "the body is not a JSON object")
    _check_shape(plain)
    if _ESCAPED_CONTROL.search(raw):
        _check_characters(plain)
    try:
        return Document(exact=_EXACT.decode(raw.decode()), plain=plain)
    except _OutOfBoundsError:
        _check_numbers(raw)
        raise


def check_size(raw: bytes) -> None:
    """Refuse what would take far more memory than its bytes; before any of it is made.

    Raises
    ------
    Problem
        ``incorrect`` beyond :data:`MOST_CONTAINERS` or :data:`MOST_COMMAS`.
    """
    if len(raw) < MOST_CONTAINERS:
        return
    if raw.count(b"{") + raw.count(b"[") <= MOST_CONTAINERS and raw.count(b",") <= MOST_COMMAS:
        return
    containers = commas = 0
    for found in _STRING_OR_MARK.finditer(raw):  # one by one: a list of them would be as large as what is refused
        mark = found[0]
        commas += mark == b","
        containers += mark in {b"{", b"["}
        if containers > MOST_CONTAINERS or commas > MOST_COMMAS:
            limits = f"{MOST_CONTAINERS} objects and arrays and {MOST_COMMAS} commas between values"
            raise Problem(Category.INCORRECT, f"a body may hold {limits}")


def of(value: Mapping[str, Any]) -> Document:
    """Return the document of a dict that may hold :class:`~decimal.Decimal` values, which keep their digits.

    What the dict holds is the exact view, so it must not be changed afterwards.

    Raises
    ------
    Problem, Invalid
        As :func:`parse` raises them.
    """
    try:
        raw = orjson.dumps(value, default=_bounded_decimal)
    except orjson.JSONEncodeError:
        return parse(encode(value))
    if _has_great_exponent(raw) or _ESCAPED_CONTROL.search(raw):
        return parse(raw)
    plain = orjson.loads(raw)
    _check_shape(plain)
    return Document(exact=dict(value), plain=plain)


def _has_great_exponent(raw: bytes) -> bool:
    """Return whether a float of orjson may have one: it is 301 to 308, or -301 to -324."""
    return (b"e+30" in raw or b"e-3" in raw) and _GREAT_EXPONENT.search(raw) is not None


def reread(exact: Json) -> Document:
    """Return the document of a changed exact view."""
    return Document(exact=exact, plain=orjson.loads(encode(exact)))


def encode(value: Any) -> bytes:
    """Encode JSON; a :class:`~decimal.Decimal` keeps all its digits, a :class:`WrittenNumber` its characters."""
    return orjson.dumps(value, default=_decimal)


def exact_values(content: bytes) -> Json:
    """Parse stored JSON with its numbers as :class:`~decimal.Decimal`; :func:`encode` writes them as they were."""
    read: Json = json.loads(content, parse_float=_written, parse_int=_written)
    return read


def stamp(document: Document, *, resource_id: str, version: int, last_updated: datetime) -> bytes:
    """Encode the document with the id and version that the server assigns.

    Parameters
    ----------
    document
        The document that was sent; its ``id``, ``meta.versionId`` and ``meta.lastUpdated`` are replaced.
    resource_id
        Logical id.
    version
        Version number, from 1.
    last_updated
        When this version was made; aware.

    Returns
    -------
    bytes
        The JSON to store and to serve.
    """
    exact = document.exact
    meta = exact.get("meta", {}) | {"versionId": str(version), "lastUpdated": instant(last_updated)}
    stamped = {"resourceType": exact["resourceType"], "id": resource_id, "meta": meta} | exact
    stamped["id"], stamped["meta"] = resource_id, meta
    return encode(stamped)


def instant(moment: datetime) -> str:
    """Write an aware datetime as a FHIR instant in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def same_content(left: bytes, right: bytes) -> bool:
    """Return whether two stamped documents have the same content, independent of the order of their names.

    Parameters
    ----------
    left, right
        JSON from :func:`stamp`.
    """
    if left == right:
        return True
    return len(left) == len(right) and _sorted(left) == _sorted(right)


def _sorted(content: bytes) -> bytes:
    return orjson.dumps(_EXACT.decode(content.decode()), option=orjson.OPT_SORT_KEYS)


def _written(text: str) -> Decimal:
    value = Decimal(text)
    return value if str(value) == text and "E" not in text else WrittenNumber(text)


class _OutOfBoundsError(Exception):
    """A number has too many characters, or an exponent too far from 0."""


def _within_bounds(text: str) -> bool:
    if len(text) > LONGEST_NUMBER:
        return False
    exponent = _EXPONENT.search(text)
    return exponent is None or abs(int(exponent[1])) <= GREATEST_EXPONENT


def _number(text: str) -> orjson.Fragment:
    if not _within_bounds(text):
        raise _OutOfBoundsError
    return orjson.Fragment(text)


def _check_numbers(raw: bytes) -> None:
    """Raise :class:`Invalid` for numbers out of bounds; what cannot be read as JSON is passed over."""
    try:
        read = json.loads(raw, parse_float=_marked, parse_int=_marked)
        kind = read.get("resourceType") if isinstance(read, dict) else None
        root = kind if isinstance(kind, str) and kind in r4().resources else "Resource"
        paths = tuple(islice(_marked_paths(read, root), _MOST_ISSUES))
    except (ValueError, RecursionError):
        return
    rule = f"a number may have {LONGEST_NUMBER} characters and an exponent between ±{GREATEST_EXPONENT}"
    if paths:
        raise Invalid([Issue(code="value", text=rule, expression=path) for path in paths])


_OUT_OF_BOUNDS: Final = object()


def _marked(text: str) -> object:
    return None if _within_bounds(text) else _OUT_OF_BOUNDS


def _marked_paths(value: Any, path: str) -> Iterator[str]:
    if value is _OUT_OF_BOUNDS:
        yield path
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _marked_paths(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _marked_paths(item, f"{path}.{name}" if name in known_names() else path)


def _integer(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) <= _SAFE_INTEGER and text != "-0" else _number(text)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise Problem(Category.INCORRECT, "an object holds the same name twice")
    return read


_EXACT: Final = json.JSONDecoder(parse_float=_number, parse_int=_integer, object_pairs_hook=_unique)


def _decimal(value: Any) -> orjson.Fragment:
    return orjson.Fragment(_characters(value))


def _bounded_decimal(value: Any) -> orjson.Fragment:
    return _number(_characters(value))


def _characters(value: Any) -> str:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not JSON")
    if isinstance(value, WrittenNumber):
        return value.text
    plain = abs(value.adjusted()) <= _PLAIN and abs(int(value.as_tuple().exponent)) <= _PLAIN
    return format(value, "f") if plain else str(value)


def _check_shape(plain: Json) -> None:
    level: list[Any] = [plain]
    for _ in range(DEEPEST):
        found: list[Any] = []
        for container in level:
            if not container:
                raise Problem(Category.INCORRECT, "FHIR allows no empty array and no empty object")
            if type(container) is list:
                found += [child for child in container if type(child) is dict or type(child) is list]
            else:
                _add_containers(found, container)
        if not found:
            return
        level = found
    raise Problem(Category.INCORRECT, f"the JSON is nested more than {DEEPEST} levels deep")


def _add_containers(found: list[Any], container: Json) -> None:
    for name, child in container.items():
        if type(child) is str:
            continue
        if type(child) is dict:
            found.append(child)
        elif type(child) is list:
            if None in child and f"_{name}" not in container and name[:1] != "_":
                raise Problem(Category.INCORRECT, "FHIR allows null only where an extension stands for the value")
            found.append(child)
        elif child is None:
            raise Problem(Category.INCORRECT, "FHIR allows null only in an array")


def _check_characters(value: Any) -> None:
    if isinstance(value, str):
        if _FORBIDDEN.search(value):
            raise Problem(Category.INCORRECT, "a string holds a control character that FHIR does not allow")
    elif isinstance(value, list):
        for item in value:
            _check_characters(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_characters(name)
            _check_characters(item)
