"""The real server receives data on three listeners and is killed repeatedly: nothing is lost or duplicated."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from benchmarks.crash import Outcome, Plan, report, run
from benchmarks.items import Interface

KILLS = 20
KILLS_ON_POSTGRESQL = 6
FEWEST = {Interface.HL7: 60, Interface.FHIR: 60, Interface.DICOM: 15}
"""Receipts that a run needs at least to be meaningful."""


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_every_receipt_ends_in_one_result_at_each_stand_in(tmp_path: Path) -> None:
    outcome = run(Plan(kills=KILLS, seed=20261120), tmp_path)
    check(outcome, fewest=FEWEST)


@pytest.mark.crash
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_the_same_is_true_on_postgresql(tmp_path: Path, new_postgres_url: Callable[[], str]) -> None:
    outcome = run(Plan(kills=KILLS_ON_POSTGRESQL, seed=4711, settings={"DATABASE_URL": new_postgres_url()}), tmp_path)
    check(outcome, fewest=dict.fromkeys(Interface, 10))


def check(outcome: Outcome, fewest: Mapping[Interface, int]) -> None:
    print(report(outcome))
    assert outcome.verdict.lost == ()
    assert outcome.verdict.undelivered == ()
    assert outcome.verdict.duplicated == ()
    assert outcome.verdict.faults == ()
    assert outcome.refused == ()
    assert {interface: count for interface, count in outcome.acknowledged.items() if count < fewest[interface]} == {}
