"""A moment of the past is read as the server would have read it then, for every kind of fact."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from inference.contract import Fact, FactsInput
from inference.features.extract import Extraction, compile_features
from inference.features.point_in_time import known_at
from inference.features.spec import parse_features
from inference.testing import ADULT, NOW, fact

PULSE: Mapping[str, Any] = {
    "name": "pulse",
    "title": "pulse",
    "window": {"take": "last", "hours": 24},
    "missing": "nan",
    "sources": [{"code": "8867-4", "unit": "/min"}],
}
DIABETES: Mapping[str, Any] = {
    "name": "diabetes",
    "title": "diabetes",
    "conditions": [{"system": "urn:icd", "prefix": ["E1"]}],
}
PRESSOR: Mapping[str, Any] = {
    "name": "pressor",
    "title": "vasopressor",
    "medications": [{"system": "urn:atc", "prefix": ["C01CA"]}],
}
EXTRACT = compile_features(parse_features({"features": [PULSE, DIABETES, PRESSOR]}))


def row(facts: Sequence[Fact]) -> Extraction:
    return EXTRACT(FactsInput(subject=ADULT, facts=tuple(facts), at=NOW))


def values(facts: Sequence[Fact]) -> list[Any]:
    return [None if reading is None else reading.value for reading in row(facts).readings.values()]


def stored(one: Fact, hours_ago: float) -> Fact:
    """Return a fact without a time of the sender, stored so many hours before the moment."""
    known = NOW - timedelta(hours=hours_ago)
    return replace(one, known=known, issued=known)


OLD = stored(fact("8867-4", "70", "/min", hours_ago=3), 3)
LATE = replace(stored(fact("8867-4", "140", "/min", hours_ago=1), -2), source="Observation/late/_history/1")
CONDITION = replace(
    stored(fact("E11", "0", None, hours_ago=90), 90), system="urn:icd", value=None, kind="condition", status="confirmed"
)
DOSE = replace(CONDITION, system="urn:atc", code="C01CA03", kind="medication-request", source="MedicationRequest/1")
ENDED = replace(stored(CONDITION, -5), until=NOW - timedelta(hours=1), source="Condition/1/_history/2")


@pytest.mark.parametrize(
    ("then", "afterwards", "expected"),
    [
        ([OLD], [LATE], [70, 0, 0]),
        ([OLD], [replace(LATE, value=None, unusable="absent")], [70, 0, 0]),
        ([], [LATE], [None, 0, 0]),
        ([OLD], [replace(LATE, standing=2, status="corrected", effective=OLD.effective)], [70, 0, 0]),
        ([CONDITION], [stored(replace(CONDITION, code="E10"), -1)], [None, 1, 0]),
        ([], [stored(CONDITION, -1)], [None, 0, 0]),
        ([CONDITION], [ENDED], [None, 1, 0]),
        ([DOSE], [stored(replace(DOSE, code="C01CA04"), -1)], [None, 0, 1]),
        ([], [stored(DOSE, -1)], [None, 0, 0]),
    ],
)
def test_what_was_stored_afterwards_leaves_no_trace(
    then: list[Fact], afterwards: list[Fact], expected: list[Any]
) -> None:
    assert values(then) == expected
    read = known_at([*then, *afterwards], NOW)
    assert row(read) == row(then)  # values, sources, and what became of each feature


def test_when_a_model_runs_everything_that_is_stored_has_been_received() -> None:
    """A clock that was set back hides nothing."""
    assert values([OLD, stored(LATE, -2)])[0] == 140


def test_history_that_was_loaded_in_one_go_is_known_by_the_times_of_its_sender() -> None:
    loaded = NOW + timedelta(days=300)
    early = replace(OLD, issued=NOW - timedelta(hours=2), known=loaded)
    late = replace(LATE, issued=NOW + timedelta(hours=2), known=loaded)
    undated = replace(LATE, issued=loaded, known=loaded)
    assert known_at([early, late, undated], NOW) == ()
    assert known_at([early, late, undated], NOW, by="issued") == (early,)


def test_a_value_whose_issue_lies_after_the_moment_stands_in_the_way_where_it_was_stored_before() -> None:
    """So it did when the model ran: the sender's clock was ahead, and its value is the newest."""
    ahead = replace(stored(LATE, 0.5), issued=NOW + timedelta(hours=1))
    assert known_at([OLD, ahead], NOW) == (OLD, ahead)
    assert row([OLD, ahead]).features[0].why == "future"


def test_the_result_of_a_moment_is_the_same_however_much_came_later() -> None:
    early = [stored(fact("8867-4", str(60 + hours), "/min", hours_ago=hours), hours - 0.5) for hours in range(1, 20)]
    for moment in range(1, 20):
        at = NOW - timedelta(hours=moment)
        then = [one for one in early if one.known is not None and one.known <= at]
        given = FactsInput(subject=ADULT, facts=known_at(early, at), at=at)
        assert EXTRACT(given) == EXTRACT(replace(given, facts=tuple(then)))
        assert (EXTRACT(given).readings["pulse"] is None) == (not then)
    assert values(early)[0] == Decimal(61)
