"""A resource as JSON, without loss: every decimal and every timestamp is returned as it was sent.

FHIR makes the precision of a decimal significant (R4, datatypes.html#decimal): ``1.10`` is not ``1.1``. A number that
Python would change is therefore kept as the characters that were sent, as an :class:`orjson.Fragment`, which orjson
writes unchanged. A second view of the same bytes holds plain Python values for reading; parsing twice costs a few
microseconds.

:func:`parse` first refuses JSON that parsers interpret differently (RFC 8259 section 4: duplicate names) and JSON that
FHIR forbids (json.html: no empty arrays or objects, null only in arrays).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

import orjson

from kernel.errors import Category, Problem

Json: TypeAlias = dict[str, Any]

DEEPEST: Final = 64
"""Most levels of nested arrays and objects."""
LONGEST_NUMBER: Final = 64
"""Most characters in a number; FHIR requires at least 18 digits."""
_SAFE_INTEGER: Final = 18
"""An integer with at most this many characters fits into the 64 bits that orjson writes."""

_ESCAPED_CONTROL: Final = re.compile(rb"\\u00[01]")
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


def parse(raw: bytes) -> Document:
    """Read one JSON object.

    Raises
    ------
    Problem
        ``incorrect`` for anything but one well-formed object in UTF-8 with unique names, no empty array or object, no
        forbidden character, no more than :data:`DEEPEST` levels and no number past :data:`LONGEST_NUMBER` characters.
    """
    try:
        plain = orjson.loads(raw)
    except orjson.JSONDecodeError as failure:
        raise Problem(Category.INCORRECT, "the body is not well-formed JSON in UTF-8") from failure
    if not isinstance(plain, dict):
        raise Problem(Category.INCORRECT, "the body is not a JSON object")
    _check_shape(plain)
    if _ESCAPED_CONTROL.search(raw):
        _check_characters(plain)
    return Document(exact=_EXACT.decode(raw.decode()), plain=plain)


def of(value: Mapping[str, Any]) -> Document:
    """Return the document of a dict that may hold :class:`~decimal.Decimal` values, which keep their digits."""
    return parse(encode(value))


def reread(exact: Json) -> Document:
    """Return the document of a changed exact view."""
    return Document(exact=exact, plain=orjson.loads(orjson.dumps(exact)))


def encode(value: Any) -> bytes:
    """Encode JSON; a :class:`~decimal.Decimal` keeps all its digits, a datetime gets its offset."""
    return orjson.dumps(value, default=_decimal)


def exact_values(content: bytes) -> Json:
    """Parse stored JSON with its numbers as :class:`~decimal.Decimal`, unchanged."""
    read: Json = json.loads(content, parse_float=Decimal, parse_int=Decimal)
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
    return orjson.dumps(
        {"resourceType": exact["resourceType"], "id": resource_id, "meta": meta}
        | exact
        | {"id": resource_id, "meta": meta}
    )


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


def _number(text: str) -> orjson.Fragment:
    if len(text) > LONGEST_NUMBER:
        raise Problem(Category.INCORRECT, f"a number has more than {LONGEST_NUMBER} characters")
    return orjson.Fragment(text)


def _integer(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) <= _SAFE_INTEGER and text != "-0" else _number(text)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise Problem(Category.INCORRECT, "an object holds the same name twice")
    return read


_EXACT: Final = json.JSONDecoder(parse_float=_number, parse_int=_integer, object_pairs_hook=_unique)


def _decimal(value: Any) -> orjson.Fragment:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return orjson.Fragment(format(value, "f"))


def _check_shape(plain: Json) -> None:
    level: list[Any] = [plain]
    for _ in range(DEEPEST):
        level = [child for container in level for child in _containers(container)]
        if not level:
            return
    raise Problem(Category.INCORRECT, f"the JSON is nested more than {DEEPEST} levels deep")


def _containers(container: Any) -> Iterator[Any]:
    if not container:
        raise Problem(Category.INCORRECT, "FHIR allows no empty array and no empty object")
    if type(container) is list:
        yield from (child for child in container if type(child) is dict or type(child) is list)
        return
    for name, child in container.items():
        if type(child) is dict:
            yield child
        elif type(child) is list:
            if None in child and f"_{name}" not in container and name[:1] != "_":
                raise Problem(Category.INCORRECT, "FHIR allows null only where an extension stands for the value")
            yield child
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
