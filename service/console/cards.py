"""Model cards as HTML: the part of Markdown that cards use; all other markup is escaped.

Headings, paragraphs, lists, tables, **strong**, *emphasis* and ``code``. Everything else, HTML included, is text.
"""

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from markupsafe import Markup, escape

_INLINE: Final = (
    (re.compile(r"\*\*(.+?)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"\*(\S.*?)\*"), r"<em>\1</em>"),
    (re.compile(r"`(.+?)`"), r"<code>\1</code>"),
)
_RULE: Final = re.compile(r"\|(\s*:?-+:?\s*\|)+")


def as_html(card: str) -> Markup:
    """Render a card as HTML; its headings get one level lower, because the card is a part of a page.

    Parameters
    ----------
    card
        Markdown; it is escaped before it is parsed.
    """
    blocks = [_block(kind, list(lines)) for kind, lines in groupby(card.splitlines(), key=_kind)]
    return Markup("\n").join(blocks)


def _kind(line: str) -> str:
    if not line.strip():
        return "blank"
    if line.startswith("#"):
        return "heading"
    if line.startswith(("- ", "* ")):
        return "list"
    return "table" if line.startswith("|") else "paragraph"


def _block(kind: str, lines: Sequence[str]) -> Markup:
    render: dict[str, Callable[[Sequence[str]], Markup]] = {
        "blank": lambda _: Markup(""),
        "heading": _headings,
        "list": _list,
        "table": _table,
        "paragraph": lambda text: Markup("<p>{}</p>").format(_inline(" ".join(text))),
    }
    return render[kind](lines)


def _headings(lines: Sequence[str]) -> Markup:
    made = []
    for line in lines:
        text = line.lstrip("#")
        level = min(len(line) - len(text) + 1, 6)
        made.append(Markup("<h{0}>{1}</h{0}>").format(level, _inline(text.strip())))
    return Markup("\n").join(made)


def _list(lines: Sequence[str]) -> Markup:
    items = [Markup("<li>{}</li>").format(_inline(line[2:])) for line in lines]
    return Markup("<ul>{}</ul>").format(Markup("").join(items))


def _table(lines: Sequence[str]) -> Markup:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if not _RULE.match(line)]
    made = [_row(cells, "th" if position == 0 else "td") for position, cells in enumerate(rows)]
    return Markup("<table>{}</table>").format(Markup("").join(made))


def _row(cells: Sequence[str], tag: str) -> Markup:
    made = [Markup("<{0}>{1}</{0}>").format(tag, _inline(cell)) for cell in cells]
    return Markup("<tr>{}</tr>").format(Markup("").join(made))


def _inline(text: str) -> Markup:
    safe = str(escape(text))
    for pattern, replacement in _INLINE:
        safe = pattern.sub(replacement, safe)
    return Markup(safe)  # noqa: S704 - escaped above; only the three pairs of tags were added
