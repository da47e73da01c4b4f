"""Compiles the FHIRPath of invariants to closures over plain JSON (FHIRPath N1, http://hl7.org/fhirpath/N1).

Only what R4's invariants and those of common profiles use. Anything else raises :class:`UnsupportedError` when it is
compiled, so that an invariant is either checked or listed as not checked. Collections are lists; ``{}`` is ``[]``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

from fhir_adapter.validation.fhirpath_functions import (
    BINARY,
    FUNCTIONS,
    ITERATING,
    Env,
    UnsupportedError,
    children_named,
    truth,
)
from fhir_adapter.validation.table import choice_name, r4

Evaluate: TypeAlias = Callable[[list[Any], Env], list[Any]]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[$%]?[A-Za-z_][A-Za-z0-9_]*|`[A-Za-z_]+`)"
    r"|(?P<mark><=|>=|!=|[()\[\].,|&=<>+~{}]))"
)
_ESCAPES: Final = re.compile(r"\\(.)")
_LEVELS: Final[Sequence[frozenset[str]]] = (
    frozenset({"implies"}),
    frozenset({"or", "xor"}),
    frozenset({"and"}),
    frozenset({"in", "contains"}),
    frozenset({"=", "!="}),
    frozenset({"<", ">", "<=", ">="}),
    frozenset({"|"}),
    frozenset({"is", "as"}),
    frozenset({"+", "&"}),
)
"""Operators from the loosest to the tightest (FHIRPath N1, section 6.8)."""


_PRIMITIVES: Final = frozenset({"boolean", "Boolean", "decimal", "integer"})
"""Types of which a value in JSON shows that it is of them."""


def compile_expression(text: str, choices: Mapping[str, Sequence[str]]) -> Callable[[Any, Any], bool]:
    """Return a function of an element and its resource that says whether an invariant holds.

    Parameters
    ----------
    text
        FHIRPath.
    choices
        Name of a choice without its type -> its names with a type.

    Raises
    ------
    UnsupportedError
        For an expression that this compiler does not know.
    """
    parser = _Parser(text, choices)
    evaluate = parser.expression(0)
    parser.end()

    def holds(value: Any, resource: Any) -> bool:
        # An invariant must be true (R4, conformance-rules.html), so one that has no result does not hold.
        return truth(evaluate([value], Env(resource=resource, context=value, this=[value]))) is True

    return holds


class _Parser:
    """A recursive descent; each rule returns the closure of what it has read."""

    def __init__(self, text: str, choices: Mapping[str, Sequence[str]]) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._choices = choices
        #: The choice with which the last path ends: where that is, what is before it, its name without a type.
        self._choice: tuple[int, Evaluate, str] | None = None

    def end(self) -> None:
        if self._at != len(self._tokens):
            raise UnsupportedError(self._tokens[self._at])

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise UnsupportedError(f"{expected or 'more'} expected")
        self._at += 1
        return token

    def expression(self, level: int) -> Evaluate:
        if level == len(_LEVELS):
            return self._path()
        left = self.expression(level + 1)
        while self._peek() in _LEVELS[level]:
            operator = self._take()
            if operator in {"is", "as"}:
                of_choice = self._of_choice(self._at - 1, self._peek())
                left = _tested(of_choice, operator) if of_choice else _typed(left, operator, self._peek())
                self._take()
            else:
                left = _binary(operator, left, self.expression(level + 1))
        return left

    def _path(self) -> Evaluate:
        name = self._peek()
        found = self._term()
        self._note(name, _focus)
        while self._peek() == ".":
            self._take()
            name = self._take()
            of_choice = self._of_choice(self._at - 2, self._ahead()) if name in {"as", "ofType"} else None
            if of_choice:
                self._at += 3  # the type in its parentheses
                found = of_choice
                continue
            before = found
            found = _joined(found, self._invocation(name))
            self._note(name, before)
        return found

    def _note(self, name: str, before: Evaluate) -> None:
        """Note that a path has come to a choice of types: a test of its type asks for the name in JSON."""
        is_choice = name in self._choices and self._tokens[self._at - 1] == name
        self._choice = (self._at, before, name) if is_choice else None

    def _ahead(self) -> str:
        """Return the type in the parentheses that follow."""
        return self._tokens[self._at + 1] if self._peek() == "(" and self._at + 2 < len(self._tokens) else ""

    def _of_choice(self, at: int, type_: str) -> Evaluate | None:
        """Return a choice as one of its types; None where the path does not end with a choice that has it."""
        if self._choice is None or self._choice[0] != at or not type_:
            return None
        _, before, stem = self._choice
        if type_ in _PRIMITIVES or not _is_mostly_choice(stem, type_):
            return None
        name = choice_name(stem, type_)
        return _joined(before, _child(name, ())) if name in self._choices[stem] else None

    def _term(self) -> Evaluate:
        read = self._take()
        if read == "(":
            inner = self.expression(0)
            self._take(")")
            return inner
        if read == "{":
            self._take("}")
            return lambda _focus, _env: []
        if read[0] == "'":
            return _constant(_ESCAPES.sub(_unescaped, read[1:-1]))
        if read[0].isdigit():
            return _constant(float(read) if "." in read else int(read))
        if read in {"true", "false"}:
            return _constant(read == "true")
        if read[0] == "%":
            return _variable(read[1:])
        return self._invocation(read)

    def _invocation(self, name: str) -> Evaluate:
        if name == "$this":
            return lambda _focus, env: env.this
        if not name[0].isalpha():
            raise UnsupportedError(name)
        if self._peek() != "(":
            return _child(name, self._choices.get(name, ()))
        self._take()
        if name in {"is", "as", "ofType"}:
            type_ = self._take()
            self._take(")")
            return _typed(lambda focus, _env: focus, name, type_)
        arguments = []
        while self._peek() != ")":
            arguments.append(self.expression(0))
            if self._peek() == ",":
                self._take()
        self._take(")")
        return _call(name, arguments)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            raise UnsupportedError(stripped[at : at + 10])
        yield match[0].strip().strip("`")
        at = match.end()


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(match[1], match[1])


def _constant(value: Any) -> Evaluate:
    result = [value]
    return lambda _focus, _env: result


def _variable(name: str) -> Evaluate:
    if name == "ucum":
        return _constant("http://unitsofmeasure.org")
    if name == "resource":
        return lambda _focus, env: [env.resource]
    if name == "context":
        return lambda _focus, env: [env.context]
    raise UnsupportedError(f"%{name}")


def _child(name: str, names: Sequence[str]) -> Evaluate:
    if name[0].isupper():  # the type of the context, as in Appointment.status
        return lambda focus, _env: focus

    def evaluate(focus: list[Any], _env: Env) -> list[Any]:
        return [found for item in focus if type(item) is dict for found in children_named(item, name, names)]

    return evaluate


def _joined(first: Evaluate, then: Evaluate) -> Evaluate:
    return lambda focus, env: then(first(focus, env), env)


def _binary(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    apply = BINARY[operator]
    return lambda focus, env: apply(left(focus, env), right(focus, env))


@cache
def _is_mostly_choice(stem: str, type_: str) -> bool:
    """Return whether R4's elements of a name and type are choices rather than elements of this one type.

    The name in JSON of the latter does not show their type: of ``code`` nothing can be said, of ``value`` it can.
    """
    elements = [it for structure in r4().structures.values() for it in structure.elements if type_ in it.types]
    return sum(it.name == f"{stem}[x]" for it in elements) > sum(it.name == stem for it in elements)


def _focus(focus: list[Any], _env: Env) -> list[Any]:
    return focus


def _tested(found: Evaluate, operator: str) -> Evaluate:
    """Return a choice as a type, or whether it is of the type."""
    return found if operator == "as" else lambda focus, env: [bool(found(focus, env))]


def _typed(found: Evaluate, operator: str, type_: str) -> Evaluate:
    def fits(item: Any) -> bool:
        if type_ in {"boolean", "Boolean"}:
            return type(item) is bool
        if type_ in {"decimal", "integer"}:
            return type(item) is int or type(item) is float
        return type(item) is dict and item.get("resourceType") == type_

    if type_ not in _PRIMITIVES and type_ not in r4().resources:
        raise UnsupportedError(f"{operator} {type_}")
    if operator == "is":
        # R4's ras-2 has no guard for nothing, which is of no type.
        return lambda focus, env: [fits(item) for item in found(focus, env)] or [False]
    return lambda focus, env: [item for item in found(focus, env) if fits(item)]


def _call(name: str, arguments: Sequence[Evaluate]) -> Evaluate:
    if name in ITERATING and len(arguments) == 1:
        iterate, each = ITERATING[name], arguments[0]
        return lambda focus, env: iterate(
            focus, [each([it], Env(resource=env.resource, context=env.context, this=[it])) for it in focus]
        )
    if name == "iif" and len(arguments) in {2, 3}:
        condition, then, *rest = arguments
        otherwise = rest[0] if rest else _constant_empty
        return lambda focus, env: (then if truth(condition(focus, env)) else otherwise)(focus, env)
    function = FUNCTIONS.get((name, len(arguments)))
    if function is None:
        raise UnsupportedError(f"{name}()")
    if not arguments:
        return lambda focus, _env: function(focus, [])
    argument = arguments[0]
    return lambda focus, env: function(focus, argument(env.this, env))


def _constant_empty(_focus: list[Any], _env: Env) -> list[Any]:
    return []
