"""The messages between the server and the process of a model: a few words in JSON, and bytes.

A message is the length of its words (4 bytes), the length of its bytes (8 bytes), the words, the bytes. Nothing is
unpickled, and whoever receives states how long each part may be.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

_LENGTHS: Final = struct.Struct("=IQ")
LONGEST_WORDS: Final = 1 << 20
"""Bytes of the words of a message."""

Receive: TypeAlias = Callable[[int], bytes | bytearray]
"""How many bytes -> exactly so many; raises ``EOFError`` when the other side has closed."""


Content: TypeAlias = bytes | bytearray | memoryview


class Malformed(Exception):
    """What was received is no message."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message."""

    words: dict[str, Any] = field(default_factory=dict)
    content: Content = b""

    def encoded(self) -> tuple[bytes, Content]:
        """Return the two parts in which it is sent: lengths with words, and bytes."""
        words = json.dumps(self.words).encode()
        return _LENGTHS.pack(len(words), len(self.content)) + words, self.content


def receive(read: Receive, most: int) -> Message:
    """Receive a message.

    Parameters
    ----------
    read
        Where it comes from.
    most
        Bytes that it may have beside its words.

    Raises
    ------
    Malformed
        When it is longer than that, or its words are no object of JSON.
    """
    length, bytes_length = _LENGTHS.unpack(read(_LENGTHS.size))
    if length > LONGEST_WORDS or bytes_length > most:
        raise Malformed("too long")
    try:
        words = json.loads(read(length))
    except (ValueError, RecursionError) as failure:
        raise Malformed("no JSON") from failure
    if not isinstance(words, dict):
        raise Malformed("no object")
    return Message(words=words, content=read(bytes_length))
