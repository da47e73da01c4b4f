"""NEWS2 (Royal College of Physicians, December 2017): exact at every band edge, with every missing value named."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from inference.contract import Fact, FactsInput, Output
from inference.folder import bundled_folder
from inference.golden import infer
from inference.loading import AnyRunner, load_model
from inference.models.news2.model import risk_band
from inference.runners.base import Declined
from inference.testing import ADULT, NOW, WELL, Measured, fact, vitals


@pytest.fixture(scope="module")
def news2() -> AnyRunner:
    return load_model(bundled_folder("news2"))


def total(news2: AnyRunner, given: FactsInput) -> Output:
    (output,) = infer(news2, given).outputs
    return output


def refusal(news2: AnyRunner, given: FactsInput) -> Declined:
    with pytest.raises(Declined) as declined:
        infer(news2, given)
    return declined.value


EDGES: Mapping[str, tuple[str, str, str]] = {
    "_9279_1": ("respirations", "/min", "0:3 8:3 9:1 11:1 12:0 20:0 21:2 24:2 25:3 60:3"),
    "_59408_5": ("oxygen saturation, scale 1", "%", "70:3 91:3 92:2 93:2 94:1 95:1 96:0 100:0"),
    "_8480_6": ("systolic", "mm[Hg]", "50:3 90:3 91:2 100:2 101:1 110:1 111:0 219:0 220:3 300:3"),
    "_8867_4": ("pulse", "/min", "0:3 40:3 41:1 50:1 51:0 90:0 91:1 110:1 111:2 130:2 131:3 250:3"),
    "_8310_5": ("temperature", "Cel", "30:3 35.0:3 35.1:1 36.0:1 36.1:0 38.0:0 38.1:1 39.0:1 39.1:2 42:2"),
    "_3151_8": ("oxygen flow", "L/min", "0:0 0.5:2 15:2"),
}


@pytest.mark.parametrize(
    ("code", "unit", "value", "points"),
    [
        pytest.param(code, unit, *edge.split(":"), id=f"{name} {edge}")
        for code, (name, unit, edges) in EDGES.items()
        for edge in edges.split()
    ],
)
def test_each_band_edge_of_the_chart(news2: AnyRunner, code: str, unit: str, value: str, points: str) -> None:
    assert total(news2, vitals(**{code: (value, unit)})).value == int(points)


@pytest.mark.parametrize(
    ("code", "value", "unit", "points"),
    [
        ("_9279_1", "8.4", "/min", 3),
        ("_9279_1", "8.5", "/min", 1),
        ("_9279_1", "20.5", "/min", 2),
        ("_59408_5", "91.5", "%", 2),
        ("_59408_5", "95.5", "%", 0),
        ("_8480_6", "219.5", "mm[Hg]", 3),
        ("_8867_4", "90.5", "/min", 1),
        ("_8310_5", "35.04", "Cel", 3),
        ("_8310_5", "35.05", "Cel", 1),
        ("_8310_5", "38.05", "Cel", 1),
        ("_8310_5", "39.05", "Cel", 2),
        ("_8310_5", "100.4", "[degF]", 0),
        ("_8310_5", "102.3", "[degF]", 2),
        ("_59408_5", "0.95", "1", 1),
    ],
)
def test_values_between_the_bands_are_rounded_half_up(
    news2: AnyRunner, code: str, value: str, unit: str, points: int
) -> None:
    assert total(news2, vitals(**{code: (value, unit)})).value == points


@pytest.mark.parametrize(
    ("answers", "points"),
    [
        (("LA9340-6", "248234008", "Alert", "A"), 0),
        (("LA6560-2", "130987000", "Confusion", "C", "New confusion"), 3),
        (("LA17108-4", "300202002", "Voice", "V", "Responds to voice"), 3),
        (("LA17107-6", "450847001", "Pain", "P"), 3),
        (("LA9343-0", "422768004", "Unresponsive", "U"), 3),
    ],
)
def test_consciousness_in_loinc_snomed_and_words(news2: AnyRunner, answers: tuple[str, ...], points: int) -> None:
    for answer in answers:
        said = replace(fact("67775-7", "x", None, hours_ago=0.5), value=answer)
        assert total(news2, vitals(said)).value == points, answer


@pytest.mark.parametrize(("glasgow", "points"), [("15", 0), ("14", 3), ("3", 3)])
def test_glasgow_total_stands_in_for_consciousness(news2: AnyRunner, glasgow: str, points: int) -> None:
    given = vitals(fact("9269-2", glasgow, "{score}"), _67775_7=None)
    assert total(news2, given).value == points


@pytest.mark.parametrize(("percent", "unit", "points"), [("21", "%", 0), ("0.21", "1", 0), ("24", "%", 2)])
def test_inspired_oxygen_up_to_21_percent_is_room_air(news2: AnyRunner, percent: str, unit: str, points: int) -> None:
    assert total(news2, vitals(fact("3150-6", percent, unit), _3151_8=None)).value == points


@pytest.mark.parametrize(
    ("newer", "points"),
    [
        (fact("3150-6", "40", "%", hours_ago=0.5), 2),
        (fact("9269-2", "13", "{score}", hours_ago=0.5), 3),
        (fact("2708-6", "90", "%", hours_ago=0.5), 3),
        (fact("2708-6", "90", "%", hours_ago=2), 0),
    ],
)
def test_the_newest_of_two_codes_decides(news2: AnyRunner, newer: Fact, points: int) -> None:
    assert total(news2, vitals(newer)).value == points


def test_the_greatest_total_is_20(news2: AnyRunner) -> None:
    worst: dict[str, Measured | None] = {
        "_9279_1": ("30", "/min"),
        "_59408_5": ("85", "%"),
        "_3151_8": ("15", "L/min"),
        "_8480_6": ("80", "mm[Hg]"),
        "_8867_4": ("140", "/min"),
        "_67775_7": ("LA9343-0", None),
        "_8310_5": ("34", "Cel"),
    }
    said = total(news2, vitals(**worst))
    assert (said.value, said.band) == (20, "high")


@pytest.mark.parametrize(
    ("points", "band"),
    [
        ([0, 0, 0, 0, 0, 0, 0], "low"),
        ([2, 2, 0, 0, 0, 0, 0], "low"),
        ([3, 0, 0, 0, 0, 0, 0], "low-medium"),
        ([3, 1, 0, 0, 0, 0, 0], "low-medium"),
        ([2, 2, 1, 0, 0, 0, 0], "medium"),
        ([3, 3, 0, 0, 0, 0, 0], "medium"),
        ([3, 3, 1, 0, 0, 0, 0], "high"),
    ],
)
def test_thresholds_and_triggers(points: list[int], band: str) -> None:
    assert risk_band(points) == band


def test_the_text_shows_the_arithmetic_and_the_response(news2: AnyRunner) -> None:
    said = total(news2, vitals(_9279_1=("25", "/min"), _8310_5=("39.05", "Cel")))
    assert said.text == (
        "AI-generated, not reviewed by a person. NEWS2 5 of 20. Medium clinical risk: urgent response, review by a "
        "clinician skilled in acute illness within 1 hour. Points: respiratory rate 25 /min = 3; oxygen saturation "
        "(scale 1) 97 % = 0; room air = 0; systolic blood pressure 120 mm[Hg] = 0; pulse 70 /min = 0; consciousness "
        "alert = 0; temperature 39.1 Cel = 2."
    )
    assert (said.system, said.code, said.future) == ("http://snomed.info/sct", "1104051000000101", True)


TITLES = {
    "9279-1": "respiratory rate",
    "59408-5": "oxygen saturation",
    "3151-8": "supplemental oxygen or room air",
    "8480-6": "systolic blood pressure",
    "8867-4": "pulse",
    "67775-7": "level of consciousness",
    "8310-5": "temperature",
}


@pytest.mark.parametrize("code", TITLES)
def test_without_one_parameter_the_refusal_names_it(news2: AnyRunner, code: str) -> None:
    said = refusal(news2, vitals(**{code.replace("-", "_"): None}))
    assert said.missing == (TITLES[code],)
    assert said.reason == f"missing {TITLES[code]}"
    assert len(said.inputs) == len(WELL) - 1


def test_every_missing_parameter_is_named(news2: AnyRunner) -> None:
    said = refusal(news2, FactsInput(subject=ADULT, facts=(), at=NOW))
    assert set(said.missing) == set(TITLES.values())


@pytest.mark.parametrize("code", TITLES)
def test_a_parameter_older_than_12_hours_is_too_old(news2: AnyRunner, code: str) -> None:
    old = fact(code, *WELL[code], hours_ago=12.1)
    said = refusal(news2, vitals(old, **{code.replace("-", "_"): None}))
    assert (said.missing, said.reason) == ((TITLES[code],), f"too old: {TITLES[code]}")


def test_parameters_of_different_sets_of_observations_are_declined(news2: AnyRunner) -> None:
    apart = fact("8867-4", *WELL["8867-4"], hours_ago=5.1)
    said = refusal(news2, vitals(apart, _8867_4=None))
    assert said.reason == "the values were measured more than 4 hours apart; the oldest is pulse"
    together = fact("8867-4", *WELL["8867-4"], hours_ago=5)
    assert total(news2, vitals(together, _8867_4=None)).value == 0


def test_an_answer_that_is_not_understood_is_refused_not_guessed(news2: AnyRunner) -> None:
    assert refusal(news2, vitals(_67775_7=("sleepy", None))).reason == "unreadable level of consciousness"


def test_an_impossible_measurement_is_refused(news2: AnyRunner) -> None:
    assert refusal(news2, vitals(_59408_5=("0.97", "%"))).reason == "implausible oxygen saturation"


def test_sixteen_today_is_old_enough(news2: AnyRunner) -> None:
    adult = replace(ADULT, birth_date=NOW.date().replace(year=2010))
    assert total(news2, vitals(subject=adult)).value == 0


def test_one_day_under_sixteen_is_declined(news2: AnyRunner) -> None:
    child = replace(ADULT, birth_date=NOW.date().replace(year=2010) + timedelta(days=1))
    assert refusal(news2, vitals(subject=child)).reason == "the model is not for patients under 16 years"


def test_an_unknown_date_of_birth_is_declined(news2: AnyRunner) -> None:
    said = refusal(news2, vitals(subject=replace(ADULT, birth_date=None)))
    assert said.reason == "date of birth is not known and the model is not for patients under 16 years"
    assert said.missing == ("date of birth",)


def test_the_card_tells_what_the_score_is_not_for(news2: AnyRunner) -> None:
    for word in ("pregnan", "scale 2", "under 16"):
        assert word in news2.model.card


def test_every_number_read_is_among_the_inputs(news2: AnyRunner) -> None:
    inputs = news2.decode(vitals()).inputs
    assert {used.name: used.value for used in inputs}["pulse"] == Decimal(70)
    assert len({used.source for used in inputs}) == len(WELL)
