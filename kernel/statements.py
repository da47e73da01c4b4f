"""Statements that are compiled once for each database and run by the driver's own cursor.

SQLAlchemy's execution of a Core statement costs more than SQLite's execution of it. A statement that runs with each
request is therefore a :class:`Statement`: SQLAlchemy still writes its SQL, for both databases, but only once. What
comes back is a list of named tuples, with the values that SQLAlchemy would return.
"""

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import BindParameter, Connection, Dialect, Executable, Insert, Table, TypeDecorator, bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import LargeBinary, NullType

from kernel.many_rows import ManyRows, many_rows
from kernel.pipeline import pipeline_of

Values: TypeAlias = Mapping[str, Any]
Parameters: TypeAlias = Values | Sequence[Values] | None


class Rows:
    """What a statement returned, all of it.

    Parameters
    ----------
    found
        Named tuples, one for each row; empty for a statement that returns none.
    rowcount
        How many rows were changed, as the driver counts them.
    """

    __slots__ = ("_found", "rowcount")

    def __init__(self, found: list[Any], rowcount: int) -> None:
        self._found = found
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows."""
        return iter(self._found)

    def all(self) -> list[Any]:
        """Return the rows."""
        return self._found

    def first(self) -> Any:
        """Return the first row, None when there is none."""
        return self._found[0] if self._found else None

    def scalar(self) -> Any:
        """Return the first column of the first row, None when there is no row."""
        return self._found[0][0] if self._found else None


class Statement:
    """A Core statement that is compiled once for each database.

    Parameters
    ----------
    core
        The statement. An ``insert`` or ``update`` without ``values`` takes its columns from the parameters, and each
        set of columns is compiled once. For a list of values there is :class:`StatementOfMany`.
    """

    __slots__ = ("_compiled", "core")

    def __init__(self, core: Executable) -> None:
        self.core = core
        self._compiled: dict[tuple[str, tuple[str, ...]], _Compiled] = {}

    def run(self, connection: Connection, parameters: Parameters = None) -> Rows:
        """Run the statement.

        Parameters
        ----------
        connection
            A connection; within a transaction, the transaction's.
        parameters
            Values of the bind parameters; a sequence runs the statement once for each, and they have the same names.
            PostgreSQL does so at once; those of an ``update`` must concern different rows.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As SQLAlchemy raises it; the text of the statement is kept, the parameters are not.
        """
        compiled, cursor = self._start(connection, parameters)
        try:
            found = cursor.fetchall() if compiled.row is not None and not isinstance(parameters, Sequence) else []
            if compiled.row is None and (pipeline := pipeline_of(connection)) is not None:
                pipeline.sync()
        except Exception as failure:
            raise _failed(connection, failure, compiled.sql) from failure
        return Rows([compiled.row(row) for row in found] if compiled.row is not None else found, cursor.rowcount)

    def stream(self, connection: Connection, parameters: Values) -> Iterator[Any]:
        """Run the statement and yield its rows one by one; SQLite reads no more of them than are taken.

        Parameters
        ----------
        connection, parameters
            As for :meth:`run`.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As :meth:`run`.
        """
        compiled, cursor = self._start(connection, parameters)
        assert compiled.row is not None
        try:
            for row in cursor:
                yield compiled.row(row)
        except Exception as failure:
            raise _failed(connection, failure, compiled.sql) from failure
        finally:
            cursor.close()

    def send(self, connection: Connection, parameters: Parameters = None) -> None:
        """Run the statement without waiting for its end, where the connection has a pipeline.

        Parameters
        ----------
        connection, parameters
            As for :meth:`run`.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As :meth:`run`, or later: at a statement that waits.
        """
        if (pipeline := pipeline_of(connection)) is not None:
            pipeline.enter()
        self._start(connection, parameters)

    def send_rows(self, connection: Connection, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement once for each of many rows, as :meth:`send` does; a row costs less than a mapping.

        Parameters
        ----------
        connection
            As for :meth:`run`.
        names
            Of the bind parameters. In the order of the statement they cost least: for an ``insert`` the table's.
        rows
            At least one; the values of each in the order of the names.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As :meth:`send`.
        """
        if (pipeline := pipeline_of(connection)) is not None:
            pipeline.enter()
        compiled = self._compiled_for(connection.dialect, names)
        driver: Any = connection.connection.dbapi_connection
        try:
            if compiled.many is not None:
                driver.execute(compiled.many.sql, compiled.many.bind_columns(compiled.columns(names, rows)))
            else:
                driver.cursor().executemany(compiled.sql, compiled.bind_rows(names, rows))
        except Exception as failure:
            raise _failed(connection, failure, compiled.sql) from failure

    def _compiled_for(self, dialect: Dialect, names: tuple[str, ...]) -> "_Compiled":
        compiled = self._compiled.get((dialect.name, names))
        if compiled is None:
            compiled = self._compiled[dialect.name, names] = _compile(self.core, names, dialect)
        return compiled

    def _start(self, connection: Connection, parameters: Parameters) -> tuple["_Compiled", Any]:
        many = parameters if isinstance(parameters, Sequence) else None
        one: Values = parameters if isinstance(parameters, Mapping) else {}
        names = tuple(one if many is None else many[0])
        compiled = self._compiled_for(connection.dialect, names)
        driver: Any = connection.connection.dbapi_connection
        try:
            if many is None:
                cursor = driver.execute(compiled.sql, compiled.bind(one))
            elif compiled.many is not None and len(many) > 1:
                cursor = driver.execute(compiled.many.sql, compiled.many.bind([compiled.bind(it) for it in many]))
            else:
                cursor = driver.cursor()
                cursor.executemany(compiled.sql, [compiled.bind(values) for values in many])
        except Exception as failure:
            raise _failed(connection, failure, compiled.sql) from failure
        return compiled, cursor


def upsert(table: Table) -> Statement:
    """Return the statement that inserts a row, or replaces all of the one with the same primary key."""
    names = [column.name for column in table.columns]
    quoted = {name: f'"{name}"' for name in names}
    key = ", ".join(quoted[column.name] for column in table.primary_key)
    others = ", ".join(f"{it} = excluded.{it}" for name, it in quoted.items() if name not in table.primary_key.columns)
    sql = (
        f"INSERT INTO {table.name} ({', '.join(quoted.values())}) VALUES ({', '.join(f':{name}' for name in names)})"  # noqa: S608 - names of our own
        f" ON CONFLICT ({key}) DO UPDATE SET {others}"
    )
    return Statement(text(sql).bindparams(*(bindparam(it.name, type_=it.type) for it in table.columns)))


class StatementOfMany:
    """A statement about any number of values, such as ids; compiled once for each power of two of them.

    Parameters
    ----------
    build
        Makes the Core statement of the bind parameters that stand for the values.
    """

    MOST: Final = 512
    """Values of one execution; more of them take several."""

    def __init__(self, build: Callable[[Sequence[BindParameter[Any]]], Executable]) -> None:
        self._build = build
        self._sizes: dict[int, tuple[Statement, list[str]]] = {}

    def run(self, connection: Connection, values: Sequence[Any], parameters: Values | None = None) -> list[Any]:
        """Run the statement for all values and return the rows.

        Parameters
        ----------
        connection
            A connection; within a transaction, the transaction's.
        values
            The values; none returns no row.
        parameters
            The other bind parameters.
        """
        found: list[Any] = []
        for start in range(0, len(values), self.MOST):
            chunk = values[start : start + self.MOST]
            size = 1 << (len(chunk) - 1).bit_length()
            if size not in self._sizes:
                names = [f"one_of_{place}" for place in range(size)]
                self._sizes[size] = Statement(self._build([bindparam(name) for name in names])), names
            statement, names = self._sizes[size]
            padded = [*chunk, *[chunk[-1]] * (size - len(chunk))]
            found += statement.run(connection, {**(parameters or {}), **dict(zip(names, padded, strict=True))})
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compiled:
    sql: str
    #: Parameters by name -> what the driver takes.
    bind: Callable[[Values], Any]
    #: What the driver returns -> a named tuple; None for a statement that returns no rows.
    row: Callable[[Sequence[Any]], Any] | None
    #: The statement for many sets of values, where there is one.
    many: ManyRows | None = None
    #: Names in the order of the question marks; empty where the driver takes names.
    order: tuple[str, ...] = ()
    #: What makes of a value what the driver takes.
    converters: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    #: Values that the statement has of its own.
    constants: Values = field(default_factory=dict)

    def bind_rows(self, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
        """Return what the driver takes for rows whose values are in the order of the names."""
        if names != self.order or self.constants:
            return [self.bind(dict(zip(names, row, strict=True))) for row in rows]
        if not self.converters:
            return rows
        columns = self.columns(names, rows)
        return list(zip(*(columns[name] for name in names), strict=True))

    def columns(self, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
        """Return the columns of rows by name, each value as the driver takes it."""
        columns: dict[str, Sequence[Any]] = {name: [value] * len(rows) for name, value in self.constants.items()}
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            convert = self.converters.get(name)
            columns[name] = values if convert is None else _converted(values, convert)
        return columns


def _converted(values: Sequence[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """Convert a column; a value that is repeated, as the time of a commit is in each row, is converted once."""
    made: list[Any] = []
    last, last_made = object(), None
    for value in values:
        if value is not last:
            last, last_made = value, convert(value)
        made.append(last_made)
    return made


def _compile(core: Executable, names: Sequence[str], dialect: Dialect) -> _Compiled:
    if isinstance(core, Insert):
        core = core.inline()  # nothing is returned that was not asked for
    compiled: Any = core.compile(dialect=dialect, column_keys=list(names) or None)  # type: ignore[attr-defined]
    converters: dict[str, Callable[[Any], Any]] = {}
    named: Mapping[BindParameter[Any], str] = compiled.bind_names
    for bind, name in named.items():
        if isinstance(bind.type, LargeBinary) and dialect.name == "sqlite":
            continue  # its driver takes bytes as they are
        if (convert := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None:
            converters[name] = convert
    constants = {name: value for name, value in compiled.params.items() if name not in names}
    if compiled.positional:
        bind_all = _in_order(compiled.positiontup, converters, constants)
    else:
        bind_all = _by_name(tuple(named.values()), converters, constants)
    if "POSTCOMPILE" in str(compiled):
        msg = "a statement with a list of values has no fixed text"
        raise TypeError(msg)
    many = None
    if dialect.name == "postgresql":
        typed = {name: bind.type for bind, name in named.items() if not isinstance(bind.type, NullType)}
        types = {name: kind.compile(dialect=dialect) for name, kind in typed.items()}
        many = many_rows(str(compiled), types)
    return _Compiled(
        sql=str(compiled),
        bind=bind_all,
        row=_row(core, dialect),
        many=many,
        order=tuple(compiled.positiontup) if compiled.positional else (),
        converters=converters,
        constants=constants,
    )


def _in_order(
    order: Sequence[str], converters: Mapping[str, Callable[[Any], Any]], constants: Values
) -> Callable[[Values], Any]:
    """Return the function that puts the values in the order of the question marks."""
    if not constants and not converters:
        if len(order) > 1:
            return itemgetter(*order)
        return lambda values: tuple(values[name] for name in order)
    slots = [(name, converters.get(name)) for name in order]

    def bind(values: Values) -> tuple[Any, ...]:
        given = {**constants, **values} if constants else values
        return tuple([given[name] if convert is None else convert(given[name]) for name, convert in slots])

    return bind


def _by_name(
    order: Sequence[str], converters: Mapping[str, Callable[[Any], Any]], constants: Values
) -> Callable[[Values], Any]:
    slots = [(name, converters.get(name)) for name in order]

    def bind(values: Values) -> dict[str, Any]:
        given = {**constants, **values} if constants else values
        return {name: given[name] if convert is None else convert(given[name]) for name, convert in slots}

    return bind


def _row(core: Any, dialect: Dialect) -> Callable[[Sequence[Any]], Any] | None:
    """Return the function that makes a named tuple of a driver's row."""
    returned = getattr(core, "exported_columns", None)
    if not returned:
        return None
    names: list[str] = list(returned.keys())
    make: Callable[[Sequence[Any]], Any] = getattr(namedtuple("Row", names, rename=True), "_make")  # noqa: B009 - mypy
    typed = dialect.name == "postgresql"  # psycopg returns Python's types itself, all but our own
    converters = [
        (place, convert)
        for place, column in enumerate(returned)
        if not typed or isinstance(column.type, TypeDecorator)
        if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
    ]
    if not converters:
        return make

    def row(values: Sequence[Any]) -> Any:
        converted = list(values)
        for place, convert in converters:
            converted[place] = convert(converted[place])
        return make(converted)

    return row


def _failed(connection: Connection, failure: Exception, sql: str) -> BaseException:
    """Return what SQLAlchemy raises; the pipeline, if there is one, counts for nothing then."""
    if (pipeline := pipeline_of(connection)) is not None:
        pipeline.failed(failure)
    return as_sqlalchemy_raises(failure, sql, connection.dialect)


def as_sqlalchemy_raises(failure: Exception, sql: str, dialect: Dialect) -> BaseException:
    """Return what SQLAlchemy raises for a failure of the driver.

    Parameters
    ----------
    failure
        What the driver raised; anything else is returned as it is.
    sql
        The statement; its parameters are not kept.
    dialect
        Of the connection.
    """
    errors: Any = dialect.loaded_dbapi.Error
    if not isinstance(failure, errors):
        return failure
    return DBAPIError.instance(sql, None, failure, errors, hide_parameters=True, dialect=dialect)  # type: ignore[no-any-return]
