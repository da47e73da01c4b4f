"""The real server receives data on three listeners and is killed repeatedly: nothing is lost or duplicated."""

from pathlib import Path

import pytest

from benchmarks.crash import Plan, report, run
from benchmarks.items import Interface

KILLS = 20
FEWEST = {Interface.HL7: 60, Interface.FHIR: 60, Interface.DICOM: 15}
"""Receipts that a run needs at least to be meaningful."""


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_every_receipt_ends_in_one_result_at_each_stand_in(tmp_path: Path) -> None:
    outcome = run(Plan(kills=KILLS, seed=20261120), tmp_path)
    print(report(outcome))

    assert outcome.verdict.lost == ()
    assert outcome.verdict.undelivered == ()
    assert outcome.verdict.duplicated == ()
    assert outcome.verdict.faults == ()
    assert outcome.refused == ()
    assert {interface: count for interface, count in outcome.acknowledged.items() if count < FEWEST[interface]} == {}
