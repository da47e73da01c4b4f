"""What all GET entries of one Bundle may take together."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fhir_adapter.store.problems import TooCostly

MOST_MATCHES: Final = 5000
"""Matches of all searches of one Bundle."""
MOST_BYTES: Final = 16 * 2**20
"""Bytes of all resources that the GET entries of one Bundle return."""
MOST_SECONDS: Final = 3.0
"""Time for all GET entries of one Bundle."""

_MATCH: Final = b',"search":{"mode":"'
"""Occurs once for each entry of a searchset: within a JSON string its quotes would be escaped."""


@dataclass(kw_only=True)
class Budget:
    """Counts what the GET entries of one Bundle have taken; the last one may go beyond it by one page."""

    matches: int = MOST_MATCHES
    size: int = MOST_BYTES
    seconds: float = MOST_SECONDS
    #: A clock that only goes forward, in seconds.
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Start the time."""
        self._until = self.clock() + self.seconds

    def require(self) -> None:
        """Return while something is left.

        Raises
        ------
        TooCostly
            When nothing is left.
        """
        if self.matches <= 0 or self.size <= 0 or self.clock() > self._until:
            limits = f"{MOST_MATCHES} matches, {MOST_BYTES // 2**20} MiB and {MOST_SECONDS:.0f} seconds"
            raise TooCostly(f"the GET entries of one Bundle may take {limits} together; send the others in another one")

    def take(self, body: bytes) -> None:
        """Take off what one entry returned."""
        self.matches -= body.count(_MATCH)
        self.size -= len(body)
