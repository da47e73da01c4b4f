"""Time and identifiers, injected: no other module reads the system clock or makes an identifier itself."""

import os
import time
from datetime import UTC, datetime
from typing import Final, Protocol

YEARS: Final = range(1800, 2200)
"""Years in which something of a patient can be dated; 0001 and 9999 are what programs write for no date."""


_PARTS: Final = 256
"""Random parts of ids that are taken from the system at once: the call lets another thread run, which then goes on."""
_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        ...


class Ids(Protocol):
    """A source of unique identifiers."""

    def new(self) -> str:
        """Return a fresh identifier in the form of a UUID."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return datetime.now(UTC)


class RandomIds:
    """UUIDs of version 7 (RFC 9562 section 5.7): milliseconds since 1970, then 74 random bits.

    Rows that are written together get neighbouring ids, so that an index over them grows at its end: a commit writes a
    few pages of each index instead of one for every row.
    """

    def new(self) -> str:
        """Return a fresh UUID."""
        milliseconds = time.time_ns() // 1_000_000
        random_bits = int.from_bytes(_random_part())
        number = (milliseconds & ((1 << 48) - 1)) << 80 | (0x7000 | (random_bits >> 64) & 0x0FFF) << 64
        digits = f"{number | 0x8000_0000_0000_0000 | random_bits & 0x3FFF_FFFF_FFFF_FFFF:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _random_part() -> bytes:
    """Return ten random bytes; threads may ask at the same time."""
    try:
        return _random.pop()
    except IndexError:
        drawn = os.urandom(10 * _PARTS)
        _random.extend(drawn[start : start + 10] for start in range(10, len(drawn), 10))
        return drawn[:10]
