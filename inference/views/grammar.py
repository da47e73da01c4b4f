"""Reads FHIRPath into a tree (FHIRPath N1, http://hl7.org/fhirpath/N1/#grammar); nothing is evaluated here.

The whole grammar is read, so that a wrong expression is refused when a view is defined, whichever engine evaluates it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from kernel.errors import Category, Problem

DEEPEST: Final = 50
"""Most levels of nested parentheses."""
LONGEST: Final = 4_000
"""Most characters of one expression."""


@dataclass(frozen=True)
class Literal:
    """A value that stands in the expression."""

    #: Its FHIRPath type, lower case where FHIR has a type of that name; empty for ``{}``.
    type: str
    value: str | bool | int | Decimal | None


@dataclass(frozen=True)
class Variable:
    """``%name``, or ``$this``, ``$index`` and ``$total`` with their ``$``."""

    name: str


@dataclass(frozen=True)
class Member:
    """The children of a name; without a target those of the context."""

    target: "Node | None"
    name: str


@dataclass(frozen=True)
class Call:
    """A function; without a target it is called on the context."""

    target: "Node | None"
    name: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True)
class Indexed:
    """``target[index]``."""

    target: "Node"
    index: "Node"


@dataclass(frozen=True)
class Binary:
    """An operator between two expressions; of ``is`` and ``as`` the right one is a :class:`Literal` type name."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True)
class Sign:
    """``+`` or ``-`` before an expression."""

    operator: str
    operand: "Node"


Node: TypeAlias = Literal | Variable | Member | Call | Indexed | Binary | Sign

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')"
    r"|(?P<time>@(?:\d{4}(?:-\d\d(?:-\d\d)?)?(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)?(?:Z|[+-]\d\d:\d\d)?)?"
    r"|T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?))"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<variable>%(?:`[^`]+`|'[^']+'|[A-Za-z_][A-Za-z0-9_-]*)|\$(?:this|index|total))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*|`(?:[^`\\]|\\.)+`)"
    r"|(?P<mark><=|>=|!=|!~|[()\[\].,|&=~<>+\-*/{}]))"
)
_SPACE: Final = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_LEVELS: Final[Sequence[frozenset[str]]] = (
    frozenset({"implies"}),
    frozenset({"or", "xor"}),
    frozenset({"and"}),
    frozenset({"in", "contains"}),
    frozenset({"=", "!=", "~", "!~"}),
    frozenset({"<", ">", "<=", ">="}),
    frozenset({"|"}),
    frozenset({"is", "as"}),
    frozenset({"+", "-", "&"}),
    frozenset({"*", "/", "div", "mod"}),
)
"""Operators from the loosest to the tightest (FHIRPath N1, section 6.8)."""
_UNITS: Final = frozenset(
    f"{unit}{plural}"
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in ("", "s")
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def parse_path(text: str) -> Node:
    """Read a FHIRPath expression.

    Raises
    ------
    Problem
        ``incorrect``, naming what is not understood.
    """
    if len(text) > LONGEST:
        raise Problem(Category.INCORRECT, f"an expression may have {LONGEST} characters")
    parser = _Parser(list(_tokens(text)))
    node = parser.expression(0)
    parser.end()
    return node


def _tokens(text: str) -> Iterator[_Token]:
    at = _end_of_space(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Problem(Category.INCORRECT, f"{text[at : at + 20]!r} is not FHIRPath")
        yield _Token(match.lastgroup, match[match.lastgroup])
        at = _end_of_space(text, match.end())


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


class _Parser:
    """A recursive descent; each rule returns the node of what it has read."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def end(self) -> None:
        if self._at != len(self._tokens):
            raise Problem(Category.INCORRECT, f"{self._tokens[self._at].text!r} is not expected here")

    def expression(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._sign()
        left = self.expression(level + 1)
        while self._peek() in _LEVELS[level]:
            operator = self._take().text
            right = self._type() if operator in {"is", "as"} else self.expression(level + 1)
            left = Binary(operator, left, right)
        return left

    def _peek(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> _Token:
        if self._at == len(self._tokens):
            raise Problem(Category.INCORRECT, f"the expression ends where {expected or 'more'} is expected")
        token = self._tokens[self._at]
        if expected and token.text != expected:
            raise Problem(Category.INCORRECT, f"{token.text!r} stands where {expected} is expected")
        self._at += 1
        return token

    def _sign(self) -> Node:
        if self._peek() in {"+", "-"}:
            return Sign(self._take().text, self._sign())
        return self._path()

    def _path(self) -> Node:
        node = self._term()
        while self._peek() in {".", "["}:
            if self._take().text == ".":
                node = self._invocation(node, self._take())
            else:
                node = Indexed(node, self._nested("]"))
        return node

    def _term(self) -> Node:
        token = self._take()
        if token.kind == "string":
            return Literal("string", _unquoted(token.text))
        if token.kind == "number":
            return self._number(token.text)
        if token.kind == "time":
            return _time(token.text)
        if token.kind == "variable":
            return Variable(token.text.removeprefix("%").strip("`'"))
        if token.text in {"true", "false"}:
            return Literal("boolean", token.text == "true")
        if token.text == "(":
            return self._nested(")")
        if token.text == "{":
            self._take("}")
            return Literal("", None)
        return self._invocation(None, token)

    def _number(self, text: str) -> Node:
        following = self._tokens[self._at] if self._at < len(self._tokens) else None
        if following is not None and (following.kind == "string" or following.text in _UNITS):
            self._at += 1
            return Literal("Quantity", f"{text} {following.text}")
        return Literal("decimal", Decimal(text)) if "." in text else Literal("integer", int(text))

    def _invocation(self, target: Node | None, token: _Token) -> Node:
        if token.kind == "variable" and token.text.startswith("$"):
            return Variable(token.text)
        if token.kind != "name":
            raise Problem(Category.INCORRECT, f"{token.text!r} stands where a name is expected")
        name = _unquoted(token.text) if token.text[0] == "`" else token.text
        if self._peek() != "(" or token.text[0] == "`":
            return Member(target, name)
        self._take("(")
        if self._peek() == ")":
            self._take()
            return Call(target, name, ())
        arguments = []
        while True:
            self._enter()
            arguments.append(self.expression(0))
            self._depth -= 1
            if self._peek() != ",":
                break
            self._take()
        self._take(")")
        return Call(target, name, tuple(arguments))

    def _nested(self, closing: str) -> Node:
        self._enter()
        node = self.expression(0)
        self._take(closing)
        self._depth -= 1
        return node

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Problem(Category.INCORRECT, f"an expression may have {DEEPEST} nested parentheses")

    def _type(self) -> Node:
        name = self._take().text
        while self._peek() == ".":
            self._take()
            name += "." + self._take().text
        return Literal("type", name)


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPED.get(found[2], found[2]), text[1:-1]
    )


def _time(text: str) -> Literal:
    value = text[1:]
    if value.startswith("T"):
        return Literal("time", value[1:])
    return Literal("dateTime" if "T" in value else "date", value.removesuffix("T"))
