"""The types of columns that SQLite and PostgreSQL store alike, and the metadata that all tables belong to.

Instants are stored as whole microseconds since 1970 in UTC, so that both databases sort and compare them in the same
way and no time zone is guessed.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Dialect, Integer, MetaData, Text, TypeDecorator

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds since 1970-01-01T00:00:00Z; refuses naive ones."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Convert an aware datetime to microseconds since 1970-01-01T00:00:00Z.

        Parameters
        ----------
        value
            An aware datetime in any time zone, or None for NULL.
        dialect
            The database's dialect; not used.

        Raises
        ------
        ValueError
            When the datetime has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            msg = "an instant needs a time zone"
            raise ValueError(msg)
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Convert microseconds to an aware datetime in UTC.

        Parameters
        ----------
        value
            Microseconds since 1970-01-01T00:00:00Z, or None for NULL.
        dialect
            The database's dialect; not used.
        """
        return _instant(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[int | None], datetime | None]:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the function of :meth:`process_result_value` itself: a page of a search converts many.

        Parameters
        ----------
        dialect, coltype
            Not used: both databases hold an integer.
        """
        return _instant


def _instant(value: int | None) -> datetime | None:
    return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()

ByBytes = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that both databases compare by its bytes, so that a range of it finds a prefix."""

Sequence = BigInteger().with_variant(Integer, "sqlite")
"""SQLite assigns row numbers only to a column declared INTEGER PRIMARY KEY."""
