"""Facts on a grid: each interval holds what was measured in it, in the declared unit, or is masked."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from inference.contract import Fact, FactsInput, FeatureUse, SeriesInput
from inference.features.series import check_series, find_gap, series_input
from inference.features.spec import FeatureSpec, parse_features
from inference.testing import ADULT, NOW, fact
from kernel.errors import Category, Problem

PULSE: Mapping[str, Any] = {
    "name": "pulse",
    "title": "pulse",
    "window": {"take": "last"},
    "missing": "nan",
    "sources": [{"code": "8867-4", "unit": "/min", "plausible": [0, 350]}],
}
TEMPERATURE: Mapping[str, Any] = {
    "name": "temperature",
    "title": "temperature",
    "window": {"take": "last"},
    "missing": "nan",
    "sources": [{"code": "8310-5", "unit": "Cel", "plausible": [20, 46]}],
}
AGE: Mapping[str, Any] = {"name": "age", "title": "age", "subject": "age", "missing": "nan"}

GAP = float("nan")


def specs(*declared: Mapping[str, Any]) -> tuple[FeatureSpec, ...]:
    return parse_features({"features": list(declared)})


def grid(*facts: Fact, declared: tuple[Mapping[str, Any], ...] = (PULSE,), later_h: float = 0) -> SeriesInput:
    """Arrange facts on a grid of four hours, hour by hour."""
    given = FactsInput(subject=ADULT, facts=facts, at=NOW + timedelta(hours=later_h))
    return series_input(specs(*declared), given, hours=Decimal(4), step_hours=Decimal(1))


def column(*facts: Fact, **changes: Any) -> list[float]:
    return [float(value) for value in grid(*facts, declared=(PULSE | changes,)).values[:, 0]]


def pulse(value: str, *, hours_ago: float = 0.5, unit: str = "/min", known_h: float = 0.0) -> Fact:
    return fact("8867-4", value, unit, hours_ago=hours_ago, known_h=known_h)


def same(found: list[float], expected: list[float]) -> bool:
    return np.array_equal(found, expected, equal_nan=True)


def test_the_grid_ends_at_the_time_of_prediction() -> None:
    assert grid().grid == tuple(NOW - timedelta(hours=hours) for hours in (3, 2, 1, 0))


def test_each_value_lies_in_its_interval_and_the_rest_is_masked() -> None:
    found = grid(pulse("60", hours_ago=3.5), pulse("80", hours_ago=0.5))
    assert same(list(found.values[:, 0]), [60, GAP, GAP, 80])
    assert found.mask[:, 0].tolist() == [True, False, False, True]
    assert found.values.dtype == np.float32


@pytest.mark.parametrize(
    ("hours_ago", "expected"),
    [
        (0, [GAP, GAP, GAP, 70]),
        (1, [GAP, GAP, 70, GAP]),
        (3.999, [70, GAP, GAP, GAP]),
        (4, [GAP, GAP, GAP, GAP]),
    ],
)
def test_an_interval_holds_its_end_and_not_its_start(hours_ago: float, expected: list[float]) -> None:
    assert same(column(pulse("70", hours_ago=hours_ago)), expected)


def test_the_last_value_within_an_interval_counts_whatever_the_order_of_arrival() -> None:
    earlier, later = pulse("60", hours_ago=0.9), pulse("90", hours_ago=0.1)
    assert same(column(later, earlier), [GAP, GAP, GAP, 90])
    assert same(column(earlier, later), [GAP, GAP, GAP, 90])


def test_another_value_of_an_interval_counts_where_it_is_declared() -> None:
    facts = pulse("60", hours_ago=0.9), pulse("90", hours_ago=0.1)
    assert same(column(*facts, window={"take": "mean"}), [GAP, GAP, GAP, 75])
    assert same(column(*facts, window={"take": "count"}), [GAP, GAP, GAP, 2])


def test_a_feature_is_read_no_further_back_than_its_own_window() -> None:
    facts = pulse("60", hours_ago=2.5), pulse("90", hours_ago=0.5)
    assert same(column(*facts, window={"take": "last", "hours": 2}), [GAP, GAP, GAP, 90])


def test_columns_are_in_the_order_and_the_units_of_the_declaration() -> None:
    found = grid(pulse("80"), fact("8310-5", "98.6", "[degF]", hours_ago=0.5), declared=(TEMPERATURE, PULSE))
    assert found.features == ("temperature", "pulse")
    assert found.values[-1].tolist() == [37, 80]


def test_what_was_issued_after_the_prediction_is_not_read() -> None:
    assert not grid(pulse("80", hours_ago=1.5, known_h=2)).mask.any()
    assert not grid(pulse("80", hours_ago=-0.5)).mask.any()


def test_age_is_the_same_in_every_interval() -> None:
    assert grid(pulse("80"), declared=(AGE, PULSE)).values[:, 0].tolist() == [65, 65, 65, 65]


def uses(*facts: Fact) -> list[tuple[str, str | None]]:
    return [(use.status, use.source) for use in grid(*facts).uses]


def test_what_became_of_a_feature_is_stated_with_its_source() -> None:
    good = pulse("80")
    assert grid(good).uses == (
        FeatureUse(name="pulse", value=Decimal(80), unit="/min", status="used", source=good.source),
    )
    foreign, wild = pulse("80", unit="mmol/L", hours_ago=1.5), pulse("900", hours_ago=2.5)
    assert uses(foreign) == [("dropped", foreign.source)]
    assert uses(wild) == [("implausible", wild.source)]
    assert uses() == [("missing", None)]


def test_a_feature_of_which_a_part_was_dropped_states_both() -> None:
    good, wild = pulse("80"), pulse("900", hours_ago=2.5)
    assert uses(good, wild) == [("implausible", wild.source), ("used", good.source)]
    assert same(list(grid(good, wild).values[:, 0]), [GAP, GAP, GAP, 80])


def test_an_older_value_of_an_interval_never_stands_in_for_one_that_cannot_be_read() -> None:
    assert same(column(pulse("80", hours_ago=0.9), pulse("900", hours_ago=0.1)), [GAP] * 4)


def test_a_number_that_no_measurement_can_have_is_dropped() -> None:
    declared = dict(PULSE) | {"sources": [{"code": "8867-4", "unit": "/min"}]}
    found = grid(pulse("1e60"), declared=(declared,))
    assert (found.mask.any(), found.uses[0].status) == (False, "dropped")


def test_sources_are_all_measurements_in_the_grid_so_that_a_later_run_on_the_same_facts_has_the_same() -> None:
    facts = [pulse("60", hours_ago=0.9), pulse("90", hours_ago=0.1)]
    assert grid(*facts).sources == grid(*facts, later_h=0.5).sources == tuple(sorted(one.source for one in facts))
    assert grid(*facts, pulse("70", hours_ago=2)).sources != grid(*facts).sources
    assert grid(pulse("60", hours_ago=5)).sources == ()


def gap(*facts: Fact, declared: tuple[Mapping[str, Any], ...] = (PULSE, TEMPERATURE)) -> str | None:
    found = find_gap(specs(*declared), grid(*facts, declared=declared), Decimal(4))
    return None if found is None else found.reason


def test_an_empty_grid_cannot_be_used() -> None:
    assert gap() == "no usable value of pulse, temperature within 4 hours"
    assert gap(pulse("900")) == "no usable value of pulse, temperature within 4 hours"
    assert gap(declared=(AGE, PULSE)) == "no usable value of pulse within 4 hours"


def test_one_value_is_enough_unless_a_feature_refuses_to_be_without() -> None:
    assert gap(pulse("80")) is None
    refusing = TEMPERATURE | {"missing": "refuse"}
    assert gap(pulse("80"), declared=(PULSE, refusing)) == "missing temperature"
    hot = fact("8310-5", "98", "Cel", hours_ago=0.5)
    assert gap(pulse("80"), hot, declared=(PULSE, refusing)) == "implausible temperature"


@pytest.mark.parametrize(
    "declared",
    [
        PULSE | {"missing": {"default": 70}},
        PULSE | {"sources": [{"code": "67775-7", "answers": {"alert": ["Alert"]}}]},
        AGE,
    ],
    ids=["default", "answers-in-words", "nothing-measured"],
)
def test_features_that_a_series_cannot_hold_are_refused(declared: Mapping[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        check_series(specs(declared))
    assert refused.value.category is Category.INCORRECT


def test_answers_that_are_numbers_are_accepted() -> None:
    consciousness = PULSE | {"sources": [{"code": "67775-7", "answers": {"1": ["Alert"], "0": ["Voice"]}}]}
    check_series(specs(consciousness))
    found = grid(fact("67775-7", "Alert", None, hours_ago=0.5), declared=(consciousness,))
    assert same(list(found.values[:, 0]), [GAP, GAP, GAP, 1])


def test_values_of_an_interval_that_contradict_each_other_or_a_limit_mask_it_and_the_reason_names_them() -> None:
    both = PULSE | {"missing": "refuse", "sources": [*PULSE["sources"], {"code": "8889-8", "unit": "/min"}]}
    facts = pulse("60", hours_ago=0.25), fact("8889-8", "90", "/min", hours_ago=0.25), pulse("70", hours_ago=2.5)
    found = grid(*facts, declared=(both,))
    assert same(list(found.values[:, 0]), [GAP, 70, GAP, GAP])
    dropped = [use for use in found.uses if use.status == "dropped"]
    assert [(use.why, use.source) for use in dropped] == [("contradictory", one.source) for one in facts[:2]]
    alone = grid(*facts[:2], fact("8310-5", "37", "Cel", hours_ago=0.5), declared=(both, TEMPERATURE))
    gap = find_gap(specs(both, TEMPERATURE), alone, Decimal(4))
    assert gap is not None
    assert gap.reason == "contradictory: pulse (60 /min by 8867-4, 90 /min by 8889-8)"
    limit = replace(pulse("300", hours_ago=0.5), value=">300")
    assert same(column(pulse("60", hours_ago=0.75), limit, window={"take": "max"}), [GAP, GAP, GAP, GAP])
