"""Reads a search: what follows the question mark (R4, search.html)."""

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from fhir_adapter.store.query_string import pairs_of
from fhir_adapter.store.search.criteria import NotServed, criterion, of_any
from fhir_adapter.store.search.parameters import AUDIT_EVENT, LAST_UPDATED, of
from fhir_adapter.store.search.query import (
    DEFAULT_COUNT,
    LARGEST_COUNT,
    Criterion,
    Cursor,
    Inclusion,
    Query,
    SortKey,
    Summary,
    Total,
    cursor_of,
)
from fhir_adapter.store.search.single import Reading
from kernel.errors import Category, Problem

T = TypeVar("T")

MOST_VALUES: Final = 500
"""Largest number of values in one search, all parameters together."""
_MOST_SORTED: Final = 4
_RESULT_PARAMETERS: Final = frozenset(
    {"_count", "_sort", "_cursor", "_format", "_pretty", "_total", "_summary", "_elements"}
)
_INCLUSIONS: Final = re.compile(r"(?P<rev>_rev)?_?include(?P<iterate>:iterate|:recurse)?")
_SUMMARIES: Final[dict[str, Summary]] = {it: it for it in ("true", "text", "data", "count", "false")}
_TOTALS: Final[dict[str, Total]] = {"none": "none", "estimate": "accurate", "accurate": "accurate"}


def parse(kind: str, query: str, *, lenient: bool = False, base: str = "", also: Sequence[Criterion] = ()) -> Query:
    """Parse a search.

    Parameters
    ----------
    kind
        The resource type.
    query
        What follows the question mark.
    lenient
        Ignore parameters that are not served, and name them in the result (``Prefer: handling=lenient``).
    base
        URL of this API: references that start with it are its own.
    also
        Further conditions, such as that of a compartment.

    Raises
    ------
    Problem
        ``incorrect`` for a parameter, modifier, prefix or value that is not served.
    """
    pairs = pairs_of(query)
    reading = Reading(base=base)
    criteria: list[Criterion] = [*also]
    inclusions: list[Inclusion] = []
    ignored: list[str] = []
    applied: list[tuple[str, str]] = []
    for name, value in pairs:
        try:
            if name in _RESULT_PARAMETERS:
                pass
            elif match := _INCLUSIONS.fullmatch(name):
                inclusions.append(_inclusion(kind, match, value))
            else:
                criteria.append(criterion(kind, name, value, reading))
        except NotServed:
            if not lenient:
                raise
            ignored.append(name)
            continue
        if name not in {"_cursor", "_format"}:
            applied.append((name, value))
    if sum(len(it.arguments) for it in criteria) > MOST_VALUES:
        raise Problem(Category.INCORRECT, f"a search may hold {MOST_VALUES} values at the most")
    results = dict(pairs)
    sort = _sort(kind, results.get("_sort", f"-{LAST_UPDATED}"))
    count = _count(results.get("_count"))
    summary = _one_of(_SUMMARIES, "_summary", results.get("_summary", "false"))
    return Query(
        type=kind,
        criteria=tuple(criteria),
        count=count or 1,
        sort=sort,
        after=_after(kind, sort, results["_cursor"]) if "_cursor" in results else None,
        pairs=tuple(applied),
        sent=query if len(applied) == len(pairs) else "",
        inclusions=tuple(inclusions),
        total=_one_of(_TOTALS, "_total", results.get("_total", "none")),
        summary="count" if count == 0 else summary,
        elements=tuple(part.strip() for part in results.get("_elements", "").split(",") if part.strip()),
        ignored=tuple(ignored),
    )


def is_of_result(name: str) -> bool:
    """Return whether a parameter says what the answer holds, rather than what matches (R4, search.html#3.1.1.5)."""
    return name in _RESULT_PARAMETERS or _INCLUSIONS.fullmatch(name) is not None


def _one_of(allowed: dict[str, T], name: str, text: str) -> T:
    if text not in allowed:
        raise Problem(Category.INCORRECT, f"{name} is one of {', '.join(allowed)}")
    return allowed[text]


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Problem(Category.INCORRECT, "_count is not a number")
    return min(int(text), LARGEST_COUNT)


def _sort(kind: str, text: str) -> tuple[SortKey, ...]:
    keys = tuple(SortKey(part.removeprefix("-"), part.startswith("-")) for part in text.split(","))
    names = [key.name for key in keys]
    if len(keys) > _MOST_SORTED or len(set(names)) != len(names):
        raise Problem(Category.INCORRECT, f"_sort names {_MOST_SORTED} different parameters at the most")
    for name in names:
        parameter = of(kind).get(name)
        if parameter is None or parameter.kind == "composite":
            raise Problem(Category.INCORRECT, "_sort names a parameter by which this type cannot be sorted")
        if kind == AUDIT_EVENT and (name not in {LAST_UPDATED, "date"} or len(names) > 1):
            raise Problem(Category.INCORRECT, "audit events are sorted by date alone")
    return keys


def _after(kind: str, sort: Sequence[SortKey], text: str) -> Cursor:
    numbers = {LAST_UPDATED, *(it.name for it in sort if of(kind)[it.name].kind in {"date", "number", "quantity"})}
    return cursor_of(text, [key.name not in numbers for key in sort])


def _inclusion(kind: str, match: re.Match[str], value: str) -> Inclusion:
    source, _, rest = value.partition(":")
    name, _, target = rest.partition(":")
    reverse, iterate = match["rev"] is not None, match["iterate"] is not None
    if source not in of_any() or (target and target not in of_any()) or kind == AUDIT_EVENT:
        raise NotServed("_include and _revinclude are written Type:parameter or Type:parameter:Target")
    if not reverse and not iterate and source != kind:
        raise NotServed("_include starts from the type that is searched; others need _include:iterate")
    parameter = of(source).get(name)
    if source == AUDIT_EVENT or (name == "*" and reverse):
        raise NotServed("this cannot be included")
    if name != "*" and (parameter is None or parameter.kind != "reference"):
        raise NotServed("_include and _revinclude name a parameter that is a reference")
    return Inclusion(source, name, target, reverse, iterate)
