"""What the commands print."""

from typing import Final

from rich.console import Console

WIDTH_WITHOUT_TERMINAL: Final = 200
"""Width of a pipe or a log, which has none of its own; no id is cut at this width."""


def console() -> Console:
    """Return where to print: colours at a terminal, plain lines of full width elsewhere."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)
