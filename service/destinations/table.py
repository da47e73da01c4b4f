"""One ``[[destination]]`` table of the settings file, read key by key."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from kernel.errors import Category, Problem

MOST_PARALLEL: Final = 64
HTTP_REQUESTS: Final = 16
"""How many requests are sent to one HTTP server at a time, unless the settings say otherwise."""


class DestinationTable:
    """The keys of one destination; every error names the destination and the key.

    Parameters
    ----------
    name
        Of the destination.
    keys
        The table as it is written, without ``name`` and ``kind``.
    """

    def __init__(self, name: str, keys: Mapping[str, Any]) -> None:
        self.name = name
        self._keys = keys
        self._read: set[str] = set()

    def text(self, key: str) -> str:
        """Return a text that is not empty.

        Raises
        ------
        Problem
            ``incorrect`` when the key is missing or is no text.
        """
        value = self._value(key)
        if not isinstance(value, str) or not value:
            raise self._malformed(key, "must be a text")
        return value

    def optional_text(self, key: str, default: str) -> str:
        """Return a text; the default when the key is missing.

        Parameters
        ----------
        key
            Name of the key.
        default
            What stands for a missing key.

        Raises
        ------
        Problem
            As :meth:`text` does.
        """
        return self.text(key) if key in self._keys else default

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty when the key is missing.

        Raises
        ------
        Problem
            ``incorrect`` when it is no list of texts.
        """
        if key not in self._keys:
            return ()
        value = self._value(key)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._malformed(key, "must be a list of texts")
        return tuple(value)

    def port(self, key: str) -> int:
        """Return a TCP port; raises as :meth:`text` does."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65_536:
            raise self._malformed(key, "must be a port between 1 and 65535")
        return value

    def parallel(self, default: int) -> int:
        """Return the key ``parallel``: how much is sent at the same time.

        Parameters
        ----------
        default
            What stands for a missing key.

        Raises
        ------
        Problem
            ``incorrect`` when it is not a number from 1 to :data:`MOST_PARALLEL`.
        """
        value = self._value("parallel") if "parallel" in self._keys else default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_PARALLEL:
            raise self._malformed("parallel", f"must be a number from 1 to {MOST_PARALLEL}")
        return value

    def url(self, key: str) -> str:
        """Return an ``http`` or ``https`` URL; raises as :meth:`text` does."""
        value = self.text(key)
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise self._malformed(key, "must be an http or https URL")
        return value

    def ae_title(self, key: str) -> str:
        """Return an application entity title (PS3.5, VR AE); raises as :meth:`text` does."""
        value = self.text(key).strip()
        if not 0 < len(value) <= 16 or not value.isascii() or "\\" in value:
            raise self._malformed(key, "must have 1 to 16 ASCII characters (PS3.5, VR AE)")
        return value

    def finish(self) -> None:
        """Refuse keys that the kind does not have.

        Raises
        ------
        Problem
            ``incorrect``, naming the first of them.
        """
        for key in self._keys:
            if key not in self._read:
                raise Problem(Category.INCORRECT, f"destination {self.name} has no key {key}")

    def _value(self, key: str) -> Any:
        self._read.add(key)
        if key not in self._keys:
            raise Problem(Category.INCORRECT, f"destination {self.name} lacks the key {key}")
        return self._keys[key]

    def _malformed(self, key: str, rule: str) -> Problem:
        return Problem(Category.INCORRECT, f"destination {self.name}: {key} {rule}")
