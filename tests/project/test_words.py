"""Words that a reader would have to guess are not used: pages and code have the standard's terms (docs/glossary.md)."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from service.packages import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
CODE = [path for folder in (*PACKAGES, "tests", "benchmarks", "docs") for path in (REPOSITORY / folder).rglob("*.py")]

WORDS: Final = {
    "house": "application",
    "door": "listener",
    "doors": "listeners",
    "desk": "command context",
    "told": "recorded, notified",
    "founding": "new patient, creation",
    "whence": "from which",
    "teller": "writer, recorder",
    "albeit": "although",
    "anew": "again",
    "bury": "remove, reclaim",
    "buried": "removed, reclaimed",
    "foretell": "predict",
    "foretells": "predicts",
    "lest": "so that … not",
    "likewise": "in the same way, also",
    "mend": "repair, correct",
    "mended": "repaired, corrected",
    "punctual": "in time",
    "rival": "baseline",
    "rubbish": "partial file, invalid data",
    "thereof": "of it",
    "upon": "on",
    "wherein": "in which",
}
"""Word, in any case -> the terms to use instead."""
CONSTANTS: Final = {"ANYBODY": "the principal's client"}
"""Word, in this case only -> the term to use instead."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_MARKUP: Final = re.compile(r"<!-- generated.*?<!-- end -->|```.*?```|`[^`\n]*`", re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def found_in(text: str) -> set[str]:
    """Return the words of a text, the parts of its identifiers included, that must not be used."""
    parts = set(_WORD.findall(text))
    return {part for part in parts if part.lower() in WORDS or part in CONSTANTS}


def prose_of(source: str) -> Iterator[str]:
    """Give the comments, names and docstrings of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.NAME}:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def found_in_code(path: Path) -> set[str]:
    return {word for text in prose_of(path.read_text(encoding="utf-8")) for word in found_in(text)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_the_standards_terms(page: Path) -> None:
    assert found_in(_MARKUP.sub("", page.read_text(encoding="utf-8"))) == set()


def test_comments_names_and_docstrings_have_the_standards_terms() -> None:
    assert {name_of(path): words for path in CODE if (words := found_in_code(path))} == {}


def test_words_are_recognised_as_parts_of_identifiers_and_not_of_other_words() -> None:
    assert found_in("_at_desk DoorServer ANYBODY Told") == {"desk", "Door", "ANYBODY", "Told"}
    assert found_in("indoor warehouse anybody deskew") == set()
