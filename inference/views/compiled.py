"""What a compiled expression is, and the closure of the names that most expressions consist of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.views.elements import UNKNOWN, Child
from inference.views.scope import Evaluate, Scope


class NotCompiledError(Exception):
    """An expression uses what the compiler does not know."""


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """An expression, or a part of one."""

    evaluate: Evaluate
    #: FHIR type of what it finds, or the path of an element with children of its own.
    type: str
    #: The names in JSON that lead to it, where it is nothing but such names.
    names: tuple[str, ...] | None = None
    #: Where it ends with a choice of types: what is before that, and the types.
    choice: "tuple[Compiled, tuple[Child, ...]] | None" = None


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the names of an expression stand for."""

    #: FHIR type, or path, of what the expression is evaluated on.
    type: str
    #: Type of the resource.
    resource: str
    #: Name of a constant -> its type and value.
    constants: Mapping[str, tuple[str, Any]]


def chain(names: tuple[str, ...]) -> Evaluate:
    """Return what follows names in JSON, one after the other."""
    steps = tuple((name, f"_{name}") for name in names)

    def follow(focus: list[Any], _scope: Scope) -> list[Any]:
        for name, other in steps:
            found: list[Any] = []
            for item in focus:
                if type(item) is dict:
                    value = item.get(name)
                    if value is None and (value := item.get(other)) is None:
                        continue
                    if type(value) is list:
                        found += [it for it in value if it is not None] if None in value else value
                    else:
                        found.append(value)
            if not found:
                return found
            focus = found
        return focus

    return follow


def joined(target: Compiled, names: tuple[str, ...], type_: str = UNKNOWN) -> Compiled:
    """Return what follows names from where an expression leads.

    Parameters
    ----------
    target
        The expression.
    names
        Names in JSON.
    type_
        Type of what is found.
    """
    if target.names is not None:
        whole = target.names + names
        return Compiled(evaluate=chain(whole), type=type_, names=whole)
    before, follow = target.evaluate, chain(names)
    return Compiled(evaluate=lambda focus, scope: follow(before(focus, scope), scope), type=type_)
