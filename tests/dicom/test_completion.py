"""When a study is complete, and what a late instance does; on both databases."""

from datetime import datetime
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import select

from dicom_node.archive import Archive, Arrival
from dicom_node.encoding import part10
from dicom_node.listener.association import ReceivedInstance
from dicom_node.study import StudyState, describe, open_revision, study_state
from dicom_node.synthesise import ChestXRay, chest_x_ray, study_uid
from kernel.blobs import Blobs
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.tables import associations
from kernel.testing import FakeClock, PlainCipher
from privacy.principal import Principal

QUIET, STALE = 30.0, 600.0
XRAY = ChestXRay(rows=32, columns=32)
STUDY = study_uid(XRAY)


def received(number: int = 1, association: str = "a", **changes: str) -> ReceivedInstance:
    content = chest_x_ray(ChestXRay(rows=32, columns=32, instance=number))
    from dicom_node.encoding import _after_meta, open_file

    dataset = open_file(content)
    start, syntax = _after_meta(content)
    return ReceivedInstance(
        association=association,
        principal=Principal(client="MODALITY", client_address="127.0.0.1"),
        called_ae="AUSCULTA",
        SOPClassUID=str(dataset.SOPClassUID),
        SOPInstanceUID=changes.get("SOPInstanceUID", str(dataset.SOPInstanceUID)),
        TransferSyntaxUID=syntax,
        encoded=content[start:],
    )


class Station:
    def __init__(self, database: Database, folder: Path, clock: FakeClock) -> None:
        self.database, self.clock = database, clock
        self.archive = Archive(database, Blobs(folder, PlainCipher(), database), clock)

    def add(self, number: int = 1, association: str = "a") -> Arrival:
        arrivals: list[Arrival] = []
        self.archive.add(received(number, association), on_commit=lambda _, arrival: arrivals.append(arrival))
        return arrivals[-1]

    def close(self, association: str) -> None:
        self.database.write(lambda tx: self.archive.closed(tx, association))

    def state(self) -> StudyState:
        with self.database.read() as connection:
            return study_state(connection, STUDY, self.clock.now(), quiet_s=QUIET, stale_s=STALE)

    def open(self, instances: int) -> int | None:
        return self.database.write(lambda tx: open_revision(tx, STUDY, instances=instances, now=self.clock.now()))


@pytest.fixture
def station(database: Database, tmp_path: Path, clock: FakeClock) -> Station:
    return Station(database, tmp_path / "blobs", clock)


def test_a_study_without_instances_is_unknown(station: Station) -> None:
    assert station.state() is StudyState.UNKNOWN


def test_it_is_incomplete_while_instances_keep_coming(station: Station) -> None:
    station.add()
    station.close("a")
    station.clock.advance(QUIET - 1)
    assert station.state() is StudyState.RECEIVING


def test_it_is_incomplete_while_an_association_is_open(station: Station) -> None:
    station.add()
    station.clock.advance(QUIET + 1)
    assert station.state() is StudyState.RECEIVING


def test_it_is_complete_when_quiet_and_closed(station: Station) -> None:
    station.add()
    station.close("a")
    station.clock.advance(QUIET)
    assert station.state() is StudyState.COMPLETE


def test_another_open_association_of_the_study_keeps_it_incomplete(station: Station) -> None:
    station.add(1, "a")
    station.add(2, "b")
    station.close("a")
    station.clock.advance(QUIET)
    assert station.state() is StudyState.RECEIVING


def test_a_stale_association_of_a_dead_server_does_not_keep_the_study_incomplete(station: Station) -> None:
    station.add()
    station.clock.advance(STALE + 1)
    assert station.state() is StudyState.COMPLETE


def test_a_restarted_listener_clears_its_own_associations(station: Station) -> None:
    station.add()
    assert station.database.write(station.archive.forget_associations) == [STUDY]
    station.clock.advance(QUIET)
    assert station.state() is StudyState.COMPLETE


def test_a_late_instance_opens_the_next_revision(station: Station) -> None:
    station.add(1)
    station.close("a")
    assert station.open(1) == 1
    assert station.state() is StudyState.DONE
    station.add(2, "late")
    assert station.state() is StudyState.RECEIVING
    station.close("late")
    station.clock.advance(QUIET)
    assert station.state() is StudyState.COMPLETE
    assert station.open(2) == 2


def test_a_repeated_instance_opens_no_revision(station: Station) -> None:
    station.add(1)
    assert station.open(1) == 1
    station.add(1, "again")
    assert station.state() is StudyState.DONE


def test_a_revision_is_not_opened_over_an_unseen_instance(station: Station) -> None:
    station.add(1)
    station.add(2)
    assert station.open(1) is None


def test_a_revision_is_opened_once(station: Station) -> None:
    station.add(1)
    assert [station.open(1), station.open(1)] == [1, None]


def test_when_on_commit_fails_nothing_is_stored(station: Station) -> None:
    def fail(*_: object) -> None:
        raise Problem(Category.BUSY, "no")

    with pytest.raises(Problem):
        station.archive.add(received(), on_commit=fail)
    assert station.state() is StudyState.UNKNOWN


def test_uids_that_contradict_the_request_are_refused(station: Station) -> None:
    with pytest.raises(Problem, match="not those of the request"):
        station.archive.add(received(SOPInstanceUID="1.2.3"), on_commit=lambda *_: None)


def test_a_study_is_described_from_its_files(station: Station) -> None:
    station.add(1)
    station.add(2)
    with station.database.read() as connection:
        kept = station.archive.instances(connection, STUDY)
    study = describe([(stored.blob, station.archive.read(stored.SOPInstanceUID)) for stored in kept])
    assert (study.StudyInstanceUID, study.PatientID, study.AccessionNumber) == (STUDY, "DEMO-0001", "A-0001")
    (series,) = study.series
    assert (series.Modality, series.BodyPartExamined, len(series.instances)) == ("DX", "CHEST", 2)


def test_the_same_instance_always_becomes_the_same_file() -> None:
    arguments = {"SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2", "TransferSyntaxUID": ExplicitVRLittleEndian}
    assert part10(b"x", **arguments) == part10(b"x", **arguments)


def test_the_row_of_an_association_is_written_again_only_when_it_has_aged(station: Station) -> None:
    def seen() -> list[datetime]:
        with station.database.read() as connection:
            return list(connection.execute(select(associations.c.seen_at)).scalars())

    start = station.clock.now()
    for number, pause in enumerate((0.0, 4.0, 4.0), start=1):
        station.clock.advance(pause)
        station.add(number)
        expected = start if pause == 0.0 or number == 2 else station.clock.now()
        assert seen() == [expected]


def test_an_association_whose_first_instance_was_not_stored_is_recorded_with_the_next_one(station: Station) -> None:
    def fail(*_: object) -> None:
        raise Problem(Category.BUSY, "no")

    with pytest.raises(Problem):
        station.archive.add(received(), on_commit=fail)
    station.add(1)
    assert station.state() is StudyState.RECEIVING


def test_an_instance_is_expected_when_its_association_has_just_sent_one_of_an_open_study(station: Station) -> None:
    """Whoever checks the study later finds it then; else a check must be due."""
    assert [station.add(number).is_expected for number in (1, 2, 3)] == [False, True, True]
    assert not station.add(4, "another").is_expected
    station.clock.advance(5)
    assert not station.add(5).is_expected


def test_an_instance_of_a_complete_study_is_never_expected(station: Station) -> None:
    station.add(1)
    assert station.open(1) == 1
    assert not station.add(2).is_expected
    assert station.add(3).is_expected


def test_a_repeated_instance_is_never_expected(station: Station) -> None:
    station.add(1)
    assert not station.add(1).is_expected
