"""Whether a resource that was stored just now matches a search, without the database.

The rows of the index and the values of the search are those of the search itself, and each test is the twin of its SQL
(:func:`fhir_adapter.store.search.comparisons.meets`). What would need other resources is refused by
:func:`needs_others` before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final

import orjson

from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.document import Json
from fhir_adapter.store.search.comparisons import BY_CODE, BY_UNIT, meets
from fhir_adapter.store.search.index import IndexRows, rows
from fhir_adapter.store.search.parameters import TAG
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.search.shapes import BOTH, START, Every, Match, Missing, Own, Referred, Refers, Shape, Some
from fhir_adapter.store.versions import StoredVersion

HIDDEN: Final = (SHADOW["system"], SHADOW["code"])
"""The tag without which a search does not find a resource."""
_PAIRS: Final = frozenset({BOTH, START})


@dataclass(frozen=True)
class Stored:
    """A version with what the index holds of it, each read when it is first asked for."""

    version: StoredVersion

    @cached_property
    def plain(self) -> Json:
        """The resource."""
        found: Json = orjson.loads(self.version.content)
        return found

    @cached_property
    def rows(self) -> IndexRows:
        """What the index holds."""
        return rows(self.plain)

    @cached_property
    def is_hidden(self) -> bool:
        """Whether a search finds it only by its tag: it is what a model in shadow says."""
        tags = self.plain.get("meta", {}).get("tag", ())
        return any((tag.get("system"), tag.get("code")) == HIDDEN for tag in tags)


def needs_others(query: Query) -> bool:
    """Return whether a search asks about resources other than the one that it finds."""
    return any(_needs_others(criterion.shape) for criterion in query.criteria)


def matches(query: Query, stored: Stored) -> bool:
    """Return whether a search finds a resource.

    Parameters
    ----------
    query
        A search that needs no other resources.
    stored
        A version that is no deletion.
    """
    if query.type != stored.version.type or (stored.is_hidden and not _asks_for_hidden(query)):
        return False
    return all(
        _meets(criterion.shape, iter(criterion.arguments), stored)
        and (criterion.holds is None or criterion.holds(stored.plain))
        for criterion in query.criteria
    )


def _needs_others(shape: Shape) -> bool:
    if isinstance(shape, Every | Some):
        return any(_needs_others(it) for it in shape.conditions)
    return isinstance(shape, Refers | Referred)


def _asks_for_hidden(query: Query) -> bool:
    system, code = HIDDEN
    return any(pair in {(system, code), (None, code)} for it in query.named(TAG) for pair in it.texts)


def _meets(shape: Shape, arguments: Iterator[Any], stored: Stored) -> bool:
    """Return whether a shape is met; every value of the shape is taken from ``arguments``."""
    match shape:
        case Match():
            tests = [(test, tuple(islice(arguments, _width(shape, test)))) for test in shape.tests]
            found = _rows(stored.rows, shape.table, shape.numbers)
            met = any(meets(shape.table, test, values, row) for row in found for test, values in tests)
            return met is not shape.negated
        case Missing():
            found = _rows(stored.rows, shape.table, shape.numbers)
            if shape.starts:
                spans = [(next(arguments), next(arguments)) for _ in range(shape.starts)]
                found = [row for row in found if any(low <= row[0] < high for low, high in spans)]
            return bool(found) is not shape.is_missing
        case Own(column="id"):
            return stored.version.id in {next(arguments) for _ in shape.tests}
        case Own():
            at = stored.version.last_updated
            met_each = [_instant_meets(at, prefix, next(arguments), next(arguments)) for prefix in shape.tests]
            return any(met_each)
        case Every() | Some():
            met_each = [_meets(it, arguments, stored) for it in shape.conditions]
            return all(met_each) if isinstance(shape, Every) else any(met_each)
        case _:
            raise AssertionError


def _width(shape: Match, test: str) -> int:
    """Return how many values a test has."""
    if shape.table == "values":
        return 2 if test in _PAIRS else 1
    return 3 if test.endswith(BY_UNIT) else 4 if test.endswith(BY_CODE) else 2


def _rows(found: IndexRows, table: str, numbers: Sequence[int]) -> list[Any]:
    """Return the rows of some branches, without the number of the branch."""
    if table == "values":
        return [(value, system) for number, value, system in found.values if number in numbers]
    if table == "dates":
        return [(low, high) for number, low, high in found.dates if number in numbers]
    return [measured for number, measured in found.measures if number in numbers]


def _instant_meets(at: datetime, prefix: str, low: datetime, high: datetime) -> bool:
    within = low <= at < high
    return {
        "eq": within,
        "ap": within,
        "ne": not within,
        "gt": at >= high,
        "lt": at < low,
        "ge": at >= low,
        "le": at < high,
        "sa": at >= high,
        "eb": at < low,
    }[prefix]
