"""What the modifiers ``:text`` and ``:in`` compare tokens with (R4, search.html#modifiers)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fhir_adapter.store.search.parameters import Branch
from fhir_adapter.store.search.paths import at, steps
from fhir_adapter.store.search.values import fold
from fhir_adapter.validation.table import r4
from kernel.errors import Category, Problem

_R4 = "http://hl7.org/fhir/ValueSet/"


def mentions(branches: Sequence[Branch], texts: Sequence[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Return the test whether a display or text of a resource's tokens starts with one of some texts.

    Parameters
    ----------
    branches
        Where the tokens stand.
    texts
        The texts; case and accents do not count.
    """
    wanted = tuple(fold(text) for text in texts)

    def holds(resource: Mapping[str, Any]) -> bool:
        found = (text for branch in branches for value in at(resource, steps(branch.path)) for text in _texts(value))
        return any(fold(text).startswith(wanted) for text in found)

    return holds


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value[name] for name in ("text", "display") if isinstance(value.get(name), str))
        for coding in value.get("coding", ()):
            yield from _texts(coding)
        if "value" in value and "type" in value:
            yield from _texts(value["type"])


def value_set(url: str) -> list[tuple[str, str]]:
    """Return system and code of each code of a value set of R4.

    Parameters
    ----------
    url
        The value set's URL.

    Raises
    ------
    Problem
        ``incorrect`` when it is none whose codes are known here.
    """
    known = r4().value_sets.get(url.removeprefix(_R4)) if url.startswith(_R4) else None
    if known is None:
        raise Problem(Category.INCORRECT, "the codes of this value set are not known here")
    return [(system, code) for system, codes in known.items() for code in sorted(codes)]
