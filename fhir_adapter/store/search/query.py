"""A parsed search (R4, search.html): criteria, order, page, and what else the answer shall hold."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlencode

import orjson

from fhir_adapter.store.document import Json
from fhir_adapter.store.search.shapes import Shape
from kernel.errors import Category, Problem

DEFAULT_COUNT: Final = 50
LARGEST_COUNT: Final = 1000

Total: TypeAlias = Literal["none", "accurate"]
Summary: TypeAlias = Literal["", "true", "text", "data", "count", "false"]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One condition of a search, of which one value at least must match."""

    #: The name of the parameter, without modifier and chain.
    name: str
    #: What the statement of the search depends on.
    shape: Shape
    #: The values of the statement.
    arguments: tuple[Any, ...]
    #: Tokens, references and ids as (system, code): None is "any", an empty system is "none".
    texts: tuple[tuple[str | None, str | None], ...] = ()
    #: The fewer resources it is expected to match, the lower.
    breadth: int = 2
    #: What the index cannot say: whether a resource, as plain JSON, matches.
    holds: Callable[[Json], bool] | None = None


@dataclass(frozen=True)
class SortKey:
    """One parameter of ``_sort``."""

    name: str
    descending: bool


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """The end of a page: what its last match was sorted by, and how many versions there were at the first page."""

    keys: tuple[float | str, ...]
    #: The number of the last match, which decides between equal ones.
    key: int
    #: Number of the newest version when the first page was read.
    as_of: int

    def text(self) -> str:
        """Return the text for a ``next`` link."""
        return base64.urlsafe_b64encode(orjson.dumps([*self.keys, self.key, self.as_of])).decode().rstrip("=")


@dataclass(frozen=True)
class Inclusion:
    """One ``_include`` or ``_revinclude``."""

    #: Type whose resources refer.
    source: str
    #: Search parameter of the reference; ``*`` for every one.
    parameter: str
    #: The only type that is referred to; empty for any.
    target: str
    #: Whether resources are added that refer to the matches, instead of those they refer to.
    reverse: bool
    #: Whether what was included counts as a match for it.
    iterate: bool


@dataclass(frozen=True, kw_only=True)
class Query:
    """A search of one type."""

    type: str
    #: All must hold.
    criteria: tuple[Criterion, ...]
    #: Matches on a page.
    count: int
    sort: tuple[SortKey, ...]
    after: Cursor | None
    #: The parameters that were applied, with their values.
    pairs: tuple[tuple[str, str], ...]
    #: The search as it was sent, where all of it was applied; else empty.
    sent: str = ""
    inclusions: tuple[Inclusion, ...] = ()
    total: Total = "none"
    summary: Summary = ""
    elements: tuple[str, ...] = ()
    #: Names of parameters that were ignored (``Prefer: handling=lenient``).
    ignored: tuple[str, ...] = ()

    @cached_property
    def applied(self) -> str:
        """The parameters that were applied, in one form whichever characters were escaped."""
        return urlencode(self.pairs)

    @property
    def link(self) -> str:
        """The parameters that were applied, for the self link."""
        return self.sent or self.applied

    def next(self, cursor: Cursor) -> str:
        """Return the query of the page after ``cursor``."""
        return f"{self.link}&_cursor={cursor.text()}" if self.link else f"_cursor={cursor.text()}"

    def named(self, name: str) -> Sequence[Criterion]:
        """Return the criteria of a parameter."""
        return [criterion for criterion in self.criteria if criterion.name == name]

    def asks_for(self, system: str, code: str) -> bool:
        """Return whether the search names a tag.

        Parameters
        ----------
        system, code
            The tag.
        """
        asked = [pair for criterion in self.named("_tag") for pair in criterion.texts]
        return any(pair in {(system, code), (None, code)} for pair in asked)


def cursor_of(text: str, are_texts: Sequence[bool]) -> Cursor:
    """Read the text of a ``next`` link.

    Parameters
    ----------
    text
        From :meth:`Cursor.text`.
    are_texts
        For each parameter that the search is sorted by, whether its values are texts; else they are numbers.

    Raises
    ------
    Problem
        ``incorrect`` when it is none, or that of another search.
    """
    try:
        *found, key, as_of = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        sound = len(found) == len(are_texts) and all(type(it) is int and 0 <= it < 2**63 for it in (key, as_of))
        sound = sound and all(
            type(it) is str and "\0" not in it if is_text else type(it) in {int, float} and abs(it) < 2**63
            for it, is_text in zip(found, are_texts, strict=True)
        )
    except (ValueError, TypeError):
        sound = False
    if not sound:
        raise Problem(Category.INCORRECT, "_cursor is not from a link of this server")
    return Cursor(keys=tuple(found), key=key, as_of=as_of)


def patient_named_by(query: Query) -> str:
    """Return the reference of the one patient that a search is limited to, empty when it names none or several.

    Parameters
    ----------
    query
        A parsed search; the parameters ``patient`` and ``subject`` name a patient, and so does ``_id`` for a Patient.
    """
    patients: set[str] = set()
    for criterion in query.criteria:
        texts = [text or "" for _, text in criterion.texts]
        if criterion.name == "_id" and query.type == "Patient":
            texts = [f"Patient/{text}" for text in texts]
        elif criterion.name not in {"patient", "subject", "_compartment"}:
            continue
        if len(texts) == 1 and texts[0].startswith("Patient/"):
            patients.add(texts[0])
    return patients.pop() if len(patients) == 1 else ""
