"""Writes tables as Parquet, a few thousand rows at a time; the file has its name once it is complete."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from kernel.errors import Category, Problem

Kind: TypeAlias = Literal["text", "number", "single", "whole", "boolean", "time", "utc", "numbers", "texts"]
"""What a column holds.

Text, a number of double or single precision, a 64-bit integer, a boolean, an instant with its time zone or in UTC
without one, or a list.
"""

_BATCH: Final = 5_000


class ParquetTable:
    """A file that rows are added to.

    Parameters
    ----------
    path
        Where it is written.
    columns
        Name of a column -> what it holds.
    """

    def __init__(self, path: Path, columns: Mapping[str, Kind]) -> None:
        arrow, parquet = _pyarrow()
        types = {
            "text": arrow.string(),
            "number": arrow.float64(),
            "single": arrow.float32(),
            "whole": arrow.int64(),
            "boolean": arrow.bool_(),
            "time": arrow.timestamp("us", tz="UTC"),
            "utc": arrow.timestamp("us"),
            "numbers": arrow.list_(arrow.float64()),
            "texts": arrow.list_(arrow.string()),
        }
        self._arrow = arrow
        self._columns = tuple((name, _CONVERT[kind]) for name, kind in columns.items())
        self._schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Sequence[Any]] = []
        #: Rows that were added.
        self.count = 0

    def add(self, row: Sequence[Any]) -> None:
        """Add a row, its values in the order of the columns.

        Raises
        ------
        Problem
            ``incorrect``, naming the column that cannot hold the value.
        """
        self._rows.append(
            [_converted(name, convert, it) for (name, convert), it in zip(self._columns, row, strict=True)]
        )
        self.count += 1
        if len(self._rows) == _BATCH:
            self._flush()

    def close(self) -> None:
        """Write what is left and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                self._arrow.array(values, type=field.type) for values, field in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
            self._rows.clear()


@contextmanager
def parquet_table(path: Path, columns: Mapping[str, Kind]) -> Iterator[ParquetTable]:
    """Open a table to write; it gets its name when it is complete, and nothing is left of one that failed.

    Parameters
    ----------
    path
        Where it is written; a file that is there is replaced.
    columns
        Name of a column -> what it holds.

    Raises
    ------
    Problem
        ``unsupported`` when the extra ``training`` is not installed; ``incorrect`` when there is no such folder.
    """
    if not path.parent.is_dir():
        raise Problem(Category.INCORRECT, f"there is no folder {path.parent.name} to write {path.name} in")
    partial = path.with_name(f".{path.name}.partial")
    try:
        table = ParquetTable(partial, columns)
        try:
            yield table
        finally:
            table.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as arrow  # noqa: PLC0415 - 170 MB that only these commands need
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ModuleNotFoundError as failure:
        detail = "Parquet files are written by pyarrow, which is not installed: pip install 'ausculta[training]'"
        raise Problem(Category.UNSUPPORTED, detail) from failure
    return arrow, parquet


def _converted(name: str, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return None if value is None else convert(value)
    except (ArithmeticError, TypeError, ValueError) as failure:
        raise Problem(Category.INCORRECT, f"the column {name} cannot hold the value") from failure


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | Decimal) else orjson.dumps(value, default=str).decode()


def _whole(value: Any) -> int:
    whole = int(value)
    if isinstance(value, bool | str) or whole != value or whole.bit_length() > 63:
        raise ValueError("not a whole number of 64 bits")
    return whole


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError("not a number")
    return float(value)


def _time(value: datetime) -> datetime:
    return value.astimezone(UTC)


_CONVERT: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    "text": _text,
    "number": _number,
    "single": _number,
    "whole": _whole,
    "boolean": _boolean,
    "time": _time,
    "utc": lambda value: _time(value).replace(tzinfo=None),
    "numbers": lambda values: [None if it is None else _number(it) for it in values],
    "texts": lambda values: [None if it is None else _text(it) for it in values],
}
