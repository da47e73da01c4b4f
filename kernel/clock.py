"""Time and identity, injected: nothing below the wiring asks the machine for either."""

import uuid
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        ...


class Ids(Protocol):
    """Makes identifiers that are never handed out twice."""

    def new(self) -> str:
        """Return a fresh identifier in the form of a UUID."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Random (version 4) UUIDs."""

    def new(self) -> str:
        """Return a fresh random UUID."""
        return str(uuid.uuid4())
