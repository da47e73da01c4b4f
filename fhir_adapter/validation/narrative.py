"""Check that a narrative is safe to show (FHIR R4, narrative.html): basic XHTML formatting, no active content."""

import re
from typing import Final
from xml.etree import ElementTree

_ELEMENTS: Final = frozenset(
    re.findall(
        r"\S+",
        """
        a abbr acronym address b bdo big blockquote br caption cite code col colgroup dd del dfn div dl dt em
        h1 h2 h3 h4 h5 h6 hr i img ins kbd li map area ol p pre q samp small span strong sub sup
        table tbody td tfoot th thead tr tt ul var
        """,
    )
)
_ATTRIBUTES: Final = frozenset(
    re.findall(
        r"\S+",
        """
        abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff charset
        cite class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc name nowrap
        rel rev rowspan rules scope shape span src start style summary tabindex title type valign value vspace width
        """,
    )
)
_IMAGES: Final = ("data:image/", "cid:", "#")
"""What an image may be besides a relative address: the page of a reader that loads another one tells its server."""
_SCHEMES: Final = ("http:", "https:", "mailto:", "tel:", "data:image/", "cid:", "#", "urn:")


_LOADING: Final = ("url(", "src(", "image(", "image-set(", "expression(", "behavior:", "-moz-binding", "@", "\\", "/*")
"""What CSS loads or runs something with, and the escapes and comments that hide it."""
_XHTML: Final = "http://www.w3.org/1999/xhtml"
_TAGS: Final = _ELEMENTS | {f"{{{_XHTML}}}{name}" for name in _ELEMENTS}
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_FOREIGN: Final = ("<!DOCTYPE", "<![", "<?", "xmlns:", "<!-->", "<!--->", "--!>")
"""What a narrative does not have: document types, processing instructions, prefixes, and what XML reads as characters
or as a comment, but a browser that reads HTML as elements: CDATA sections, and comments that HTML ends earlier."""
LONGEST: Final = 2**20
"""Most characters of a narrative."""
MOST_TAGS: Final = 20_000
"""Most tags of a narrative; a tree of many elements takes a hundred times the bytes of its text."""


def is_too_long(div: str) -> bool:
    """Return whether ``Narrative.div`` has more characters or tags than are read; its tree is not built then."""
    return len(div) > LONGEST or div.count("<") > MOST_TAGS


def is_safe(div: str) -> bool:
    """Return whether ``Narrative.div`` is one well-formed, harmless ``div`` (txt-1) with some content (txt-2).

    Parameters
    ----------
    div
        The XHTML text.
    """
    if is_too_long(div) or any(mark in div for mark in _FOREIGN) or not div.lstrip().startswith("<div"):
        return False
    try:
        # No document type, so no entity can be declared: see above.
        root = ElementTree.fromstring(div)  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return False
    has_content = False
    for element in root.iter():
        tag = element.tag
        # A comment is not an element of the tree.
        if tag not in _TAGS or (element.attrib and not all(_allowed(*it) for it in element.attrib.items())):
            return False
        if tag.endswith("img") and not _is_local(element.get("src", "")):
            return False
        has_content = has_content or tag.endswith("img")
    return has_content or any(text.strip() for text in root.itertext())


def _allowed(name: str, value: str) -> bool:
    if name not in _ATTRIBUTES:
        return name == _LANGUAGE
    folded = "".join(value.split()).lower()
    if name in {"href", "src", "cite", "longdesc"}:
        return folded.startswith(_SCHEMES) or ":" not in folded.split("/", 1)[0]
    return name != "style" or not any(mark in folded for mark in _LOADING)


def _is_local(source: str) -> bool:
    """Return whether an image is part of the resource or of this server."""
    folded = "".join(source.split()).lower()
    # A browser reads a backslash as a slash, and two slashes begin the name of another server.
    return folded.startswith(_IMAGES) or not (
        ":" in folded.split("/", 1)[0] or folded.startswith("//") or "\\" in folded
    )
