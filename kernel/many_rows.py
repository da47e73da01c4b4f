"""One statement for many sets of values on PostgreSQL: their columns are sent as arrays.

A driver's ``executemany`` binds and executes once for each set. An ``INSERT … SELECT … FROM unnest(…)`` is bound once,
and so is a ``DELETE`` or ``UPDATE`` that joins the arrays.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_INSERT: Final = re.compile(
    r"(?P<into>INSERT INTO \w+ \([^)]*\)) VALUES \((?P<values>(?:[^()]|%\(\w+\)s)*)\)"
    r"(?P<conflict> ON CONFLICT \([^()]*\) DO UPDATE SET [^()%]*)?"
)
_DELETE: Final = re.compile(r"(?P<from>DELETE FROM \w+) WHERE (?P<condition>.*)", re.DOTALL)
_UPDATE: Final = re.compile(r"(?P<set>UPDATE \w+ SET .*?) WHERE (?P<condition>.*)", re.DOTALL)
_PLACE: Final = re.compile(r"%\((\w+)\)s")
_OTHER: Final = re.compile(r"RETURNING|SELECT")

_NUMBERS: Final = frozenset({"BIGINT", "INTEGER", "SMALLINT", "DOUBLE PRECISION", "FLOAT", "BOOLEAN"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ManyRows:
    """A statement about many sets of values."""

    sql: str
    #: Names in the order of the arrays, and what writes an array of that type.
    columns: Sequence[tuple[str, Callable[[Sequence[Any]], str]]]

    def bind(self, sets: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Return the arrays of the sets of values, each as PostgreSQL reads an array (section 8.15.2 of its manual)."""
        return {name: write([values[name] for values in sets]) for name, write in self.columns}

    def bind_columns(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
        """Return the arrays of the values of each name, as :meth:`bind`."""
        return {name: write(columns[name]) for name, write in self.columns}


def many_rows(sql: str, types: Mapping[str, str]) -> ManyRows | None:
    """Return the statement for many sets of values that stands for one, None when there is none.

    Parameters
    ----------
    sql
        An ``INSERT``, ``DELETE`` or ``UPDATE`` of one table. An update's sets of values must concern different rows.
    types
        The SQL type of each bind parameter, by name.
    """
    names = list(dict.fromkeys(_PLACE.findall(sql)))
    if _OTHER.search(sql) or not names or not types.keys() >= set(names):
        return None
    plain = {name: types[name].partition(" COLLATE")[0] for name in names}
    arrays = ", ".join(f"CAST(%({name})s AS {plain[name]}[])" for name in names)
    quoted = ", ".join(f'"{name}"' for name in names)
    source = f"unnest({arrays}) AS many({quoted})"
    written = _joined(sql, source)
    if written is None:
        return None
    columns = [
        (name, _numbers if plain[name] in _NUMBERS else _bytes if plain[name] == "BYTEA" else _texts) for name in names
    ]
    return ManyRows(sql=written, columns=columns)


def _joined(sql: str, source: str) -> str | None:
    if match := _INSERT.fullmatch(sql):
        return f"{match['into']} SELECT {_of_many(match['values'])} FROM {source}{match['conflict'] or ''}"  # noqa: S608 - of a statement's own text
    if match := _DELETE.fullmatch(sql):
        return f"{match['from']} USING {source} WHERE {_of_many(match['condition'])}"
    if match := _UPDATE.fullmatch(sql):
        return f"{_of_many(match['set'])} FROM {source} WHERE {_of_many(match['condition'])}"
    return None


def _of_many(sql: str) -> str:
    return _PLACE.sub(r'many."\1"', sql)


def _numbers(values: Sequence[Any]) -> str:
    if None in values:
        return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
    return "{" + ",".join(map(str, values)) + "}"


def _bytes(values: Sequence[Any]) -> str:
    # The driver's Binary wraps the bytes.
    return "{" + ",".join(["NULL" if it is None else f'"\\\\x{getattr(it, "obj", it).hex()}"' for it in values]) + "}"


def _texts(values: Sequence[Any]) -> str:
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
