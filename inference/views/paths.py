"""One FHIRPath expression of a view: compiled to closures where it can be, else evaluated by fhirpathpy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from inference.views.closures import compile_tree
from inference.views.compiled import Names, NotCompiledError
from inference.views.elements import UNKNOWN
from inference.views.fallback import evaluate_by_fhirpathpy
from inference.views.grammar import parse_path
from inference.views.scope import Evaluate
from kernel.errors import Category, Problem

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Path:
    """An expression that can be evaluated."""

    evaluate: Evaluate
    #: FHIR type of what it finds; empty where that is not known.
    type: str
    #: Whether it is evaluated by closures.
    compiled: bool


def compile_path(text: str, names: Names) -> Path:
    """Return an expression that can be evaluated.

    Parameters
    ----------
    text
        FHIRPath.
    names
        What its names stand for.

    Raises
    ------
    Problem
        ``incorrect``: what of the expression is wrong.
    """
    tree = parse_path(text)
    try:
        found = compile_tree(tree, names)
    except NotCompiledError:
        constants = {name: value for name, (_, value) in names.constants.items()}
        evaluate = evaluate_by_fhirpathpy(text, tree, names.type, constants)
        return Path(evaluate=evaluate, type=UNKNOWN, compiled=False)
    return Path(evaluate=found.evaluate, type=found.type, compiled=True)


def at_place(place: str, make: Callable[[], T]) -> T:
    """Return what a function makes; what it finds wrong is said with its place.

    Parameters
    ----------
    place
        Where the definition says what is made.
    make
        The function.

    Raises
    ------
    Problem
        Of the same category.
    """
    try:
        return make()
    except Problem as problem:
        detail = f"{place}: {problem.detail}"
        raise Problem(Category.INCORRECT, detail, diagnostics=problem.diagnostics) from problem
