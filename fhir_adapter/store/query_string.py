"""Reads what follows the question mark of an address: names and values, decoded."""

from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl

from kernel.errors import Category, Problem

LONGEST: Final = 16_384
"""Most characters of one query."""
MOST_PAIRS: Final = 50


def pairs_of(query: str) -> list[tuple[str, str]]:
    """Return the names and values of a query, in their order.

    Raises
    ------
    Problem
        ``incorrect`` for what is too long, not well-formed or not UTF-8, and for the character U+0000, which PostgreSQL
        cannot hold.
    """
    if len(query) > LONGEST:
        raise Problem(Category.INCORRECT, f"a search may have {LONGEST} characters at the most")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=MOST_PAIRS
        )
    except ValueError as failure:
        raise Problem(Category.INCORRECT, "the query is not well-formed") from failure
    if ("\0" in query or "%00" in query) and any("\0" in text for pair in pairs for text in pair):
        raise Problem(Category.INCORRECT, "a search may not hold the character U+0000")
    return pairs


def each_once(query: str, allowed: Collection[str], detail: str) -> dict[str, str]:
    """Return the parameters of an interaction of which each may be there once.

    Parameters
    ----------
    query
        What follows the question mark.
    allowed
        Their names.
    detail
        What is said of another one, or of one that is there twice.

    Raises
    ------
    Problem
        ``incorrect``, also as :func:`pairs_of` raises it.
    """
    pairs = pairs_of(query)
    given = dict(pairs)
    if len(given) != len(pairs) or not given.keys() <= set(allowed):
        raise Problem(Category.INCORRECT, detail)
    return given
