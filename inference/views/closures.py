"""FHIRPath compiled to closures over plain JSON: the expressions that views mostly consist of.

Every step knows the FHIR type of what it finds, so that a choice of types becomes the names that it has in JSON, and an
operator is compiled only for values that it is defined for. What this module does not know raises
:class:`NotCompiledError`; :mod:`inference.views.fallback` evaluates it. The order of an expression's results is that of
the elements, and a primitive that has only extensions is the object with them; in a list such a one is left out.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from inference.views.compiled import Compiled, Names, NotCompiledError, joined
from inference.views.elements import (
    NOTHING,
    NUMBERS,
    PRIMITIVES,
    STRINGS,
    TIMES,
    UNKNOWN,
    Child,
    children,
    is_resource,
)
from inference.views.grammar import Binary, Call, Indexed, Literal, Member, Node, Sign, Variable
from inference.views.scope import Evaluate, Scope
from inference.views.values import (
    EQUAL,
    LOGIC,
    ORDER,
    arithmetic,
    high_boundary,
    low_boundary,
    ordered,
    reference_key,
    resource_key,
    single,
)
from kernel.errors import Category, Problem


def compile_tree(tree: Node, names: Names) -> Compiled:
    """Return an expression as a closure.

    Parameters
    ----------
    tree
        The expression.
    names
        What its names stand for.

    Raises
    ------
    NotCompiledError
        When it uses what is not compiled.
    Problem
        ``incorrect`` for a constant that the view does not define.
    """
    if isinstance(tree, Literal):
        return _constant(tree.type, tree.value)
    if isinstance(tree, Variable):
        return _variable(tree.name, names)
    if isinstance(tree, Member):
        return _root(tree.name, names) if tree.target is None else _member(compile_tree(tree.target, names), tree.name)
    if isinstance(tree, Call):
        target = _context(names) if tree.target is None else compile_tree(tree.target, names)
        return _call(target, tree, names)
    if isinstance(tree, Indexed):
        return _indexed(compile_tree(tree.target, names), compile_tree(tree.index, names))
    if isinstance(tree, Binary):
        return _binary(tree, names)
    return _signed(tree)


def _context(names: Names) -> Compiled:
    return Compiled(evaluate=lambda focus, _scope: focus, type=names.type, names=())


def _constant(type_: str, value: Any) -> Compiled:
    if type_ in {"Quantity", "type"}:
        raise NotCompiledError(type_)
    result = [] if value is None else [value]
    return Compiled(evaluate=lambda _focus, _scope: result, type=type_ or NOTHING)


def _variable(name: str, names: Names) -> Compiled:
    if name == "$this":
        return _context(names)
    if name == "rowIndex":
        return Compiled(evaluate=lambda _focus, scope: [scope.row], type="integer")
    if name in {"resource", "rootResource"}:
        return Compiled(evaluate=lambda _focus, scope: [scope.resource], type=names.resource)
    if name == "ucum":
        return _constant("string", "http://unitsofmeasure.org")
    if name in names.constants:
        return _constant(*names.constants[name])
    if name.startswith("$") or name == "context":
        raise NotCompiledError(name)
    raise Problem(Category.INCORRECT, f"the constant %{name} is not defined")


def _root(name: str, names: Names) -> Compiled:
    if name == names.type:
        return _context(names)
    if name[0].isupper():
        raise NotCompiledError(name)
    return _member(_context(names), name)


def _member(target: Compiled, name: str) -> Compiled:
    if target.type in {UNKNOWN, "Resource", "DomainResource"}:
        raise NotCompiledError(name)
    found = () if target.type == NOTHING else tuple(children(target.type, name))
    if not found and target.type in PRIMITIVES:
        raise NotCompiledError(name)
    if len(found) > 1:
        each = [joined(target, (child.name,)).evaluate for child in found]
        return Compiled(evaluate=_first_found(each), type=UNKNOWN, choice=(target, found))
    if target.type in PRIMITIVES:
        raise NotCompiledError(name)
    only = found[0] if found else Child(name, NOTHING)
    made = joined(target, (only.name,), only.type)
    is_choice = only.name != name
    return Compiled(
        evaluate=made.evaluate, type=only.type, names=made.names, choice=(target, found) if is_choice else None
    )


def _first_found(each: list[Evaluate]) -> Evaluate:
    """Return the values of a choice; no element has more than one of its types."""
    if len(each) == 1:
        return each[0]

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        return [found for item in focus for it in each for found in it([item], scope)]

    return evaluate


def _indexed(target: Compiled, index: Compiled) -> Compiled:
    if index.type != "integer":
        raise NotCompiledError("[]")
    find, place = target.evaluate, index.evaluate

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        at = place(focus, scope)
        return find(focus, scope)[at[0] : at[0] + 1] if at and at[0] >= 0 else []

    return Compiled(evaluate=evaluate, type=target.type)


def _signed(tree: Sign) -> Compiled:
    operand = tree.operand
    if isinstance(operand, Literal) and isinstance(operand.value, int | Decimal) and operand.type in NUMBERS:
        return _constant(operand.type, -operand.value if tree.operator == "-" else operand.value)
    raise NotCompiledError(tree.operator)


def _binary(tree: Binary, names: Names) -> Compiled:
    if tree.operator in {"is", "as"}:
        raise NotCompiledError(tree.operator)
    left, right = compile_tree(tree.left, names), compile_tree(tree.right, names)
    whole = tree.operator != "/" and "decimal" not in {left.type, right.type}
    apply, type_ = _operator(tree.operator, _kind(left), _kind(right), whole=whole)
    first, second = left.evaluate, right.evaluate
    return Compiled(evaluate=lambda focus, scope: apply(first(focus, scope), second(focus, scope)), type=type_)


def _kind(side: Compiled) -> str:
    for kind, types in (("text", STRINGS), ("number", NUMBERS), ("time", TIMES), ("boolean", {"boolean"})):
        if side.type in types:
            return kind
    if side.type == NOTHING:
        return NOTHING
    raise NotCompiledError(side.type)


_Apply: TypeAlias = Callable[[list[Any], list[Any]], list[Any]]


def _operator(operator: str, left: str, right: str, *, whole: bool) -> tuple[_Apply, str]:
    kinds = {left, right} - {NOTHING}
    kind = kinds.pop() if len(kinds) == 1 else ""
    if operator in LOGIC and kind == "boolean":
        return LOGIC[operator], "boolean"
    if {left, right} == {"text", "time"} and operator in {"=", "!="}:
        kind = "time"
    if operator == "=" and kind in EQUAL:
        return EQUAL[kind], "boolean"
    if operator == "!=" and kind in EQUAL:
        same = EQUAL[kind]
        return lambda first, second: [not it for it in same(first, second)], "boolean"
    if operator in {"<", "<=", ">", ">="} and kind in ORDER:
        return ordered(ORDER[kind], operator), "boolean"
    if operator in {"+", "-", "*", "/"} and kind == "number":
        return arithmetic(operator, whole=whole), "integer" if whole else "decimal"
    raise NotCompiledError(operator)


def _call(target: Compiled, call: Call, names: Names) -> Compiled:
    if call.name in {"ofType", "getReferenceKey"} and call.arguments:
        (argument,) = call.arguments if len(call.arguments) == 1 else (None,)
        if not isinstance(argument, Member) or argument.target is not None:
            raise NotCompiledError(call.name)
        return _of_type(target, argument.name) if call.name == "ofType" else _reference_keys(target, argument.name)
    make = _FUNCTIONS.get((call.name, len(call.arguments)))
    if make is None:
        raise NotCompiledError(f"{call.name}()")
    return make(target, call.arguments, names)


def _of_type(target: Compiled, type_: str) -> Compiled:
    if target.choice is not None:
        before, types = target.choice
        for child in types:
            if child.type == type_:
                return joined(before, (child.name,), type_)
    if target.type == type_:
        return target
    if target.type in {"Resource", "DomainResource"} and is_resource(type_):
        find = target.evaluate
        return Compiled(
            evaluate=lambda focus, scope: [it for it in find(focus, scope) if it.get("resourceType") == type_],
            type=type_,
        )
    raise NotCompiledError(f"ofType({type_})")


def _reference_keys(target: Compiled, type_: str) -> Compiled:
    if target.type not in {"Reference", NOTHING}:
        raise NotCompiledError("getReferenceKey()")
    find = target.evaluate

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        return [key for it in find(focus, scope) if (key := reference_key(it, type_)) is not None]

    return Compiled(evaluate=evaluate, type="string")


def _resource_keys(target: Compiled, _arguments: tuple[Node, ...], _names: Names) -> Compiled:
    if not is_resource(target.type):
        raise NotCompiledError("getResourceKey()")
    return _each(target, resource_key, "string")


def _each(target: Compiled, convert: Callable[[Any], Any], type_: str) -> Compiled:
    find = target.evaluate

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        return [made for it in find(focus, scope) if (made := convert(it)) is not None]

    return Compiled(evaluate=evaluate, type=type_)


def _whole(convert: Callable[[list[Any]], list[Any]], type_: str | None = None) -> "_Function":
    """Return a function of all that was found; of no type of its own it keeps that of what was found."""

    def make(target: Compiled, _arguments: tuple[Node, ...], _names: Names) -> Compiled:
        find = target.evaluate
        found = target.type if type_ is None else type_
        return Compiled(evaluate=lambda focus, scope: convert(find(focus, scope)), type=found)

    return make


def _not(target: Compiled, _arguments: tuple[Node, ...], _names: Names) -> Compiled:
    if target.type != "boolean":
        raise NotCompiledError("not()")
    find = target.evaluate
    return Compiled(
        evaluate=lambda focus, scope: [not single(it)] if (it := find(focus, scope)) else [], type="boolean"
    )


def _where(target: Compiled, arguments: tuple[Node, ...], names: Names) -> Compiled:
    inner = Names(type=target.type, resource=names.resource, constants=names.constants)
    criterion = compile_tree(arguments[0], inner)
    if criterion.type not in {"boolean", NOTHING}:
        raise NotCompiledError("where()")
    find, holds = target.evaluate, criterion.evaluate

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        return [it for it in find(focus, scope) if holds([it], scope) == _TRUE]

    return Compiled(evaluate=evaluate, type=target.type)


def _exists_where(target: Compiled, arguments: tuple[Node, ...], names: Names) -> Compiled:
    find = _where(target, arguments, names).evaluate
    return Compiled(evaluate=lambda focus, scope: [bool(find(focus, scope))], type="boolean")


def _text_argument(argument: Node, names: Names) -> str:
    """Return a text that is known before the view runs."""
    if isinstance(argument, Variable) and argument.name in names.constants:
        type_, value = names.constants[argument.name]
        argument = Literal(type_, value)
    if not isinstance(argument, Literal) or not isinstance(argument.value, str):
        raise NotCompiledError("an argument that is no text")
    return argument.value


def _extension(target: Compiled, arguments: tuple[Node, ...], names: Names) -> Compiled:
    if target.type in PRIMITIVES or target.type in {NOTHING, UNKNOWN}:
        raise NotCompiledError("extension()")
    url = _text_argument(arguments[0], names)
    find = joined(target, ("extension",)).evaluate
    return Compiled(
        evaluate=lambda focus, scope: [it for it in find(focus, scope) if it.get("url") == url], type="Extension"
    )


def _join(target: Compiled, arguments: tuple[Node, ...], names: Names) -> Compiled:
    if target.type not in STRINGS and target.type != NOTHING:
        raise NotCompiledError("join()")
    separator = _text_argument(arguments[0], names) if arguments else ""
    find = target.evaluate

    def evaluate(focus: list[Any], scope: Scope) -> list[Any]:
        return [separator.join(it for it in find(focus, scope) if isinstance(it, str))]

    return Compiled(evaluate=evaluate, type="string")


def _boundary(boundary: Callable[[object, str], Any]) -> "_Function":
    def make(target: Compiled, _arguments: tuple[Node, ...], _names: Names) -> Compiled:
        type_ = target.type
        if type_ not in TIMES and type_ not in NUMBERS:
            raise Problem(
                Category.INCORRECT, "a boundary is one of a decimal, a date, a dateTime, an instant or a time"
            )
        return _each(target, lambda value: boundary(value, type_), "decimal" if type_ in NUMBERS else type_)

    return make


_Function: TypeAlias = Callable[[Compiled, tuple[Node, ...], Names], Compiled]
_TRUE: Final = [True]
_FUNCTIONS: Final[Mapping[tuple[str, int], _Function]] = MappingProxyType(
    {
        ("count", 0): _whole(lambda found: [len(found)], "integer"),
        ("empty", 0): _whole(lambda found: [not found], "boolean"),
        ("exists", 0): _whole(lambda found: [bool(found)], "boolean"),
        ("exists", 1): _exists_where,
        ("extension", 1): _extension,
        ("first", 0): _whole(lambda found: found[:1]),
        ("getReferenceKey", 0): lambda target, _arguments, _names: _reference_keys(target, ""),
        ("getResourceKey", 0): _resource_keys,
        ("highBoundary", 0): _boundary(high_boundary),
        ("join", 0): _join,
        ("join", 1): _join,
        ("last", 0): _whole(lambda found: found[-1:]),
        ("lowBoundary", 0): _boundary(low_boundary),
        ("not", 0): _not,
        ("tail", 0): _whole(lambda found: found[1:]),
        ("where", 1): _where,
    }
)
