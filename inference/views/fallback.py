"""FHIRPath that is not compiled here, evaluated by fhirpathpy.

Its tables of a running evaluation are of the process: one thread at a time evaluates.
"""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from inference.views.elements import UNKNOWN, model
from inference.views.grammar import Binary, Call, Indexed, Member, Node, Sign
from inference.views.scope import Evaluate, Scope
from inference.views.values import reference_key, resource_key
from kernel.errors import Category, Problem

_ONE_AT_A_TIME: Final = threading.Lock()
_RESULTS: Final = frozenset({"resolve", "now", "today", "timeOfDay", "trace"})
"""Functions whose results are not those of the resource alone."""


def evaluate_by_fhirpathpy(text: str, tree: Node, type_: str, constants: Mapping[str, Any]) -> Evaluate:
    """Return a function that evaluates an expression.

    Parameters
    ----------
    text
        The expression.
    tree
        What :func:`~inference.views.grammar.parse_path` read of it.
    type_
        FHIR type, or path, of what it is evaluated on; empty where that is not known.
    constants
        Names that stand for a value.

    Raises
    ------
    Problem
        ``incorrect``, naming a function that is not known.
    """
    _check_functions(tree)
    compiled = _compiled(text)
    from fhirpathpy.engine.nodes import FP_Type, ResourceNode  # noqa: PLC0415 - loads a parser; few views need it

    node_of: Callable[[Any, str | None], Any] = ResourceNode

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        nodes = [node_of(it, type_ or None) for it in focus]
        known = {"resource": scope.resource, "rootResource": scope.resource, "rowIndex": scope.row, **constants}
        try:
            with _ONE_AT_A_TIME:
                found = compiled(nodes, known)
        except Exception as failure:
            detail = f"{text!r} cannot be evaluated"
            raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure
        return [str(it) if isinstance(it, FP_Type) else it for it in found if it is not None]

    return evaluate


@lru_cache(maxsize=1_000)
def _compiled(text: str) -> Callable[[Any, Any], list[Any]]:
    import fhirpathpy  # noqa: PLC0415 - as above

    try:
        with _ONE_AT_A_TIME:
            made: Callable[[Any, Any], list[Any]] = fhirpathpy.compile(
                text, dict(model()), {"userInvocationTable": _OWN}
            )
    except Exception as failure:
        raise Problem(Category.INCORRECT, f"{text!r} is not FHIRPath", diagnostics=repr(failure)) from failure
    return made


def _reference_keys(references: list[Any], type_: Any = None) -> list[str]:
    wanted = getattr(type_, "name", "") or UNKNOWN
    found = [reference_key(getattr(it, "data", it), wanted) for it in references]
    return [it for it in found if it is not None]


def _resource_keys(resources: list[Any]) -> list[str]:
    found = [resource_key(getattr(it, "data", it)) for it in resources]
    return [it for it in found if it is not None]


_OWN: Final[Mapping[str, Any]] = {
    "getResourceKey": {"fn": _resource_keys, "arity": {0: []}},
    "getReferenceKey": {"fn": _reference_keys, "arity": {0: [], 1: ["TypeSpecifier"]}},
}


def _check_functions(tree: Node) -> None:
    from fhirpathpy.engine.invocations import invocation_registry  # noqa: PLC0415 - as above

    for name in _functions(tree):
        if name in _RESULTS or (name not in invocation_registry and name not in _OWN):
            raise Problem(Category.INCORRECT, f"the function {name}() is not offered here")


def _functions(tree: Node) -> list[str]:
    if isinstance(tree, Call):
        inner = [name for it in (tree.target, *tree.arguments) if it is not None for name in _functions(it)]
        return [tree.name, *inner]
    if isinstance(tree, Member):
        return [] if tree.target is None else _functions(tree.target)
    if isinstance(tree, Indexed):
        return _functions(tree.target) + _functions(tree.index)
    if isinstance(tree, Binary):
        return _functions(tree.left) + _functions(tree.right)
    return _functions(tree.operand) if isinstance(tree, Sign) else []
