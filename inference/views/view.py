"""A ViewDefinition compiled once, and the rows that it makes of a resource.

The algorithm is that of the specification's functional model: the columns of a select, its selects and the union of its
parts are joined each with each; an iteration does so for every element that it finds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from inference.views.compiled import Names
from inference.views.definition import Column, Select, ViewDefinition, parse_view
from inference.views.elements import NOTHING, PRIMITIVES, UNKNOWN
from inference.views.paths import Path, at_place, compile_path
from inference.views.scope import Evaluate, Scope
from kernel.errors import Category, Problem

MOST_ROWS: Final = 100_000
"""Rows that one resource may give."""

Row: TypeAlias = tuple[Any, ...]
_Rows: TypeAlias = Callable[[Any, Scope], list[Row]]
_Cell: TypeAlias = Callable[[Any, Scope], Any]


@dataclass(frozen=True, kw_only=True)
class View:
    """A view that can be run."""

    definition: ViewDefinition
    #: Names of the columns, in the order of the values of a row.
    columns: tuple[str, ...]
    #: FHIR types of the columns, as declared, else as the paths say; empty where neither does.
    types: tuple[str, ...]
    #: Paths that fhirpathpy evaluates.
    slow: tuple[str, ...]
    #: Returns the rows of one resource; of another type than the view's it has none.
    rows: Callable[[Mapping[str, Any]], list[Row]]


def compile_view(content: object) -> View:
    """Compile the JSON of a ViewDefinition.

    Parameters
    ----------
    content
        What a JSON parser made of it.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong, or the path and what is wrong with it.
    """
    definition = parse_view(content)
    compiler = _Compiler(definition)
    names = compiler.names(definition.resource)
    where = [compiler.criterion(path, place, names) for path, place in definition.where]
    selects = [compiler.select(select, names) for select in definition.selects]
    kind = definition.resource

    def rows(resource: Mapping[str, Any]) -> list[Row]:
        if resource.get("resourceType") != kind:
            return []
        scope = Scope(resource, 0)
        if not all(holds(resource, scope) for holds in where):
            return []
        found: list[Row] = [()]
        for select in selects:
            found = _product(found, select(resource, scope))
        return found

    return View(
        definition=definition,
        columns=tuple(column.name for column in definition.columns),
        types=tuple(compiler.types[column.place] for column in definition.columns),
        slow=tuple(compiler.slow),
        rows=rows,
    )


def _product(left: list[Row], right: list[Row]) -> list[Row]:
    if len(left) == 1:
        first = left[0]
        return [first + row for row in right] if first else right
    _check_size(len(left) * len(right))
    return [one + other for one in left for other in right]


def _check_size(rows: int) -> None:
    if rows > MOST_ROWS:
        raise Problem(Category.INCORRECT, f"a resource may give {MOST_ROWS} rows")


class _Compiler:
    """Compiles the parts of one view."""

    def __init__(self, definition: ViewDefinition) -> None:
        self._definition = definition
        #: Place of a column -> its type.
        self.types: dict[str, str] = {}
        self.slow: list[str] = []

    def names(self, type_: str) -> Names:
        """Return what names stand for on an element of a type."""
        return Names(type=type_, resource=self._definition.resource, constants=self._definition.constants)

    def path(self, text: str, place: str, names: Names) -> Path:
        """Compile an expression."""
        path = at_place(place, lambda: compile_path(text, names))
        if not path.compiled:
            self.slow.append(text)
        return path

    def criterion(self, text: str, place: str, names: Names) -> Callable[[Any, Scope], bool]:
        """Compile a criterion of the view, which must be a boolean."""
        path = self.path(text, f"{place}.path", names)
        if path.type not in {"boolean", UNKNOWN, NOTHING}:
            raise Problem(Category.INCORRECT, f"{place}.path: {text!r} is a {path.type}, and must be a boolean")
        evaluate = path.evaluate

        def holds(item: Any, scope: Scope) -> bool:
            found = evaluate([item], scope)
            if found and not (len(found) == 1 and isinstance(found[0], bool)):
                raise Problem(Category.INCORRECT, f"{place}.path: {text!r} is no boolean here")
            return found == [True]

        return holds

    def select(self, select: Select, names: Names) -> _Rows:
        """Compile a select."""
        if not select.is_iteration:
            return self._element(select, names)
        find, type_ = self._elements(select, names)
        element = self._element(select, self.names(type_))
        without = [self._null_row(select)] if select.or_null else []

        def rows(item: Any, scope: Scope) -> list[Row]:
            found = find(item, scope)
            if not found:
                return without
            resource = scope.resource
            made = [row for place, one in enumerate(found) for row in element(one, Scope(resource, place))]
            _check_size(len(made))
            return made

        return rows

    def _element(self, select: Select, names: Names) -> _Rows:
        """Compile what a select makes of one element."""
        cells = tuple(self._cell(column, names) for column in select.columns)
        parts = [self.select(inner, names) for inner in select.selects]
        union = [self.select(inner, names) for inner in select.union]
        if union:
            parts.append(lambda item, scope: [row for part in union for row in part(item, scope)])

        def rows(item: Any, scope: Scope) -> list[Row]:
            found: list[Row] = [tuple([cell(item, scope) for cell in cells])]
            for part in parts:
                found = _product(found, part(item, scope))
            return found

        return rows

    def _elements(self, select: Select, names: Names) -> tuple[_Cell, str]:
        """Return what finds the elements of an iteration, and their type."""
        if select.each is not None:
            key = "forEachOrNull" if select.or_null else "forEach"
            path = self.path(select.each, f"{select.place}.{key}", names)
            evaluate = path.evaluate
            return lambda item, scope: evaluate([item], scope), path.type
        first = [self.path(text, f"{select.place}.repeat", names) for text in select.repeat]
        types = {path.type for path in first} - {NOTHING}
        type_ = types.pop() if len(types) == 1 else (UNKNOWN if types else NOTHING)
        again = [self.path(text, f"{select.place}.repeat", self.names(type_)) for text in select.repeat]
        if {path.type for path in again} - {NOTHING} - {type_}:  # what is found below is of another type
            type_ = UNKNOWN
            again = [self.path(text, f"{select.place}.repeat", self.names(type_)) for text in select.repeat]
        return _repeated([path.evaluate for path in first], [path.evaluate for path in again]), type_

    def _cell(self, column: Column, names: Names) -> _Cell:
        path = self.path(column.path, f"{column.place}.path", names)
        known = path.type if path.type in PRIMITIVES else UNKNOWN
        self.types.setdefault(column.place, column.type or known)
        return _cell(path.evaluate, column)

    def _null_row(self, select: Select) -> Row:
        """Return the row of no element: its place is 0, and everything else is not known."""
        own = tuple(0 if column.path.strip() == "%rowIndex" else None for column in select.columns)
        inner = tuple(
            value
            for one in (*select.selects, *select.union[:1])
            for value in ((None,) * len(one.all_columns) if one.is_iteration else self._null_row(one))
        )
        return own + inner


def _repeated(first: Sequence[Evaluate], again: Sequence[Evaluate]) -> _Cell:
    """Return what follows paths from an element, and again from every element found: parents before children."""

    def find(item: Any, scope: Scope) -> list[Any]:
        found: list[Any] = []
        waiting = [it for evaluate in reversed(first) for it in reversed(evaluate([item], scope))]
        while waiting:
            one = waiting.pop()
            found.append(one)
            _check_size(len(found))
            waiting += [it for evaluate in reversed(again) for it in reversed(evaluate([one], scope))]
        return found

    return find


def _cell(evaluate: Evaluate, column: Column) -> _Cell:
    if column.collection:
        return lambda item, scope: [it for it in evaluate([item], scope) if not _only_extensions(it)]

    def cell(item: Any, scope: Scope) -> Any:
        found = evaluate([item], scope)
        if not found:
            return None
        if len(found) > 1:
            raise Problem(Category.INCORRECT, f"{column.place}: {column.name} has several values; see collection")
        value = found[0]
        return None if type(value) is dict and _only_extensions(value) else value

    return cell


def _only_extensions(value: Any) -> bool:
    """Return whether a value is a primitive without a value."""
    return type(value) is dict and value.keys() <= {"extension", "id"}
