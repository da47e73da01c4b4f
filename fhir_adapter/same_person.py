"""Whether two statements about one identifier can be about one person: a declared rule over name, birth date and sex.

Each attribute agrees, contradicts, or says nothing. What is missing says nothing. The statements are in doubt when two
of the three contradict, or when the name or the birth date contradicts and neither of the two agrees. So a misspelt
name, a name after marriage, a typing error in a date or a corrected sex alone is no doubt.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

Attribute: TypeAlias = Literal["name", "birth-date", "sex"]

_NO_NAMES: Final = frozenset({"unknown", "unidentified", "anonymous", "unnamed"})
"""Words that stand where nobody knows a name."""
_NO_NAME_USES: Final = frozenset({"anonymous", "temp"})
"""Uses of a HumanName that says nothing about who the person is."""
_SEXES: Final = frozenset({"male", "female"})
_UMLAUTS: Final = (("ae", "a"), ("oe", "o"), ("ue", "u"), ("ph", "f"), ("th", "t"))
_FULL_DATE: Final = 10
_LONG: Final = 6


@dataclass(frozen=True, kw_only=True)
class PersonName:
    """One name of a person, as it was written."""

    family: str
    given: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Person:
    """What is stated of a person."""

    names: tuple[PersonName, ...] = ()
    #: FHIR date: a year, a month or a day; empty when not stated.
    birth_date: str = ""
    #: Code of FHIR's administrative-gender; empty when not stated.
    sex: str = ""


class Match(Enum):
    """What two statements of one attribute say about each other."""

    AGREES = "agrees"
    CONTRADICTS = "contradicts"
    SILENT = "says nothing"


def person_of(patient: Mapping[str, Any]) -> Person:
    """Return what a FHIR Patient states of the person."""
    names = (
        PersonName(family=name.get("family", ""), given=tuple(part for part in name.get("given", ()) if part))
        for name in patient.get("name", ())
        if name.get("use") not in _NO_NAME_USES
    )
    return Person(names=tuple(names), birth_date=patient.get("birthDate", ""), sex=patient.get("gender", ""))


def missing(known: Person) -> frozenset[Attribute]:
    """Return the attributes of which nothing is known: those that say nothing whatever they are compared with."""
    written = (_words(name.family, *name.given) for name in known.names)
    silent: dict[Attribute, bool] = {
        "name": not any(words and not _NO_NAMES.intersection(words) for words in written),
        "birth-date": not known.birth_date,
        "sex": known.sex in {"", "unknown"},
    }
    return frozenset(attribute for attribute, nothing in silent.items() if nothing)


def matches(stated: Person, known: Person) -> Mapping[Attribute, Match]:
    """Compare each attribute.

    Parameters
    ----------
    stated, known
        Two statements; their order does not matter.
    """
    return {
        "name": _best(stated.names, known.names),
        "birth-date": _dates(stated.birth_date, known.birth_date),
        "sex": _sexes(stated.sex, known.sex),
    }


def doubts(stated: Person, known: Person, *, source_of_patients: bool = False) -> tuple[Attribute, ...]:
    """Return the attributes that contradict each other when the statements cannot be taken as about one person.

    Parameters
    ----------
    stated
        What a message or a header says.
    known
        What is stored under the identifier.
    source_of_patients
        Whether the sender is the source of patients (ADT): it may correct one attribute, whatever else is known.

    Returns
    -------
    tuple
        Empty when there is no doubt.
    """
    found = matches(stated, known)
    contradicting = tuple(name for name, match in found.items() if match is Match.CONTRADICTS)
    if len(contradicting) > 1:
        return contradicting
    nothing_agrees = Match.AGREES not in (found["name"], found["birth-date"])
    return contradicting if nothing_agrees and contradicting != ("sex",) and not source_of_patients else ()


def _best(stated: Sequence[PersonName], known: Sequence[PersonName]) -> Match:
    """Compare the names that two statements have; a former name counts as much as the present one."""
    found = {_names(one, other) for one in stated for other in known}
    for match in (Match.AGREES, Match.SILENT):
        if match in found:
            return match
    return Match.CONTRADICTS if found else Match.SILENT


def _names(stated: PersonName, known: PersonName) -> Match:
    families = _words(stated.family), _words(known.family)
    givens = _words(*stated.given), _words(*known.given)
    everything = families[0] + givens[0], families[1] + givens[1]
    if not all(everything) or any(_NO_NAMES.intersection(words) for words in everything):
        return Match.SILENT
    if _is_latin(everything[0]) != _is_latin(everything[1]):
        return Match.SILENT
    if _share(families[0], givens[1]) and _share(givens[0], families[1]):  # family and given names exchanged
        return Match.AGREES
    parts = [_share(*part) for part in (families, givens) if all(part)]
    if not parts:
        return Match.SILENT
    if all(parts):
        return Match.AGREES
    return Match.SILENT if any(parts) else Match.CONTRADICTS


def _dates(stated: str, known: str) -> Match:
    """Compare as much of two dates as both state; one digit, or day and month exchanged, is a typing error."""
    length = min(len(stated), len(known))
    one, other = stated[:length], known[:length]
    if not length:
        return Match.SILENT
    if one == other:
        return Match.AGREES
    differing = sum(first != second for first, second in zip(one, other, strict=True))
    exchanged = length == _FULL_DATE and one[:4] == other[:4] and (one[5:7], one[8:]) == (other[8:], other[5:7])
    return Match.SILENT if exchanged or (length == _FULL_DATE and differing == 1) else Match.CONTRADICTS


def _sexes(stated: str, known: str) -> Match:
    if stated not in _SEXES or known not in _SEXES:
        return Match.SILENT
    return Match.AGREES if stated == known else Match.CONTRADICTS


def _words(*texts: str) -> tuple[str, ...]:
    """Return the words of names in the form in which they are compared: no case, no accents, no umlauts."""
    folded = unicodedata.normalize("NFKD", " ".join(texts).casefold())
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    spaced = "".join(character if character.isalpha() else " " for character in plain.replace("'", ""))
    for digraph, letter in _UMLAUTS:
        spaced = spaced.replace(digraph, letter)
    return tuple(spaced.split())


def _share(stated: Sequence[str], known: Sequence[str]) -> bool:
    """Return whether two lists have a name in common, written as one word or as several."""
    return _similar("".join(stated), "".join(known)) or any(_similar(one, other) for one in stated for other in known)


def _similar(one: str, other: str) -> bool:
    """Return whether two words are one name: an initial, or up to two letters that differ in a long one."""
    if not one or not other:
        return False
    if min(len(one), len(other)) == 1:
        return one[0] == other[0]
    shorter = min(len(one), len(other))
    allowed = 2 if shorter >= _LONG else 1 if shorter > 2 else 0
    return abs(len(one) - len(other)) <= allowed and _distance(one, other) <= allowed


def _distance(one: str, other: str) -> int:
    """Count the letters to insert, remove, change or exchange with the next one."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, start=1):
        above, row, earlier = row, [place], before
        for column, second in enumerate(other, start=1):
            cost = min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != second))
            if place > 1 and column > 1 and letter == other[column - 2] and second == one[place - 2]:
                cost = min(cost, earlier[column - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]


def _is_latin(words: Sequence[str]) -> bool:
    return all("LATIN" in unicodedata.name(character, "") for word in words for character in word)
