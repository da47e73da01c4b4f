"""Pairs of parameters that are asked for together, of which one matches many resources and so does the other.

A patient may have thousands of Observations, and a code too; what both have is little. A row of the index for each pair
of their values finds it in one look-up, whatever else the patient has.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from fhir_adapter.store.search.parameters import named_number, of
from fhir_adapter.store.search.query import Criterion
from fhir_adapter.store.search.shapes import BOTH, VALUE, Match
from fhir_adapter.store.search.values import key_of

PAIRS: Final[Mapping[str, tuple[str, str]]] = {"Observation": ("subject", "code")}
"""Type -> its parameters that are indexed together: a reference and a token, of one branch each."""
_MOST_TESTS: Final = 64
_BETWEEN: Final = "\x1f"
"""Stands in no reference and no code."""

_NUMBERS: Final[Mapping[str, tuple[int, int, int]]] = {
    kind: (of(kind)[first].numbers[0], of(kind)[second].numbers[0], named_number(f"{kind}.{first} {second}"))
    for kind, (first, second) in PAIRS.items()
}
"""Type -> the branch of the reference, that of the token, and that of the pair."""


def pair_rows(kind: str, values: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, str, str]]:
    """Yield the rows of the pairs of a resource: the number of the pair, both values, and the system of the token.

    Parameters
    ----------
    kind
        Resource type.
    values
        The other rows of the resource, of references and tokens.
    """
    if kind not in _NUMBERS:
        return
    first, second, number = _NUMBERS[kind]
    tokens = [(value, system) for branch, value, system in values if branch == second and value]
    for branch, reference, _ in values:
        if branch == first and reference:
            yield from ((number, _both(reference, token), system) for token, system in tokens)


def paired(kind: str, criteria: Sequence[Criterion]) -> Sequence[Criterion]:
    """Return the criteria with one in the place of two that are indexed together.

    Parameters
    ----------
    kind
        Resource type.
    criteria
        All must hold.
    """
    if kind not in _NUMBERS:
        return criteria
    first, second, number = _NUMBERS[kind]
    by_reference = next((it for it in criteria if _is_of(it, first, {VALUE})), None)
    by_token = next((it for it in criteria if _is_of(it, second, {VALUE, BOTH})), None)
    if by_reference is None or by_token is None:
        return criteria
    references = [*_tests(by_reference)]
    tokens = [*_tests(by_token)]
    if len(references) * len(tokens) > _MOST_TESTS:
        return criteria
    tests, arguments = [], []
    for (_, (reference,)), (test, (token, *system)) in product(references, tokens):
        tests.append(test)
        arguments += [_both(reference, token), *system]
    shape = Match("values", (number,), tuple(tests))
    pair = Criterion(name=by_reference.name, shape=shape, arguments=tuple(arguments), breadth=by_reference.breadth)
    return [pair, *(it for it in criteria if it is not by_reference and it is not by_token)]


def _is_of(criterion: Criterion, branch: int, tests: set[str]) -> bool:
    shape = criterion.shape
    return (
        isinstance(shape, Match)
        and shape.numbers == (branch,)
        and not shape.negated
        and tests.issuperset(shape.tests)
        and criterion.holds is None
    )


def _tests(criterion: Criterion) -> Iterator[tuple[str, Sequence[Any]]]:
    assert isinstance(criterion.shape, Match)
    arguments = iter(criterion.arguments)
    for test in criterion.shape.tests:
        yield test, [next(arguments) for _ in range(2 if test == BOTH else 1)]


def _both(reference: str, token: str) -> str:
    return key_of(f"{reference}{_BETWEEN}{token}")
