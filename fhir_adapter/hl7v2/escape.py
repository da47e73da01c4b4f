r"""Delimiters and escape sequences of HL7 v2 (section 2.7).

Text that is not an escape sequence is kept unchanged: ``C:\dir`` keeps its backslash, a local ``\Zxx\`` is kept, and
``\E\R\`` becomes ``\R\``, because the result of one sequence is not unescaped again. ``\Xhh..\`` are bytes in the
character set of the message.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The delimiters that MSH-1 and MSH-2 declare, and the character set of hexadecimal escapes."""

    #: MSH-1.
    field: str = "|"
    #: First character of MSH-2.
    component: str = "^"
    #: Second character of MSH-2.
    repetition: str = "~"
    #: Third character of MSH-2; empty when the sender does not escape.
    escape: str = "\\"
    #: Fourth character of MSH-2; empty when the sender has no subcomponents.
    subcomponent: str = "&"
    #: Python's name of the character set.
    codec: str = "utf-8"


STANDARD: Final = Delimiters()
"""The delimiters that section 2.5.4 recommends; what this server writes."""


@lru_cache(maxsize=64)
def _sequences(mark: str) -> re.Pattern[str]:
    at = re.escape(mark)
    hexadecimal = rf"(?P<hex>(?:{at}X(?:[0-9A-Fa-f]{{2}})+{at})+)"
    layout = rf"{at}(?P<layout>\.(?:br|ce|fi|nf|sp(?P<lines>[+]?\d{{0,2}})|(?:in|ti|sk)[+-]?\d{{0,3}})){at}"
    return re.compile(rf"{hexadecimal}|{layout}|{at}(?P<letter>[FSTREHN]){at}")


@lru_cache(maxsize=64)
def _replacer(delimiters: Delimiters) -> Callable[[re.Match[str]], str]:
    letters = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
        "H": "",
        "N": "",
    }

    def replace(found: re.Match[str]) -> str:
        if letter := found["letter"]:
            return letters[letter]
        if found["hex"]:
            digits = "".join(found["hex"].replace(delimiters.escape, " ").replace("X", " ").split())
            try:
                return bytes.fromhex(digits).decode(delimiters.codec)
            except UnicodeDecodeError:
                return found[0]
        if found["lines"]:
            return "\n" * min(int(found["lines"]), 10)
        return "\n" if found["layout"] in (".br", ".ce", ".sp") else ""

    return replace


def unescape(text: str, delimiters: Delimiters) -> str:
    """Replace the escape sequences in a text by the characters that they represent.

    Parameters
    ----------
    text
        One component or subcomponent as it was sent.
    delimiters
        The delimiters of its message.
    """
    if not delimiters.escape or delimiters.escape not in text:
        return text
    return _sequences(delimiters.escape).sub(_replacer(delimiters), text)


_ESCAPED: Final = str.maketrans(
    {
        "\\": "\\E\\",
        "|": "\\F\\",
        "^": "\\S\\",
        "&": "\\T\\",
        "~": "\\R\\",
        "\n": "\\.br\\",
        **{chr(control): " " for control in (*range(10), *range(11, 32), 127)},
    }
)


def escape(text: str) -> str:
    """Escape ``text`` for use inside one component of a message with the standard delimiters."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_ESCAPED)
