"""The checker of the kill runs finds each fault: intact evidence passes, altered evidence does not."""

import sqlite3
from dataclasses import replace

import pytest

from benchmarks.hospital import find_on_the_way
from benchmarks.items import Interface, Item
from benchmarks.verdict import Evidence, Verdict, check

VITALS = Item(interface=Interface.HL7, mrn="H1", key="M1", payload=b"", parts=7)
STUDY = Item(interface=Interface.DICOM, mrn="D1", key="2.25.1", payload=b"", parts=1)
ITEMS = (VITALS, STUDY)
KEPT = Evidence(
    stored={"H1": 7, "D1": 1},
    ehr={"H1": ("r1",), "D1": ("r2",)},
    engine={"H1": ("r1",), "D1": ("r2",)},
    pacs={"D1": ("2.25.9",)},
)

WORK = """
CREATE TABLE outbox (destination, patient, status);
INSERT INTO outbox VALUES ('ehr', 'Patient/p1', 'pending'), ('engine', 'Patient/p2', 'parked'),
  ('engine', 'Patient/p3', 'delivered');
CREATE TABLE jobs (payload);
INSERT INTO jobs VALUES ('{"model": "news2", "patient": "Patient/p4"}'), ('{"study": "2.25.9"}');
CREATE TABLE inbox (key, state);
INSERT INTO inbox VALUES ('M5', 'received'), ('M6', 'done');
CREATE TABLE instances (SOPInstanceUID, StudyInstanceUID, blob);
INSERT INTO instances VALUES ('2.25.1', '2.25.9', 'aa'), ('2.25.2', '2.25.8', 'bb'), ('2.25.3', '2.25.9', 'cc');
"""


def test_kept_promises_are_a_clean_verdict() -> None:
    assert check(ITEMS, KEPT) == Verdict()


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (replace(KEPT, stored={"D1": 1}), "HL7 v2 M1: 0 of 7 in the store"),
        (replace(KEPT, stored={"H1": 6, "D1": 1}), "HL7 v2 M1: 6 of 7 in the store"),
        (replace(KEPT, stored={"H1": 7, "D1": 0}), "DICOM 2.25.1: 0 of 1 in the store"),
        (replace(KEPT, ehr={"D1": ("r2",)}), "HL7 v2 M1: 0 of 1 in the EHR"),
        (replace(KEPT, engine={"H1": ("r1",)}), "DICOM 2.25.1: 0 of 1 in the engine"),
        (replace(KEPT, pacs={}), "DICOM 2.25.1: 0 of 1 in the PACS"),
    ],
)
def test_a_missing_result_is_lost(evidence: Evidence, expected: str) -> None:
    assert check(ITEMS, evidence).lost == (expected,)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (
            replace(KEPT, ehr={"D1": ("r2",)}, on_the_way={"the EHR": frozenset({"H1"})}),
            "HL7 v2 M1: 0 of 1 in the EHR",
        ),
        (
            replace(KEPT, pacs={}, on_the_way={"the PACS": frozenset({"2.25.1"})}),
            "DICOM 2.25.1: 0 of 1 in the PACS",
        ),
        (
            replace(KEPT, stored={"D1": 1}, on_the_way={"the store": frozenset({"M1"})}),
            "HL7 v2 M1: 0 of 7 in the store",
        ),
    ],
)
def test_a_result_that_the_server_still_holds_is_undelivered_and_not_lost(evidence: Evidence, expected: str) -> None:
    verdict = check(ITEMS, evidence)
    assert (verdict.lost, verdict.undelivered) == ((), (expected,))
    assert not verdict.is_clean


def test_work_for_one_place_or_patient_does_not_excuse_another() -> None:
    held = {"the engine": frozenset({"H1"}), "the EHR": frozenset({"D1"})}
    verdict = check(ITEMS, replace(KEPT, ehr={"D1": ("r2",)}, on_the_way=held))
    assert (verdict.lost, verdict.undelivered) == (("HL7 v2 M1: 0 of 1 in the EHR",), ())


def test_pending_and_parked_work_is_found_in_the_database_of_the_server() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(WORK)
    found = find_on_the_way(
        connection.execute, {f"Patient/p{number}": f"H{number}" for number in range(1, 6)}, {"aa", "bb"}
    )
    assert found == {
        "the store": {"M5", "2.25.1"},
        "the EHR": {"H1", "H4", "M5", "2.25.1"},
        "the engine": {"H2", "H4", "M5", "2.25.1"},
        "the PACS": {"H4", "M5", "2.25.1"},
    }
    connection.close()


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (replace(KEPT, stored={"H1": 14, "D1": 1}), "HL7 v2 M1: 14 of 7 in the store"),
        (replace(KEPT, ehr={"H1": ("r1", "r1"), "D1": ("r2",)}), "HL7 v2 M1: 2 of 1 in the EHR"),
        (replace(KEPT, engine={"H1": ("r1",), "D1": ("r2", "r2")}), "DICOM 2.25.1: 2 of 1 in the engine"),
        (replace(KEPT, pacs={"D1": ("2.25.9", "2.25.8")}), "DICOM 2.25.1: 2 of 1 in the PACS"),
        (replace(KEPT, pacs={"D1": ("2.25.9",), "H1": ("2.25.8",)}), "HL7 v2 M1: 1 of 0 in the PACS"),
        (
            replace(KEPT, engine={"H1": ("other",), "D1": ("r2",)}),
            "HL7 v2 M1: the stand-ins have different results",
        ),
    ],
)
def test_a_result_that_is_present_twice_is_duplicated(evidence: Evidence, expected: str) -> None:
    assert check(ITEMS, evidence).duplicated == (expected,)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (replace(KEPT, parked=1), "1 jobs or deliveries are parked"),
        (replace(KEPT, unfinished=2), "2 jobs or deliveries are not finished"),
        (replace(KEPT, audit_is_whole=False), "the audit log does not verify"),
        (
            replace(KEPT, ehr={**KEPT.ehr, "X": ("r3",)}),
            "the EHR has results of 1 patients for whom nothing was acknowledged",
        ),
    ],
)
def test_other_deviations_are_faults(evidence: Evidence, expected: str) -> None:
    assert check(ITEMS, evidence).faults == (expected,)


def test_an_additional_receipt_in_the_ledger_is_reported_as_lost() -> None:
    forged = replace(VITALS, mrn="H2", key="M2")
    assert len(check((*ITEMS, forged), KEPT).lost) == 3
