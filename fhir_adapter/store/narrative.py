"""Check that a narrative is safe to show (FHIR R4, narrative.html): basic XHTML formatting, no active content."""

import re
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

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
        xml:lang xmlns
        """,
    )
)
_SCHEMES: Final = ("http:", "https:", "mailto:", "tel:", "data:image/", "cid:", "#", "urn:")


class _Unsafe(Exception):
    """The narrative contains something that is not allowed."""


def is_safe(div: str) -> bool:
    """Return whether ``Narrative.div`` is one well-formed, harmless ``div`` (txt-1) with some content (txt-2).

    Parameters
    ----------
    div
        The XHTML text.
    """
    parser = expat.ParserCreate()
    has_content = False

    def refuse(*_: object) -> None:
        raise _Unsafe

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal has_content
        has_content = has_content or name == "img"
        if name not in _ELEMENTS or not all(_allowed(key, value) for key, value in attributes.items()):
            raise _Unsafe

    def text(characters: str) -> None:
        nonlocal has_content
        has_content = has_content or bool(characters.strip())

    parser.StartDoctypeDeclHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    parser.StartElementHandler = start
    parser.CharacterDataHandler = text
    try:
        parser.Parse(div, True)  # noqa: FBT003 - expat's own signature
    except (expat.ExpatError, _Unsafe, ValueError):
        return False
    return has_content and div.lstrip().startswith("<div")


def _allowed(name: str, value: str) -> bool:
    if name not in _ATTRIBUTES:
        return False
    folded = "".join(value.split()).lower()
    if name in {"href", "src", "cite", "longdesc"}:
        return folded.startswith(_SCHEMES) or ":" not in folded.split("/", 1)[0]
    return name != "style" or not ("url(" in folded or "expression(" in folded or "@import" in folded)
