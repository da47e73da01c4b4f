"""Reads a ViewDefinition (SQL on FHIR v2, https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition.html)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from inference.views.elements import NUMBERS, PRIMITIVES, is_resource
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ITERATIONS: Final = ("forEach", "forEachOrNull", "repeat")
_DESCRIPTIVE: Final = ("id", "extension", "modifierExtension", "description", "tag")
"""Keys that say nothing about the rows."""
DEEPEST: Final = 20
"""Most levels of selects within selects."""
_VALUE: Final = "value"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    name: str
    #: FHIRPath.
    path: str
    #: FHIR type; None where the view states none.
    type: str | None
    #: Whether its values are lists.
    collection: bool
    #: Where it is declared, for error messages.
    place: str


@dataclass(frozen=True, kw_only=True)
class Select:
    """Columns, of the elements that one expression finds or of the element around."""

    columns: tuple[Column, ...]
    selects: "tuple[Select, ...]"
    union: "tuple[Select, ...]"
    #: ``forEach`` or ``forEachOrNull``; None where there is neither.
    each: str | None
    #: Whether no element gives one row without values: ``forEachOrNull``.
    or_null: bool
    #: Expressions that are followed again from every element that they find.
    repeat: tuple[str, ...]
    place: str

    @property
    def is_iteration(self) -> bool:
        """Whether its rows are of elements of their own."""
        return self.each is not None or bool(self.repeat)

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """Its columns and those of what is within it, in the order of the rows."""
        inner = tuple(column for select in self.selects for column in select.all_columns)
        return self.columns + inner + (self.union[0].all_columns if self.union else ())


@dataclass(frozen=True, kw_only=True)
class ViewDefinition:
    """What a ViewDefinition declares."""

    #: Empty where it has none.
    name: str
    resource: str
    #: Name -> FHIR type and value.
    constants: Mapping[str, tuple[str, Any]]
    #: (FHIRPath, where it is declared).
    where: tuple[tuple[str, str], ...]
    selects: tuple[Select, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in the order of the rows."""
        return tuple(column for select in self.selects for column in select.all_columns)


def parse_view(content: object) -> ViewDefinition:
    """Read the JSON of a ViewDefinition.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    table = YamlMapping("ViewDefinition", content)
    resource = table.text("resource")
    if not is_resource(resource):
        raise Problem(Category.INCORRECT, f"ViewDefinition.resource: R4 has no resource {resource}")
    selects = tuple(_select(one, 1) for one in table.tables("select"))
    if not selects:
        raise Problem(Category.INCORRECT, "ViewDefinition.select must not be empty")
    view = ViewDefinition(
        name=table.text("name") if table.has("name") else "",
        resource=resource,
        constants=_constants(table.tables("constant") if table.has("constant") else ()),
        where=tuple(_where(one) for one in (table.tables("where") if table.has("where") else ())),
        selects=selects,
    )
    _check_names(view.columns)
    return view


def _select(table: YamlMapping, depth: int) -> Select:
    if depth > DEEPEST:
        raise Problem(Category.INCORRECT, f"{table.place}: a select may have {DEEPEST} levels")
    named = [key for key in _ITERATIONS if table.has(key)]
    if len(named) > 1:
        raise Problem(Category.INCORRECT, f"{table.place} has {' and '.join(named)}; one of them may be given")
    each = table.take(named[0], str) if named and named[0] != "repeat" else None
    select = Select(
        columns=tuple(_column(one) for one in _tables(table, "column")),
        selects=tuple(_select(one, depth + 1) for one in _tables(table, "select")),
        union=tuple(_select(one, depth + 1) for one in _tables(table, "unionAll")),
        each=each,
        or_null=named == ["forEachOrNull"],
        repeat=table.texts("repeat"),
        place=table.place,
    )
    _done(table)
    if named == ["repeat"] and not select.repeat:
        raise Problem(Category.INCORRECT, f"{table.place}.repeat must not be empty")
    if not select.all_columns:
        raise Problem(Category.INCORRECT, f"{table.place} has no column")
    _check_union(select)
    return select


def _tables(table: YamlMapping, key: str) -> Sequence[YamlMapping]:
    return table.tables(key) if table.has(key) else ()


def _done(table: YamlMapping) -> None:
    for key in _DESCRIPTIVE:
        if table.has(key):
            table.take(key, object)
    table.done()


def _column(table: YamlMapping) -> Column:
    type_ = table.text("type").rpartition("/")[2] if table.has("type") else None
    column = Column(
        name=table.text("name"),
        path=table.take("path", str),
        type=type_,
        collection=table.take("collection", bool) if table.has("collection") else False,
        place=table.place,
    )
    _done(table)
    if not _NAME.fullmatch(column.name):
        raise Problem(Category.INCORRECT, f"{table.place}.name must be letters, digits and _, and begin with a letter")
    return column


def _check_names(columns: Sequence[Column]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise Problem(Category.INCORRECT, f"{column.place}.name: {column.name} is declared twice")
        seen.add(column.name)


def _check_union(select: Select) -> None:
    """Refuse parts of a union that have not the same columns in the same order."""
    for part in select.union[1:]:
        names = [column.name for column in part.all_columns]
        first = [column.name for column in select.union[0].all_columns]
        if names != first:
            detail = f"{part.place} has the columns {', '.join(names)}, and the first of the union {', '.join(first)}"
            raise Problem(Category.INCORRECT, detail)


def _where(table: YamlMapping) -> tuple[str, str]:
    path = table.take("path", str)
    _done(table)
    return path, table.place


def _constants(tables: Sequence[YamlMapping]) -> Mapping[str, tuple[str, Any]]:
    constants: dict[str, tuple[str, Any]] = {}
    for table in tables:
        name = table.text("name")
        if not _NAME.fullmatch(name) or name in {"resource", "rootResource", "context", "ucum", "rowIndex"}:
            raise Problem(Category.INCORRECT, f"{table.place}.name: {name} cannot be the name of a constant")
        if name in constants:
            raise Problem(Category.INCORRECT, f"{table.place}.name: {name} is declared twice")
        constants[name] = _constant(table)
    return MappingProxyType(constants)


def _constant(table: YamlMapping) -> tuple[str, Any]:
    values = [key for key in table.all_keys() if key.startswith(_VALUE)]
    if len(values) != 1:
        raise Problem(Category.INCORRECT, f"{table.place} must have one value, such as valueString")
    kind = values[0].removeprefix(_VALUE)
    type_ = kind[:1].lower() + kind[1:]
    if type_ not in PRIMITIVES:
        raise Problem(Category.INCORRECT, f"{table.place}.{values[0]} is not of a primitive type")
    if type_ == "boolean":
        return type_, table.take(values[0], bool)
    value = table.take(values[0], object)
    expected = (int, float) if type_ == "decimal" else (int,) if type_ in NUMBERS else (str,)
    if not isinstance(value, expected):
        raise Problem(Category.INCORRECT, f"{table.place}.{values[0]} is not of the type {type_}")
    return type_, value
