"""Features: the declared codes are read in the declared window and unit, and anything else is missing."""

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from inference.contract import Fact, FactsInput, Unusable
from inference.features.analytes import ANALYTES
from inference.features.extract import Extraction, FeatureValue, compile_features
from inference.features.spec import parse_features
from inference.features.units import CONVERSIONS, convert
from inference.testing import ADULT, NOW, fact
from kernel.errors import Category, Problem

TEMPERATURE: dict[str, Any] = {
    "name": "temperature",
    "title": "temperature",
    "window": {"take": "last", "hours": 12},
    "missing": "refuse",
    "sources": [{"code": "8310-5", "unit": "Cel", "plausible": [20, 46]}],
}
SATURATION: dict[str, Any] = {
    "name": "saturation",
    "title": "oxygen saturation",
    "window": {"take": "last", "hours": 12},
    "missing": "refuse",
    "sources": [{"code": "59408-5", "unit": "%"}, {"code": "2708-6", "unit": "%"}],
}


def extract(declared: dict[str, Any], *facts: Fact, **changes: Any) -> Extraction:
    specs = parse_features({"features": [declared | changes]})
    return compile_features(specs)(FactsInput(subject=ADULT, facts=facts, at=NOW))


def value(declared: dict[str, Any], *facts: Fact, **changes: Any) -> Decimal | str | None:
    reading = extract(declared, *facts, **changes).readings[declared["name"]]
    return None if reading is None else reading.value


def test_the_newest_value_is_read_with_its_source_and_time() -> None:
    newest = fact("8310-5", "38.2", "Cel", hours_ago=1)
    found = extract(TEMPERATURE, fact("8310-5", "36.0", "Cel", hours_ago=2), newest)
    assert found.readings["temperature"] == FeatureValue(
        value=Decimal("38.2"), unit="Cel", code="8310-5", effective=newest.effective, sources=(newest.source,)
    )
    assert [used.source for used in found.inputs] == [newest.source]


def test_the_newest_of_several_codes_wins_and_two_of_one_time_contradict_each_other_unless_they_are_equal() -> None:
    older = fact("59408-5", "97", "%", hours_ago=2)
    assert value(SATURATION, older, fact("2708-6", "91", "%", hours_ago=1)) == 91
    assert value(SATURATION, fact("2708-6", "0.97", "1", hours_ago=2), older) == 97
    found = extract(SATURATION, fact("2708-6", "91", "%", hours_ago=2), older)
    assert found.readings["saturation"] is None
    assert found.reason == "contradictory: oxygen saturation (97 % by 59408-5, 91 % by 2708-6)"
    assert [(use.why, use.source) for use in found.features] == [
        ("contradictory", "Observation/59408-5-2/_history/1"),
        ("contradictory", "Observation/2708-6-2/_history/1"),
    ]


def test_values_of_one_time_that_a_model_declares_to_mean_the_same_do_not_contradict_each_other() -> None:
    banded = [source | {"same": [91, 95]} for source in SATURATION["sources"]]
    older = fact("59408-5", "97", "%", hours_ago=2)
    assert value(SATURATION, fact("2708-6", "96", "%", hours_ago=2), older, sources=banded) == 97
    assert value(SATURATION, fact("2708-6", "95", "%", hours_ago=2), older, sources=banded) is None


@pytest.mark.parametrize(
    "sources",
    [
        [{"code": "1", "unit": "%", "same": [91]}, {"code": "2", "unit": "%"}],
        [{"code": "1", "unit": "%", "same": [91]}, {"code": "2", "unit": "%", "same": [91, 95]}],
        [{"code": "1", "unit": "%", "same": [95, 91]}],
        [{"code": "1", "answers": {"alert": ["a"], "voice": ["v"]}, "same": [["alert"], ["alert"]]}],
        [{"code": "1", "unit": "%", "same": [["alert"]]}],
    ],
)
def test_groups_of_values_must_fit_each_other(sources: list[dict[str, Any]]) -> None:
    with pytest.raises(Problem):
        parse_features({"features": [SATURATION | {"sources": sources}]})


@pytest.mark.parametrize(
    ("take", "limit", "expected"),
    [
        ("max", ">41", None),
        ("max", ">36", None),
        ("max", "<36", 38),
        ("max", "<39", None),
        ("min", "<30", None),
        ("min", ">39", 36),
        ("min", ">35", None),
        ("mean", "<30", None),
        ("count", ">41", 2),
    ],
)
def test_a_limit_leaves_an_aggregate_without_a_value_where_it_could_change_it(
    take: str, limit: str, expected: int | None
) -> None:
    """The limit is stated by a comparator, and in a text as some laboratories write it."""
    measured = [fact("8310-5", "36", "Cel", hours_ago=3), fact("8310-5", "38", "Cel", hours_ago=2)]
    stated = fact("8310-5", limit[1:], "Cel")
    for one in (replace(stated, unusable="unreadable", comparator=limit[0]), replace(stated, value=limit)):
        assert value(TEMPERATURE, *measured, one, window={"take": take, "hours": 12}) == expected


@pytest.mark.parametrize(
    ("take", "reason"),
    [
        ("min", "known only as a limit: temperature (<30 Cel)"),
        ("max", "known only as a limit: temperature (<30 Cel)"),
        ("mean", "known only as a limit: temperature (<30 Cel)"),
        ("last", "unreadable temperature"),
        ("count", "unreadable temperature"),
    ],
)
def test_a_window_with_nothing_but_a_limit_says_so(take: str, reason: str) -> None:
    stated = replace(fact("8310-5", "30", "Cel"), unusable="unreadable", comparator="<")
    assert extract(TEMPERATURE, stated, window={"take": take, "hours": 12}).reason == reason


@pytest.mark.parametrize("name", ["haemoglobin", "hemoglobin"])
def test_haemoglobin_is_an_analyte_in_either_spelling(name: str) -> None:
    assert convert(Decimal(10), "mmol/L", "g/dL", name) == Decimal("16.1145")


def test_an_analyte_that_is_not_in_the_table_is_refused_with_the_list() -> None:
    source = {"code": "718-7", "unit": "g/dL", "analyte": "hemaglobin"}
    with pytest.raises(Problem, match=r"must be one of: albumin, .*, haemoglobin, hemoglobin, .*, urea nitrogen"):
        parse_features({"features": [TEMPERATURE | {"sources": [source]}]})


def test_of_two_values_with_the_same_time_the_later_issued_is_used() -> None:
    first, corrected = fact("8310-5", "36.0", "Cel"), fact("8310-5", "39.0", "Cel", known_h=0.5)
    assert value(TEMPERATURE, corrected, first) == 39


@pytest.mark.parametrize("first", ["37.0", "39.0"])
def test_two_values_of_one_message_contradict_each_other_in_any_order_and_those_of_two_messages_do_not(
    first: str,
) -> None:
    second = {"37.0": "39.0", "39.0": "37.0"}[first]
    one, other = fact("8310-5", first, "Cel"), replace(fact("8310-5", second, "Cel"), source="Observation/2/_history/1")
    stored = {"known": one.issued, "issued": one.issued}
    sent = [replace(one, arrived=1, **stored), replace(other, arrived=2, **stored)]
    assert extract(TEMPERATURE, *sent).reason.startswith("contradictory: temperature (")
    assert value(TEMPERATURE, sent[0], replace(sent[1], known=one.issued + timedelta(seconds=1))) == Decimal(second)


def test_one_that_cannot_be_used_is_not_passed_over_for_the_other_of_its_message() -> None:
    older = replace(fact("59408-5", "97", "%", hours_ago=1.001), known=NOW)
    usable = replace(fact("2708-6", "96", "%"), known=NOW)
    unusable = replace(usable, unusable="unreadable", source="Observation/0/_history/1")
    assert extract(SATURATION, usable, unusable).reason == "unreadable oxygen saturation"
    assert extract(SATURATION, older, usable, unusable).reason == "unreadable oxygen saturation"


@pytest.mark.parametrize("take", ["last", "min", "mean"])
def test_a_corrected_value_replaces_a_final_one_of_its_time_whatever_arrived_last(take: str) -> None:
    """The correction is to the minute: NOW is a full minute."""
    corrected = replace(fact("8310-5", "39", "Cel"), standing=2)
    at = corrected.effective + timedelta(seconds=37)
    original = replace(fact("8310-5", "36", "Cel", known_h=0.5), effective=at, source="Observation/late/_history/1")
    read = {"window": {"take": take, "hours": 12}}
    assert value(TEMPERATURE, corrected, original, **read) == 39
    after = replace(original, effective=corrected.effective + timedelta(minutes=1))
    assert value(TEMPERATURE, corrected, after, **read) == {"last": 36, "min": 36, "mean": Decimal("37.5")}[take]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (fact("8310-5", "37", "Cel", hours_ago=-0.1), "in the future: temperature"),
        (fact("8310-5", "37", "Cel", hours_ago=2, known_h=3), "in the future: temperature"),
        (fact("8310-5", "37", "Cel", hours_ago=12.01), "too old: temperature"),
        (replace(fact("8310-5", "37", "Cel"), unusable="untimed"), "untimed: temperature"),
        (replace(fact("8310-5", "37", "Cel"), unusable="unstated"), "no status: temperature"),
        (replace(fact("8310-5", "37", "Cel"), unusable="absent"), "stated as absent: temperature"),
        (replace(fact("8310-5", "37", "Cel"), unusable="unreadable"), "unreadable temperature"),
        (fact("8480-6", "120", "mm[Hg]"), "missing temperature"),
    ],
)
def test_a_value_that_does_not_count_is_refused_for_its_own_reason(given: Fact, why: str) -> None:
    found = extract(TEMPERATURE, given)
    assert found.missing == ("temperature",)
    assert found.reason == why


@pytest.mark.parametrize("unusable", ["untimed", "unstated", "absent", "unreadable"])
def test_an_older_value_never_stands_in_for_a_newer_one_that_cannot_be_used(unusable: Unusable) -> None:
    newer = replace(fact("8310-5", "37", "Cel", hours_ago=1), unusable=unusable)
    found = extract(TEMPERATURE, fact("8310-5", "36", "Cel", hours_ago=2), newer)
    assert found.missing == ("temperature",)
    assert [use.source for use in found.features] == [newer.source]


def at_minute(minute: float, known: float | None = None) -> Fact:
    """Make a temperature that was measured so many minutes from now, and stored ``known`` minutes from now."""
    one = fact("8310-5", "37", "Cel", hours_ago=-minute / 60)
    stored = NOW + timedelta(minutes=minute if known is None else known)
    return replace(one, known=stored, issued=stored)


def within_five_minutes(*facts: Fact) -> FactsInput:
    return FactsInput(subject=ADULT, facts=facts, at=NOW, clock_tolerance=timedelta(minutes=5))


def reading(given: FactsInput) -> FeatureValue | None:
    return compile_features(parse_features({"features": [TEMPERATURE]}))(given).readings["temperature"]


def test_a_time_within_the_tolerance_of_clocks_counts_as_now() -> None:
    assert reading(within_five_minutes(at_minute(5, known=0))) is not None
    assert reading(within_five_minutes(at_minute(5.1, known=0))) is None


def test_what_a_clock_that_was_set_back_had_stored_has_arrived() -> None:
    assert reading(within_five_minutes(at_minute(-2, known=58))) is not None


def test_a_value_measured_after_one_with_a_time_in_the_future_had_arrived_is_newer() -> None:
    """A device whose clock is a year ahead silences nothing for a year."""
    wrong, right = at_minute(525_600, known=-30), at_minute(-10)
    used = reading(within_five_minutes(wrong, right))
    assert used is not None
    assert used.effective == right.effective


def test_the_input_says_when_the_next_value_can_be_used() -> None:
    given = within_five_minutes(at_minute(30, known=0), at_minute(60, known=0), at_minute(-1))
    assert given.next_usable == NOW + timedelta(minutes=25)
    assert within_five_minutes(at_minute(-1)).next_usable is None


def test_an_answer_in_several_code_systems_is_read_in_the_one_that_is_understood() -> None:
    answers = TEMPERATURE | {"sources": [{"code": "67775-7", "answers": {"alert": ["248234008"]}}]}
    local, snomed = fact("67775-7", "local-1", None), fact("67775-7", "x", None)
    assert value(answers, local, replace(snomed, value="248234008")) == "alert"


def test_the_window_holds_its_edge() -> None:
    assert value(TEMPERATURE, fact("8310-5", "37", "Cel", hours_ago=12)) == 37


@pytest.mark.parametrize(
    ("sent", "unit", "canonical", "read"),
    [
        ("98.6", "[degF]", "Cel", "37"),
        ("100.4", "[degF]", "Cel", "38"),
        ("310.15", "K", "Cel", "37"),
        ("0.97", "1", "%", "97"),
        ("97", "%", "%", "97"),
        ("16", "kPa", "mm[Hg]", "120.009869"),
        ("500", "mL/min", "L/min", "0.5"),
        ("15", None, "{score}", "15"),
    ],
)
def test_units_are_converted_exactly(sent: str, unit: str | None, canonical: str, read: str) -> None:
    assert convert(Decimal(sent), unit, canonical) == Decimal(read)


@pytest.mark.parametrize("canonical", [unit for unit in CONVERSIONS if unit != "{score}"])
def test_a_number_without_a_unit_or_with_an_unknown_one_is_never_read(canonical: str) -> None:
    assert convert(Decimal(1), None, canonical) is None
    assert convert(Decimal(1), "furlong", canonical) is None


def test_a_number_too_large_for_any_measurement_is_never_read() -> None:
    assert convert(Decimal("1e60"), "Cel", "Cel") is None


def test_an_unknown_unit_refuses_even_when_an_older_value_could_be_read() -> None:
    found = extract(TEMPERATURE, fact("8310-5", "37", "Cel", hours_ago=2), fact("8310-5", "37", "furlong"))
    assert found.reason == "unreadable temperature"


@pytest.mark.parametrize("sent", ["19.9", "46.1", "98.6"])
def test_an_implausible_value_is_refused(sent: str) -> None:
    assert extract(TEMPERATURE, fact("8310-5", sent, "Cel")).reason == "implausible temperature"


@pytest.mark.parametrize("sent", ["NaN", "Infinity"])
def test_a_value_that_is_not_a_number_is_unreadable(sent: str) -> None:
    assert extract(TEMPERATURE, fact("8310-5", sent, "Cel")).reason == "unreadable temperature"


def test_missing_is_never_zero() -> None:
    assert value(TEMPERATURE, missing="nan") is None
    assert value(TEMPERATURE, missing={"default": 37}) == 37
    assert extract(TEMPERATURE, missing="nan").missing == ()


def test_all_missing_features_are_named_at_once() -> None:
    specs = parse_features({"features": [TEMPERATURE, SATURATION]})
    found = compile_features(specs)(FactsInput(subject=ADULT, facts=(), at=NOW))
    assert found.reason == "missing temperature, oxygen saturation"


@pytest.mark.parametrize(("take", "result"), [("min", "36"), ("max", "39"), ("mean", "37.5"), ("count", "2")])
def test_a_feature_can_aggregate_its_window(take: str, result: str) -> None:
    facts = (fact("8310-5", "36", "Cel", hours_ago=3), fact("8310-5", "102.2", "[degF]", hours_ago=1))
    found = extract(TEMPERATURE, *facts, window={"take": take, "hours": 12})
    reading = found.readings["temperature"]
    assert reading is not None
    assert reading.value == Decimal(result)
    assert len(found.inputs) == 2


def test_answers_are_read_by_code_or_word_whatever_their_case() -> None:
    answers = {"alert": ["LA9340-6", "alert"], "voice": ["V"]}
    changes = {"sources": [{"code": "67775-7", "answers": answers}]}
    assert value(TEMPERATURE, fact("67775-7", "Alert ", None), **changes) == "alert"
    assert value(TEMPERATURE, fact("67775-7", "v", None), **changes) == "voice"
    assert extract(TEMPERATURE, fact("67775-7", "sleepy", None), **changes).reason == "unreadable temperature"


AGE = {"name": "age", "title": "age", "subject": "age", "missing": "refuse"}


def test_age_and_sex_come_from_the_patient() -> None:
    assert value(AGE) == 65
    assert value(AGE | {"name": "sex", "subject": "sex"}) == 0


def test_an_age_that_depends_on_a_day_of_birth_that_is_not_known_is_refused_with_what_is_known() -> None:
    def read(born: str) -> tuple[str, FeatureValue | None]:
        subject = replace(ADULT, birth_date=None, birth_period=born)
        found = compile_features(parse_features({"features": [AGE]}))(FactsInput(subject=subject, facts=(), at=NOW))
        return found.reason, found.readings["age"]

    assert read("1960") == ("missing age (date of birth is known only as 1960)", None)
    reason, age = read("1960-11")  # no birthday lies between the two
    assert (reason, age and age.value) == ("", 65)


@pytest.mark.parametrize(
    ("path", "wrong", "complaint"),
    [
        (("name",), None, "features.yaml.features[0].name is missing"),
        (("colour",), "red", "features.yaml.features[0].colour is not known"),
        (("missing",), "zero", "features.yaml.features[0].missing must be a mapping"),
        (("window", "take"), "newest", "features.yaml.features[0].window.take must be one of"),
        (("window", "hours"), 0, "features.yaml.features[0].window.hours must be above 0"),
        (("sources", 0, "unit"), "celsius", "features.yaml.features[0].sources[0].unit is not a unit of UCUM"),
        (("sources", 0, "plausible"), [46, 20], "features.yaml.features[0].sources[0].plausible must be given from"),
        (("sources", 0, "unit"), None, "features.yaml.features[0].sources[0] must have either unit or answers"),
        (("sources",), [], "features.yaml.features[0].sources must not be empty"),
    ],
)
def test_a_wrong_declaration_is_refused_by_the_name_of_its_key(
    path: tuple[str | int, ...], wrong: Any, complaint: str
) -> None:
    declared = deepcopy(TEMPERATURE)
    place: Any = declared
    for step in path[:-1]:
        place = place[step]
    if wrong is None:
        del place[path[-1]]
    else:
        place[path[-1]] = wrong
    with pytest.raises(Problem) as refused:
        parse_features({"features": [declared]})
    assert refused.value.category is Category.INCORRECT
    assert refused.value.detail.startswith(complaint)


@pytest.mark.parametrize(
    ("sent", "unit", "canonical", "analyte", "read"),
    [
        ("88.4", "umol/L", "mg/dL", "creatinine", "1.0"),
        ("88.4", "µmol/L", "mg/dL", "creatinine", "1.0"),
        ("100", "mg/dL", "mmol/L", "glucose", "5.55"),
        ("4.1", "mEq/L", "mmol/L", "potassium", "4.1"),
        ("4.8", "meq/L", "mmol/L", "calcium", "2.4"),
        ("2.4", "mmol/L", "meq/L", "calcium", "4.8"),
        ("9.62", "mg/dL", "mmol/L", "calcium", "2.40"),
        ("14.5", "g/dL", "mmol/L", "haemoglobin", "9.0"),
        ("7", "mmol/L", "mg/dL", "urea nitrogen", "19.6"),
        ("1.4", "g/L", "mg/dL", None, "140"),
        ("250", "10*3/uL", "10*9/L", None, "250"),
        ("250", "10^9/L", "10*9/L", None, "250"),
        ("250", "K/uL", "10*9/L", None, "250"),
        ("180", "[lb_av]", "kg", None, "81.6"),
        ("12", "IU/L", "[IU]/L", None, "12"),
        ("7.31", "[pH]", "[pH]", None, "7.31"),
        ("7.31", "1", "[pH]", None, "7.31"),
    ],
)
def test_every_unit_of_ucum_is_converted_and_mass_and_amount_by_the_analyte(
    sent: str, unit: str, canonical: str, analyte: str | None, read: str
) -> None:
    converted = convert(Decimal(sent), unit, canonical, analyte)
    assert converted is not None
    assert float(converted) == pytest.approx(float(read), rel=0.005)


@pytest.mark.parametrize(
    ("unit", "canonical", "analyte"),
    [
        ("umol/L", "mg/dL", None),  # of what is not said
        ("meq/L", "mmol/L", None),
        ("meq/L", "mmol/L", "creatinine"),  # has no charge that laboratories count
        ("Meq/L", "mmol/L", "sodium"),  # mega, says UCUM
        ("mosm/kg", "mmol/kg", None),
        ("U/L", "[IU]/L", None),  # an arbitrary unit is none of another kind
        ("Cel", "K", None),  # a scale with its own zero
        ("[pH]", "mol/L", None),
        ("mol/L", "[pH]", None),
        ("mg%", "mg/dL", None),
        ("MG/DL", "mg/dL", None),  # upper case is another form of UCUM, in which L may be a lambert
        ("(" * 40, "kg", None),
        ("kg" * 60, "kg", None),
        ("", "kg", None),
    ],
)
def test_what_has_no_sure_conversion_is_not_converted(unit: str, canonical: str, analyte: str | None) -> None:
    assert convert(Decimal(1), unit, canonical, analyte) is None


def test_the_molar_mass_of_a_simple_analyte_is_the_sum_of_its_atoms() -> None:
    """Standard atomic weights, IUPAC 2021: an independent check of the table."""
    weights = {"C": 12.011, "H": 1.008, "N": 14.007, "O": 15.999, "Na": 22.990, "K": 39.098, "Cl": 35.45, "Ca": 40.078}
    formulas: dict[str, dict[str, int]] = {
        "bicarbonate": {"H": 1, "C": 1, "O": 3},
        "bilirubin": {"C": 33, "H": 36, "N": 4, "O": 6},
        "calcium": {"Ca": 1},
        "chloride": {"Cl": 1},
        "cholesterol": {"C": 27, "H": 46, "O": 1},
        "creatinine": {"C": 4, "H": 7, "N": 3, "O": 1},
        "glucose": {"C": 6, "H": 12, "O": 6},
        "lactate": {"C": 3, "H": 5, "O": 3},
        "potassium": {"K": 1},
        "sodium": {"Na": 1},
        "urate": {"C": 5, "H": 4, "N": 4, "O": 3},
        "urea": {"C": 1, "H": 4, "N": 2, "O": 1},
        "urea nitrogen": {"N": 2},
    }
    for name, atoms in formulas.items():
        mass = sum(weights[atom] * count for atom, count in atoms.items())
        assert float(ANALYTES[name].molar_mass) == pytest.approx(mass, rel=1e-4), name


def test_an_analyte_that_is_not_known_is_refused() -> None:
    source = {"code": "2160-0", "unit": "mg/dL", "analyte": "creatinin"}
    with pytest.raises(Problem, match="analyte must be one of"):
        parse_features({"features": [TEMPERATURE | {"name": "creatinine", "sources": [source]}]})


def test_a_feature_may_be_declared_once() -> None:
    with pytest.raises(Problem, match="temperature is declared twice"):
        parse_features({"features": [TEMPERATURE, TEMPERATURE]})
