"""Transforms: logarithm, clip, one feature for each answer, and a feature that says that another has no value."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from inference.contract import Admission, Fact, FactsInput
from inference.features.extract import Extraction, compile_features
from inference.features.series import check_series, series_input
from inference.features.spec import parse_features
from inference.testing import ADULT, NOW, fact
from kernel.errors import Problem

CREATININE: Mapping[str, Any] = {
    "name": "creatinine",
    "title": "creatinine",
    "window": {"take": "last", "hours": 24},
    "missing": "nan",
    "sources": [{"code": "2160-0", "unit": "mg/dL", "analyte": "creatinine", "plausible": [0.1, 30]}],
}
ALERTNESS: Mapping[str, Any] = {
    "name": "alertness",
    "title": "level of consciousness",
    "window": {"take": "last", "hours": 24},
    "missing": "nan",
    "sources": [{"code": "67775-7", "answers": {"alert": ["A"], "voice": ["V"], "pain": ["P"]}}],
    "one_hot": True,
}
WITHOUT: Mapping[str, Any] = {"name": "no_creatinine", "title": "without creatinine", "missing_of": "creatinine"}


def extract(*declared: Mapping[str, Any], facts: tuple[Fact, ...] = ()) -> Extraction:
    specs = parse_features({"features": list(declared)})
    return compile_features(specs)(FactsInput(subject=ADULT, facts=facts, at=NOW))


def row(*declared: Mapping[str, Any], facts: tuple[Fact, ...] = ()) -> dict[str, Any]:
    readings = extract(*declared, facts=facts).readings
    return {name: None if reading is None else reading.value for name, reading in readings.items()}


def creatinine(value: str, unit: str = "mg/dL") -> Fact:
    return fact("2160-0", value, unit)


class TestLogarithmAndClip:
    def test_the_model_reads_the_logarithm_and_people_what_was_measured(self) -> None:
        found = extract(CREATININE | {"transform": ["log"]}, facts=(creatinine("176.8", "umol/L"),))
        reading = found.readings["creatinine"]
        assert reading is not None
        assert float(reading.value) == pytest.approx(math.log(2), abs=1e-4)
        assert (found.inputs[0].value, found.inputs[0].unit) == (reading.measured, "mg/dL")
        assert float(found.features[0].value or 0) == pytest.approx(2, abs=1e-3)

    @pytest.mark.parametrize(("sent", "read"), [("0.5", "0.8"), ("2", "2"), ("9", "5")])
    def test_a_clip_moves_what_is_outside_to_its_bound(self, sent: str, read: str) -> None:
        declared = CREATININE | {"transform": [{"clip": [0.8, 5]}]}
        assert row(declared, facts=(creatinine(sent),)) == {"creatinine": Decimal(read)}

    def test_transforms_are_applied_in_their_order(self) -> None:
        declared = CREATININE | {"transform": ["log", {"clip": [0, 1]}]}
        assert row(declared, facts=(creatinine("9"),)) == {"creatinine": 1}
        assert row(declared, facts=(creatinine("0.5"),)) == {"creatinine": 0}

    def test_a_default_is_stated_in_the_unit_and_transformed_too(self) -> None:
        declared = CREATININE | {"transform": ["log"], "missing": {"default": 1}}
        assert row(declared) == {"creatinine": 0}

    def test_an_implausible_value_is_not_clipped_into_a_plausible_one(self) -> None:
        assert row(CREATININE | {"transform": [{"clip": [0.8, 5]}]}, facts=(creatinine("900"),)) == {"creatinine": None}

    def test_an_aggregate_is_computed_first(self) -> None:
        declared = CREATININE | {"transform": ["log"], "window": {"take": "mean", "hours": 24}}
        facts = creatinine("1"), replace(creatinine("3"), source="Observation/2/_history/1")
        assert float(row(declared, facts=facts)["creatinine"]) == pytest.approx(math.log(2))

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"transform": []}, "transform must not be empty"),
            ({"transform": "log"}, "transform must be of type list"),
            ({"transform": ["sqrt"]}, "transform[0] must be log, or clip with two numbers"),
            ({"transform": [{"clip": [5, 1]}]}, "transform[0].clip must be given from low to high"),
            ({"transform": [{"clip": [1, 5], "log": True}]}, "transform[0].log is not known"),
            ({"transform": ["log", "log"]}, "transform[1]: log needs values above 0"),
            (
                {"transform": [{"clip": [0, 5]}, "log"], "window": {"take": "count"}},
                "transform[1]: log needs values above 0: declare plausible from",
            ),
            (
                {"transform": ["log"], "sources": [{"code": "1", "unit": "mg/dL"}]},
                "transform[0]: log needs values above",
            ),
            ({"transform": ["log"], "window": {"take": "delta"}}, "transform[0]: log needs values above 0"),
            ({"transform": ["log"], "window": {"take": "count"}}, "transform[0]: log needs values above 0"),
            ({"transform": ["log"], "missing": {"default": 0}}, "missing.default has no logarithm; choose one above 0"),
        ],
    )
    def test_what_has_no_meaning_is_refused_with_what_to_change(
        self, changes: Mapping[str, Any], complaint: str
    ) -> None:
        with pytest.raises(Problem) as refused:
            extract(CREATININE | changes)
        assert refused.value.detail.startswith(f"features.yaml.features[0].{complaint}")

    def test_a_count_has_a_logarithm_after_a_clip(self) -> None:
        declared = CREATININE | {"transform": [{"clip": [1, 100]}, "log"], "window": {"take": "count"}}
        assert row(declared, facts=(creatinine("2"),)) == {"creatinine": 0}


class TestOneFeatureForEachAnswer:
    def test_the_answer_that_was_given_is_1_and_the_others_are_0(self) -> None:
        found = row(ALERTNESS, facts=(fact("67775-7", "V", None),))
        assert found == {"alertness=alert": 0, "alertness=voice": 1, "alertness=pain": 0}

    def test_without_an_answer_each_of_them_has_no_value_and_the_refusal_names_the_feature_once(self) -> None:
        assert set(row(ALERTNESS).values()) == {None}
        found = extract(ALERTNESS | {"missing": "refuse"})
        assert (found.reason, found.missing) == ("missing level of consciousness", ("level of consciousness",))

    def test_what_was_read_is_shown_once_in_words(self) -> None:
        found = extract(ALERTNESS, facts=(fact("67775-7", "V", None),))
        assert [(used.name, used.value) for used in found.inputs] == [("alertness", "voice")]
        assert [use.value for use in found.features] == [0, 1, 0]
        assert found.titles["alertness"] == "level of consciousness"

    def test_a_default_is_one_of_the_answers(self) -> None:
        declared = ALERTNESS | {"missing": {"default": "alert"}}
        assert row(declared) == {"alertness=alert": 1, "alertness=voice": 0, "alertness=pain": 0}
        with pytest.raises(Problem, match=r"missing.default must be one of: alert, voice, pain"):
            extract(ALERTNESS | {"missing": {"default": "asleep"}})

    @pytest.mark.parametrize(
        "changes",
        [
            {"sources": CREATININE["sources"]},
            {"sources": [*ALERTNESS["sources"], {"code": "9269-2", "unit": "{score}"}]},
            {"window": {"take": "count"}},
        ],
    )
    def test_it_needs_answers_of_which_one_is_taken(self, changes: Mapping[str, Any]) -> None:
        with pytest.raises(Problem, match=r"one_hot needs sources with answers, of which the last or the first"):
            extract(ALERTNESS | changes)

    def test_an_answer_is_no_number_and_its_transform_is_refused(self) -> None:
        with pytest.raises(Problem, match="an answer becomes one by one_hot: true"):
            extract({key: value for key, value in ALERTNESS.items() if key != "one_hot"} | {"transform": ["log"]})


class TestAMissingIndicator:
    def test_is_1_where_the_named_feature_has_no_value_wherever_it_stands(self) -> None:
        assert row(WITHOUT, CREATININE) == {"no_creatinine": 1, "creatinine": None}
        assert row(CREATININE, WITHOUT, facts=(creatinine("1"),)) == {"creatinine": 1, "no_creatinine": 0}
        assert row(CREATININE, WITHOUT, facts=(creatinine("900"),))["no_creatinine"] == 1

    def test_is_1_where_a_default_stands_in(self) -> None:
        assert row(CREATININE | {"missing": {"default": 1}}, WITHOUT) == {"creatinine": 1, "no_creatinine": 1}

    def test_names_the_feature_of_an_answer_as_it_is_declared(self) -> None:
        indicator = WITHOUT | {"missing_of": "alertness"}
        assert row(ALERTNESS, indicator)["no_creatinine"] == 1
        assert row(ALERTNESS, indicator, facts=(fact("67775-7", "V", None),))["no_creatinine"] == 0

    @pytest.mark.parametrize(
        ("declared", "complaint"),
        [
            ([CREATININE, WITHOUT | {"missing_of": "kreatinin"}], "no feature has the name kreatinin"),
            (
                [CREATININE | {"missing": "refuse"}, WITHOUT],
                "creatinine is never missing where the model answers; give",
            ),
            ([CREATININE, WITHOUT, WITHOUT | {"name": "x", "missing_of": "no_creatinine"}], "no_creatinine is never"),
        ],
    )
    def test_needs_a_feature_that_may_be_missing(self, declared: list[Mapping[str, Any]], complaint: str) -> None:
        with pytest.raises(Problem) as refused:
            extract(*declared)
        assert refused.value.detail.split("missing_of: ")[1].startswith(complaint)

    @pytest.mark.parametrize("key", ["missing", "window", "sources"])
    def test_has_no_policy_window_or_source_of_its_own(self, key: str) -> None:
        with pytest.raises(Problem, match=f"{key} is not known"):
            extract(CREATININE, WITHOUT | {key: CREATININE[key]})


class TestInATimeSeries:
    def columns(self, *declared: Mapping[str, Any], facts: tuple[Fact, ...] = ()) -> dict[str, list[float]]:
        specs = parse_features({"features": list(declared)})
        check_series(specs)
        given = FactsInput(subject=ADULT, facts=facts, at=NOW)
        found = series_input(specs, given, hours=Decimal(2), step_hours=Decimal(1))
        return dict(zip(found.features, found.values.T.tolist(), strict=True))

    def test_values_are_transformed_interval_by_interval(self) -> None:
        facts = fact("67775-7", "V", None, hours_ago=0.5), fact("2160-0", "9", "mg/dL", hours_ago=1.5)
        clipped = CREATININE | {"transform": [{"clip": [0.8, 5]}]}
        found = self.columns(ALERTNESS, clipped, facts=facts)
        assert [found["alertness=voice"][1], found["alertness=alert"][1], found["creatinine"][0]] == [1, 0, 5]
        assert all(math.isnan(found[name][0]) for name in ("alertness=voice", "alertness=alert"))

    def test_the_mask_stands_for_a_missing_indicator(self) -> None:
        with pytest.raises(
            Problem, match="no_creatinine is not needed in a time series, whose mask says it; remove it"
        ):
            self.columns(CREATININE, WITHOUT)

    def test_values_are_read_from_the_admission_on_and_the_series_rests_on_the_encounter(self) -> None:
        since = CREATININE | {"window": {"take": "last", "since": "admission"}, "missing": "refuse"}
        specs = parse_features({"features": [since]})
        given = FactsInput(
            subject=ADULT,
            facts=(fact("2160-0", "9", "mg/dL", hours_ago=1.5), fact("2160-0", "2", "mg/dL", hours_ago=0.5)),
            at=NOW,
            admission=Admission(start=NOW - timedelta(hours=1), source="Encounter/e/_history/1"),
        )
        found = series_input(specs, given, hours=Decimal(2), step_hours=Decimal(1))
        assert found.mask[:, 0].tolist() == [False, True]
        assert found.sources == ("Encounter/e/_history/1", "Observation/2160-0-0.5/_history/1")
        without = series_input(specs, replace(given, admission=None), hours=Decimal(2), step_hours=Decimal(1))
        assert (without.mask.any(), without.uses[0].detail) == (False, "no admission is known")

    def test_conditions_are_the_same_in_every_interval(self) -> None:
        diabetes = {"name": "d", "title": "d", "conditions": [{"system": "urn:icd", "prefix": ["E1"]}]}
        stated = replace(fact("E11", "0", None, hours_ago=99), system="urn:icd", kind="condition", status="confirmed")
        assert self.columns(CREATININE, diabetes, facts=(stated,))["d"] == [1, 1]
