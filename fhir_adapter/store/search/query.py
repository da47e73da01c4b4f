"""Parses a search: names, prefixes and values, checked against the table of parameters (R4, search.html).

An unsupported parameter is refused and not ignored, because the client would get the answer to another search.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, urlencode

from fhir_adapter.store.search.index import local
from fhir_adapter.store.search.parameters import LAST_UPDATED, Parameter, of
from fhir_adapter.store.times import span
from kernel.errors import Category, Problem

DEFAULT_COUNT: Final = 50
LARGEST_COUNT: Final = 1000
MOST_VALUES: Final = 200
"""Largest number of values in one search, all parameters together."""

_PREFIXED: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb)?(.*)", re.DOTALL)
_UNESCAPED_COMMA: Final = re.compile(r"(?<!\\),")
_UNESCAPED_BAR: Final = re.compile(r"(?<!\\)\|")
_RESULT_PARAMETERS: Final = frozenset({"_count", "_sort", "_cursor", "_format", "_pretty"})


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The end of a page: the sort key and the id of its last match."""

    key: float
    id: str

    def text(self) -> str:
        """Return the text for a ``next`` link."""
        return base64.urlsafe_b64encode(f"{self.key!r} {self.id}".encode()).decode().rstrip("=")


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """A prefix and the span of the date that follows it."""

    prefix: str
    low: datetime
    high: datetime


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One parameter and its values, of which at least one must match."""

    parameter: Parameter
    #: Tokens as (system, code): None is "any", an empty system is "none". References and strings as (None, text).
    values: tuple[tuple[str | None, str | None], ...] = ()
    #: For dates.
    ranges: tuple[TimeRange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Query:
    """A search of one type."""

    type: str
    #: All must hold.
    criteria: tuple[Criterion, ...]
    #: Matches on a page.
    count: int
    #: ``_lastUpdated`` or a date parameter.
    sort: str
    descending: bool
    after: Cursor | None
    #: The parameters that were applied, for the self link.
    applied: str

    def next(self, cursor: Cursor) -> str:
        """Return the query of the page after ``cursor``."""
        return f"{self.applied}&_cursor={cursor.text()}" if self.applied else f"_cursor={cursor.text()}"


def parse(kind: str, query: str) -> Query:
    """Parse a search.

    Parameters
    ----------
    kind
        The resource type.
    query
        What follows the question mark.

    Raises
    ------
    Problem
        ``incorrect`` for a parameter, modifier, prefix or value that is not served.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=50)
    except ValueError as failure:
        raise Problem(Category.INCORRECT, "the query is not well-formed") from failure
    query_pairs = [(name, value) for name, value in pairs if name not in _RESULT_PARAMETERS]
    criteria = tuple(_criterion(kind, name, value) for name, value in query_pairs)
    if sum(len(criterion.values) + len(criterion.ranges) for criterion in criteria) > MOST_VALUES:
        raise Problem(Category.INCORRECT, f"a search may hold {MOST_VALUES} values at the most")
    results = dict(pairs)
    sort, descending = _sort(kind, results.get("_sort", f"-{LAST_UPDATED}"))
    applied = [(name, value) for name, value in pairs if name not in {"_cursor", "_format"}]
    return Query(
        type=kind,
        criteria=criteria,
        count=_count(results.get("_count")),
        sort=sort,
        descending=descending,
        after=_cursor(results["_cursor"]) if "_cursor" in results else None,
        applied=urlencode(applied),
    )


def patient_named_by(query: Query) -> str:
    """Return the reference of the one patient that a search is limited to, empty when it names none or several.

    Parameters
    ----------
    query
        A parsed search; the parameters ``patient`` and ``subject`` name a patient, and so does ``_id`` for a Patient.
    """
    patients: set[str] = set()
    for criterion in query.criteria:
        texts = [text or "" for _, text in criterion.values]
        if criterion.parameter.name == "_id" and query.type == "Patient":
            texts = [f"Patient/{text}" for text in texts]
        elif criterion.parameter.name not in {"patient", "subject"}:
            continue
        if len(texts) == 1 and texts[0].startswith("Patient/"):
            patients.add(texts[0])
    return patients.pop() if len(patients) == 1 else ""


def _criterion(kind: str, name: str, value: str) -> Criterion:
    parameter = of(kind).get(name)
    if parameter is None:
        shown = re.sub(r"[^A-Za-z0-9_:.\-]", "", name)[:40]
        raise Problem(Category.INCORRECT, f"search parameter '{shown}' is not supported for {kind}")
    texts = [text for text in (_UNESCAPED_COMMA.split(value) if "," in value else (value,)) if text]
    if not texts:
        raise Problem(Category.INCORRECT, f"search parameter '{name}' has no value")
    if parameter.kind == "date":
        return Criterion(parameter=parameter, ranges=tuple(_range(text) for text in texts))
    read = {"token": _token, "reference": _reference, "string": _string}[parameter.kind]
    return Criterion(parameter=parameter, values=tuple(pair for text in texts for pair in read(parameter, text)))


def _plain(text: str) -> str:
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text


def _token(parameter: Parameter, text: str) -> Iterator[tuple[str | None, str | None]]:  # noqa: ARG001 - one shape for all
    system, *code = _UNESCAPED_BAR.split(text, maxsplit=1) if "\\" in text else text.split("|", 1)
    if not code:
        yield None, _plain(system)
    elif system or code[0]:
        yield _plain(system), _plain(code[0]) or None
    else:
        raise Problem(Category.INCORRECT, "a token is code, system|code, |code or system|")


def _reference(parameter: Parameter, text: str) -> Iterator[tuple[str | None, str | None]]:
    reference = local(_plain(text))
    if "/" in reference or ":" in reference:
        yield None, reference
    elif parameter.targets:
        yield from ((None, f"{target}/{reference}") for target in parameter.targets)
    else:
        raise Problem(Category.INCORRECT, f"search parameter '{parameter.name}' needs a type: Type/id")


def _string(parameter: Parameter, text: str) -> Iterator[tuple[str | None, str | None]]:  # noqa: ARG001 - one shape for all
    yield None, _plain(text)


def _range(text: str) -> TimeRange:
    match = _PREFIXED.fullmatch(text)
    assert match is not None
    low, high = span(match[2].replace(" ", "+"))  # a plus sign that was not escaped
    return TimeRange(prefix=match[1] or "eq", low=low, high=high)


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Problem(Category.INCORRECT, "_count is not a number")
    return min(int(text), LARGEST_COUNT)


def _sort(kind: str, text: str) -> tuple[str, bool]:
    name = text.removeprefix("-")
    parameter = of(kind).get(name)
    if parameter is None or parameter.kind != "date":
        raise Problem(Category.INCORRECT, "_sort names no date parameter of this type")
    return name, text.startswith("-")


def _cursor(text: str) -> Cursor:
    try:
        key, name = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ", 1)
        return Cursor(key=float(key), id=name)
    except ValueError as failure:
        raise Problem(Category.INCORRECT, "_cursor is not from a link of this server") from failure
