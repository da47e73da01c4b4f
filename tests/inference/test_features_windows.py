"""What is taken of a window: every aggregate, windows that end before the moment, windows from the admission."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest

from inference.contract import Admission, Fact, FactsInput
from inference.features.extract import Extraction, compile_features
from inference.features.records import Take
from inference.features.spec import parse_features
from inference.testing import ADULT, NOW, fact
from kernel.errors import Problem

LACTATE: Mapping[str, Any] = {
    "name": "lactate",
    "title": "lactate",
    "window": {"take": "last", "hours": 24},
    "missing": "nan",
    "sources": [{"code": "2524-7", "unit": "mmol/L", "analyte": "lactate", "plausible": [0.1, 30]}],
}


def lactate(value: str, hours_ago: float, unit: str = "mmol/L", known_h: float = 0) -> Fact:
    one = fact("2524-7", value.lstrip("<>"), unit, hours_ago=hours_ago, known_h=known_h)
    return one if value[0].isdigit() else replace(one, comparator=value[0], unusable="unreadable")


def extract(window: Mapping[str, Any], *facts: Fact, admitted_h: float | None = None, **changes: Any) -> Extraction:
    admission = None
    if admitted_h is not None:
        admission = Admission(start=NOW - timedelta(hours=admitted_h), source="Encounter/e/_history/1")
    given = FactsInput(subject=ADULT, facts=facts, at=NOW, admission=admission)
    specs = parse_features({"features": [dict(LACTATE) | {"window": window} | changes]})
    return compile_features(specs)(given)


def value(window: Mapping[str, Any], *facts: Fact, **more: Any) -> Decimal | str | None:
    reading = extract(window, *facts, **more).readings["lactate"]
    return None if reading is None else reading.value


def why(window: Mapping[str, Any], *facts: Fact, **more: Any) -> str:
    return extract(window, *facts, missing="refuse", **more).reason


DAY = (lactate("2", 20), lactate("6", 10), lactate("4", 8), lactate("3", 4))

EXPECTED: Mapping[Take, tuple[str, str]] = {
    "last": ("3", "mmol/L"),
    "first": ("2", "mmol/L"),
    "min": ("2", "mmol/L"),
    "max": ("6", "mmol/L"),
    "mean": ("3.75", "mmol/L"),
    "median": ("3.5", "mmol/L"),
    "sum": ("15", "mmol/L"),
    "std": ("1.707825", "mmol/L"),
    "slope": ("0.097122302", "mmol/L/h"),
    "delta": ("1", "mmol/L"),
    "count": ("4", "1"),
    "any": ("1", "1"),
    "time_since": ("4", "h"),
}


@pytest.mark.parametrize("take", get_args(Take))
def test_each_aggregate_of_a_day_has_its_value_and_its_unit(take: Take) -> None:
    reading = extract({"take": take, "hours": 24}, *DAY).readings["lactate"]
    assert reading is not None
    assert (reading.value, reading.unit) == (Decimal(EXPECTED[take][0]), EXPECTED[take][1])


@pytest.mark.parametrize("take", get_args(Take))
def test_units_of_every_sender_are_one_before_anything_is_computed(take: Take) -> None:
    """35.628 mg/dL of lactate are 4 mmol/L."""
    mixed = (*DAY[:2], lactate("35.628", 8, "mg/dL"), DAY[3])
    found = value({"take": take, "hours": 24}, *mixed)
    assert float(found or 0) == pytest.approx(float(EXPECTED[take][0]), rel=0.002)


@pytest.mark.parametrize("take", get_args(Take))
def test_an_observation_with_two_codes_of_the_feature_is_one_value(take: Take) -> None:
    """Profiles ask for two LOINC codes on one measurement, as of oxygen saturation."""
    both = [*LACTATE["sources"], LACTATE["sources"][0] | {"code": "32693-4"}]
    twice = [replace(one, code="32693-4") for one in DAY]
    found = value({"take": take, "hours": 24}, *DAY, *twice, sources=both)
    assert found == Decimal(EXPECTED[take][0])


@pytest.mark.parametrize("take", sorted(set(get_args(Take)) - {"any"}))
def test_without_a_value_there_is_none_and_it_is_no_zero(take: Take) -> None:
    assert value({"take": take, "hours": 24}) is None
    assert why({"take": take, "hours": 24}) == "missing lactate"


def test_whether_there_is_any_value_is_known_without_one() -> None:
    assert value({"take": "any", "hours": 24}) == 0
    assert value({"take": "any", "hours": 24}, lactate("2", 25)) == 0
    unreadable = replace(lactate("2", 1), unit="furlong")
    assert why({"take": "any", "hours": 24}, unreadable) == "unreadable lactate"


@pytest.mark.parametrize("take", ["std", "slope", "delta"])
def test_a_spread_or_a_change_needs_two_values(take: Take) -> None:
    assert why({"take": take, "hours": 24}, lactate("2", 3)) == "missing lactate (too few values)"


@pytest.mark.parametrize("take", ["slope", "delta"])
def test_a_change_needs_two_times(take: Take) -> None:
    other = replace(lactate("2", 3), code="32693-4", source="Observation/other/_history/1")
    sources = [*LACTATE["sources"], LACTATE["sources"][0] | {"code": "32693-4"}]
    found = why({"take": take, "hours": 24}, lactate("2", 3), other, sources=sources)
    assert found == "missing lactate (too few values)"


@pytest.mark.parametrize("take", ["std", "delta"])
def test_a_difference_of_temperatures_is_in_kelvin(take: Take) -> None:
    warm = [fact("8310-5", str(36 + hours), "Cel", hours_ago=hours) for hours in (1, 2)]
    reading = extract({"take": take, "hours": 24}, *warm, sources=[{"code": "8310-5", "unit": "Cel"}]).readings[
        "lactate"
    ]
    assert reading is not None
    assert reading.unit == "K"


class TestAValueOfWhichOnlyALimitIsKnown:
    @pytest.mark.parametrize(
        ("take", "limit", "expected"),
        [
            ("median", "<1", "3"),  # wherever below 1 it lies, the middle one of 1, 2, 3, 4, 6 is 3
            ("median", ">5", "4"),
            ("median", "<3.4", None),
            ("median", ">3.4", None),
            ("mean", "<1", None),
            ("sum", "<1", None),
            ("std", "<1", None),
            ("slope", "<1", None),
            ("count", "<1", "4"),
            ("any", "<1", "1"),
            ("time_since", "<1", "2"),
            ("delta", "<1", None),
            ("last", "<1", None),
            ("first", "<1", "2"),
        ],
    )
    def test_counts_where_it_cannot_change_the_result(self, take: Take, limit: str, expected: str | None) -> None:
        found = value({"take": take, "hours": 24}, *DAY, lactate(limit, 2))
        assert found == (None if expected is None else Decimal(expected))

    def test_changes_a_difference_only_at_its_ends(self) -> None:
        assert value({"take": "delta", "hours": 24}, *DAY, lactate("<1", 6)) == 1
        assert value({"take": "delta", "hours": 24}, *DAY, lactate("<1", 22)) is None

    def test_is_a_value_where_there_is_no_other(self) -> None:
        assert value({"take": "any", "hours": 24}, lactate("<1", 2)) == 1
        assert value({"take": "time_since", "hours": 24}, lactate("<1", 2)) == 2
        assert why({"take": "median", "hours": 24}, lactate("<1", 2)) == "known only as a limit: lactate (<1 mmol/L)"

    def test_takes_part_in_a_median_with_its_source(self) -> None:
        limit = lactate("<1", 2)
        reading = extract({"take": "median", "hours": 24}, *DAY, limit).readings["lactate"]
        assert reading is not None
        assert limit.source in reading.sources
        assert reading.left_out == ()

    def test_is_left_out_and_named_where_a_minimum_or_maximum_is_beyond_it(self) -> None:
        limit = lactate("<1", 2)
        reading = extract({"take": "max", "hours": 24}, *DAY, limit).readings["lactate"]
        assert reading is not None
        assert [(gap.kind, gap.source) for gap in reading.left_out] == [("unreadable", limit.source)]
        assert limit.source not in reading.sources


class TestAValueThatCannotBeUsed:
    @pytest.mark.parametrize(
        ("take", "expected"),
        [
            ("min", "2"),
            ("max", "6"),
            ("mean", "3.75"),
            ("median", "3.5"),
            ("std", "1.707825"),
            ("slope", "0.097122302"),
            ("count", "4"),
            ("any", "1"),
            ("sum", None),  # it would be too small without it
            ("last", None),
            ("first", "2"),
            ("delta", None),
            ("time_since", None),
        ],
    )
    @pytest.mark.parametrize("hours_ago", [2])
    def test_is_left_out_or_stands_in_the_way(self, take: Take, expected: str | None, hours_ago: float) -> None:
        found = value({"take": take, "hours": 24}, *DAY, lactate("900", hours_ago))
        assert found == (None if expected is None else Decimal(expected))

    def test_is_named_where_it_was_left_out(self) -> None:
        found = extract({"take": "median", "hours": 24}, *DAY, lactate("900", 2))
        assert [(use.status, use.value) for use in found.features] == [("implausible", None), ("used", Decimal("3.5"))]

    @pytest.mark.parametrize("take", ["first", "delta"])
    def test_stands_in_the_way_of_later_ones_at_the_beginning_of_a_window(self, take: Take) -> None:
        assert why({"take": take, "hours": 24}, *DAY, lactate("900", 22)) == "implausible lactate"


def test_the_first_value_is_chosen_as_the_last_one_is() -> None:
    corrected = replace(lactate("5", 20), standing=2, status="corrected")
    seconds = replace(DAY[0], effective=DAY[0].effective + timedelta(seconds=31))
    assert value({"take": "first", "hours": 24}, seconds, corrected) == 5  # both of one minute
    other = replace(lactate("7", 20), code="32693-4")
    sources = [*LACTATE["sources"], LACTATE["sources"][0] | {"code": "32693-4"}]
    found = why({"take": "first", "hours": 24}, DAY[0], other, DAY[3], sources=sources)
    assert found == "contradictory: lactate (2 mmol/L by 2524-7, 7 mmol/L by 32693-4)"


class TestAWindowThatEndsBeforeTheMoment:
    BEFORE: Mapping[str, Any] = {"take": "max", "hours": 24, "offset": 8}

    def test_holds_its_beginning_and_not_its_end(self) -> None:
        """So two windows, one after the other, share no value."""
        assert value(self.BEFORE, *DAY) == 6
        assert value(self.BEFORE, lactate("4", 8)) is None
        assert value({"take": "max", "hours": 8}, lactate("4", 8)) == 4
        assert value(self.BEFORE, lactate("4", 24)) == 4

    def test_says_whether_a_value_is_too_old_or_missing(self) -> None:
        assert why(self.BEFORE, lactate("4", 25)) == "too old: lactate"
        assert why(self.BEFORE, lactate("4", 1)) == "missing lactate"

    def test_reads_what_became_known_after_its_end(self) -> None:
        """A result that came late is known at the moment; one that comes after it is not."""
        assert value(self.BEFORE, lactate("4", 10, known_h=5)) == 4
        assert why(self.BEFORE, lactate("4", 10, known_h=11)) == "in the future: lactate"


class TestAWindowFromTheAdmission:
    SINCE: Mapping[str, Any] = {"take": "first", "since": "admission"}

    def test_begins_with_the_admission(self) -> None:
        assert value(self.SINCE, *DAY, admitted_h=10) == 6
        assert value(self.SINCE, *DAY, admitted_h=30) == 2

    def test_may_end_so_many_hours_after_it(self) -> None:
        worst = {"take": "max", "since": "admission", "first_hours": 5}
        assert value(worst, *DAY, lactate("9", 2), admitted_h=10) == 6
        assert why(worst, lactate("9", 2), admitted_h=10) == "missing lactate"

    def test_may_be_bounded_by_hours_and_offset_too(self) -> None:
        both = {"take": "count", "since": "admission", "hours": 9, "offset": 3}
        assert value(both, *DAY, lactate("9", 2), admitted_h=30) == 2
        assert value(both, *DAY, lactate("9", 2), admitted_h=5) == 1

    @pytest.mark.parametrize("take", get_args(Take))
    def test_does_not_exist_without_an_admission_and_says_so(self, take: Take) -> None:
        assert why({"take": take, "since": "admission"}, *DAY) == "missing lactate (no admission is known)"

    def test_makes_the_result_rest_on_the_encounter(self) -> None:
        found = extract(self.SINCE, *DAY, admitted_h=30)
        assert [used.source for used in found.inputs] == [DAY[0].source, "Encounter/e/_history/1"]


@pytest.mark.parametrize("known_h", [0, 9.99])
@pytest.mark.parametrize("take", sorted(set(get_args(Take)) - {"any"}))
def test_a_late_result_counts_from_the_moment_at_which_it_is_known(take: Take, known_h: float) -> None:
    """Measured 10 hours ago: what was not yet issued leaves no trace in any aggregate but its absence."""
    late = lactate("29", 10, known_h=10.01)
    early, known = DAY[:1] + DAY[2:], replace(late, issued=late.effective + timedelta(hours=known_h))
    window = {"take": take, "hours": 24}
    assert value(window, *early, known) == value(window, *early, lactate("29", 10))
    if take not in {"sum"}:
        with_late = [use for use in extract(window, *early, late).features if use.status == "used"]
        assert [use.value for use in with_late] == [value(window, *early)]


@pytest.mark.parametrize(
    ("window", "complaint"),
    [
        ({"take": "last", "hours": 8, "offset": 8}, "window.offset must be below hours"),
        ({"take": "last", "offset": 0}, "window.offset must be above 0"),
        ({"take": "last", "since": "birth"}, "window.since must be one of: admission"),
        ({"take": "last", "first_hours": 24}, "window.first_hours needs since: admission"),
        ({"take": "last", "hours": float("nan")}, "window.hours must be a number"),
        ({"take": "last", "hours": 1e30}, "window.hours must be at most 1138800"),
        ({"take": "median", "hour": 4}, "window.hour is not known"),
        ({"take": "latest"}, "window.take must be one of: last, first, min, max, mean, median, sum, std, slope, delta"),
    ],
)
def test_a_wrong_window_is_refused_by_the_name_of_its_key(window: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_features({"features": [dict(LACTATE) | {"window": window}]})
    assert refused.value.detail.startswith(f"features.yaml.features[0].{complaint}")


@pytest.mark.parametrize("take", ["min", "max", "mean", "median", "sum", "std", "slope", "delta"])
def test_what_is_computed_needs_numbers_of_one_unit(take: Take) -> None:
    answers = [{"code": "67775-7", "answers": {"alert": ["a"]}}]
    with pytest.raises(Problem, match=f"take: {take} needs numbers of one unit"):
        parse_features({"features": [dict(LACTATE) | {"window": {"take": take}, "sources": answers}]})
