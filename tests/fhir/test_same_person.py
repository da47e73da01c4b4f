"""Whether two statements about one identifier can be about one person: the rule as a table of cases."""

import pytest

from fhir_adapter.same_person import Person, PersonName, doubts, person_of


def person(name: str = "", birth_date: str = "", sex: str = "") -> Person:
    """Read ``Family^Given Given, Former^Given``."""
    names = [one.strip().partition("^") for one in name.split(",") if one.strip()]
    return Person(
        names=tuple(PersonName(family=family, given=tuple(given.split())) for family, _, given in names),
        birth_date=birth_date,
        sex=sex,
    )


ADA = person("Müller^Ada Marie", "1950-03-02", "female")

SAME = {
    "all alike": person("Müller^Ada Marie", "1950-03-02", "female"),
    "in capitals, without umlaut": person("MUELLER^ADA", "1950-03-02", "female"),
    "without accents": person("Muller^Ada", "1950-03-02", "female"),
    "misspelt": person("Mülller^Adda", "1950-03-02", "female"),
    "letters exchanged": person("Mlüler^Ada", "1950-03-02", "female"),
    "married": person("Schmidt^Ada", "1950-03-02", "female"),
    "married, with both names": person("Schmidt-Müller^Ada", "1950-03-02", "female"),
    "another given name is used": person("Müller^Marie", "1950-03-02", "female"),
    "an initial": person("Müller^A", "1950-03-02", "female"),
    "family and given name exchanged": person("Ada^Müller", "1950-03-02", "female"),
    "family name only": person("Müller", "1950-03-02", "female"),
    "a new name": person("Novak^Eva", "1950-03-02", "female"),
    "no name": person("", "1950-03-02", "female"),
    "an unknown name": person("UNKNOWN^Patient", "1950", "female"),
    "another script": person("ミュラー^アダ", "1950-03-02", "female"),
    "no birth date": person("Müller^Ada", "", "female"),
    "no birth date, married": person("Schmidt^Ada", "", "female"),
    "a year only": person("Müller^Ada", "1950", "female"),
    "a mistyped digit": person("Müller^Ada", "1960-03-02", "female"),
    "day and month exchanged": person("Müller^Ada", "1950-02-03", "female"),
    "another birth date": person("Müller^Ada", "1971-11-30", "female"),
    "another sex": person("Müller^Ada", "1950-03-02", "male"),
    "an unknown sex": person("Müller^Ada", "1950-03-02", "unknown"),
    "married, and a mistyped digit": person("Schmidt^Ada", "1950-03-03", "female"),
    "nothing": person(),
}

OTHER = {
    "everything": (person("Novak^Karl", "1932-11-30", "male"), ("name", "birth-date", "sex")),
    "name and birth date": (person("Novak^Eva", "1932-11-30", "female"), ("name", "birth-date")),
    "name and sex": (person("Novak^Karl", "1950-03-02", "male"), ("name", "sex")),
    "birth date and sex": (person("Müller^Ada", "1932-11-30", "male"), ("birth-date", "sex")),
    "a name, and nothing else": (person("Novak^Karl"), ("name",)),
    "a name, and the same sex": (person("Novak^Eva", "", "female"), ("name",)),
    "a birth date, and nothing else": (person("", "1932-11-30"), ("birth-date",)),
    "a namesake's given name and another birth date": (person("Novak^Ada", "1932-11-30", "female"), ("birth-date",)),
    "a year": (person("Novak^Karl", "1932", "female"), ("name", "birth-date")),
}


@pytest.mark.parametrize("stated", SAME.values(), ids=SAME.keys())
def test_what_may_be_one_person_is_no_doubt(stated: Person) -> None:
    assert doubts(stated, ADA) == ()
    assert doubts(ADA, stated) == ()


@pytest.mark.parametrize(("stated", "contradicting"), OTHER.values(), ids=OTHER.keys())
def test_what_is_another_person_is_in_doubt(stated: Person, contradicting: tuple[str, ...]) -> None:
    assert doubts(stated, ADA) == contradicting
    assert doubts(ADA, stated) == contradicting


def test_the_source_of_patients_may_correct_one_attribute_and_not_two() -> None:
    assert doubts(person("Novak^Eva", "", "female"), ADA, source_of_patients=True) == ()
    assert doubts(person("", "1932-11-30"), ADA, source_of_patients=True) == ()
    assert doubts(person("Novak^Karl", "1932-11-30"), ADA, source_of_patients=True) == ("name", "birth-date")


def test_a_former_name_counts() -> None:
    known = person("Schmidt^Ada, Müller^Ada", "1950-03-02", "female")
    assert doubts(person("Müller^A", "1971-11-30", "female"), known) == ()


def test_a_temporary_name_says_nothing() -> None:
    patient = {"name": [{"use": "temp", "family": "Trauma", "given": ["Seven"]}], "birthDate": "1900-01-01"}
    assert doubts(person("Novak^Karl", "1932-11-30"), person_of(patient), source_of_patients=True) == ()
