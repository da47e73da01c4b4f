"""The glossary holds each term once, in order, with a file that exists."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GLOSSARY = REPOSITORY / "docs" / "glossary.md"
HEAD = ("term", "meaning", "standard", "code")


def rows() -> list[tuple[str, ...]]:
    """Return the cells of each line of the table, its head included."""
    lines = (line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("| "))
    table = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [row for row in table if set("".join(row)) != {"-"}]


TERMS = rows()[1:]


def test_the_table_has_its_four_columns() -> None:
    assert rows()[0] == HEAD
    assert {len(row) for row in rows()} == {len(HEAD)}


def test_each_term_stands_once_in_alphabetical_order() -> None:
    terms = [row[0].casefold() for row in TERMS]
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row[0])
def test_a_term_has_one_sentence_and_a_standard(row: tuple[str, ...]) -> None:
    _term, meaning, standard, _code = row
    assert re.fullmatch(r"[^.]+(\.[a-z]+[^.]*)*\.", meaning), "one sentence with a full stop"
    assert standard


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row[0])
def test_the_code_of_a_term_exists(row: tuple[str, ...]) -> None:
    code = re.fullmatch(r"`([\w./]+)`", row[3])
    assert code is not None
    assert (REPOSITORY / code[1]).is_file()
