"""A resource as JSON, without loss: every decimal and every timestamp leaves as it came.

FHIR makes the precision of a decimal significant (R4, datatypes.html#decimal): ``1.10`` is not ``1.1``. A number that
Python would change is therefore kept as the characters that were sent, as an :class:`orjson.Fragment`, which orjson
writes back untouched. What may be read is a second, plain view of the same bytes; parsing twice costs a few
microseconds.

The gate in front refuses what JSON readers disagree about (RFC 8259 section 4: duplicate names) and what FHIR forbids
(json.html: no empty arrays or objects, no null but in arrays), before anything else looks at it.
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
"""Levels of arrays and objects that are accepted."""
LONGEST_NUMBER: Final = 64
"""Characters in a number; FHIR asks for 18 digits at the least."""
_SAFE_INTEGER: Final = 18
"""An integer of so many characters always fits the 64 bits that orjson writes."""

_ESCAPED_CONTROL: Final = re.compile(rb"\\u00[01]")
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""FHIR R4, datatypes.html#string: no character below U+0020 but tab, line feed and carriage return."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One JSON object, in two views of the same bytes."""

    #: Exact: numbers that Python would change are fragments of the original text. To be written, not read.
    exact: Json
    #: Plain Python values. To be read, not written.
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
    """Make a document of a dict that may hold :class:`~decimal.Decimal` values, which keep their digits."""
    return parse(encode(value))


def reread(exact: Json) -> Document:
    """Make a document of an exact view that was changed."""
    return Document(exact=exact, plain=orjson.loads(orjson.dumps(exact)))


def encode(value: Any) -> bytes:
    """Write JSON; a :class:`~decimal.Decimal` keeps every digit it has, a datetime gets its offset."""
    return orjson.dumps(value, default=_decimal)


def exact_values(content: bytes) -> Json:
    """Read stored JSON with its numbers as :class:`~decimal.Decimal`, none of them changed."""
    read: Json = json.loads(content, parse_float=Decimal, parse_int=Decimal)
    return read


def stamp(document: Document, *, resource_id: str, version: int, last_updated: datetime) -> bytes:
    """Write the document with the identity that the server gives it.

    Parameters
    ----------
    document
        What was sent; its ``id``, ``meta.versionId`` and ``meta.lastUpdated`` are replaced.
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
    """Return whether two stamped documents have the same content, whatever the order of their names.

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
