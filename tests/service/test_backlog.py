"""A backlog of one sender: what is stored together is what one message after the other would leave."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from fhir_adapter.hl7v2.synthesise import adt_a01, adt_a08
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import inbox, observation_origins, resource_events, resource_heads, resource_versions
from service.flows import hl7_message
from service.flows.read_set import in_lock_order

from .hospital import ADULT, ILL, Hospital

PATIENTS = [replace(ADULT, mrn=f"{number}", family=f"Family{number}") for number in range(4)]


def states(hospital: Hospital) -> list[str | None]:
    with hospital.application.database.read() as connection:
        return list(connection.scalars(select(inbox.c.state).order_by(inbox.c.received_at, inbox.c.id)))


def stored(hospital: Hospital) -> dict[str, Any]:
    """Return what is left of the messages, without what is random or of one commit."""
    heads, versions = resource_heads.c, resource_versions.c
    with hospital.application.database.read() as connection:
        resources = connection.execute(
            select(heads.type, heads.id, versions.version, versions.method, versions.patient, versions.content)
            .join_from(resource_heads, resource_versions, heads.key == versions.key)
            .where(heads.type.in_(("Patient", "Encounter", "DiagnosticReport", "Observation")))
        ).all()
        return {
            "resources": sorted(tuple(row) for row in resources if b"AIAST" not in (row.content or b"")),
            "events": sorted(tuple(row) for row in connection.execute(select(resource_events))),
            "origins": sorted(tuple(row) for row in connection.execute(select(observation_origins))),
            "results": sorted((row.subject, row.summary) for row in hospital.results()),
            "states": sorted(str(state) for state in connection.scalars(select(inbox.c.state))),
        }


def backlog(hospital: Hospital, seed: int) -> list[bytes]:
    """Return messages of few patients: admissions, values, the same ones corrected, late ones, and renamed patients."""
    chosen = random.Random(seed)
    messages: list[bytes] = []
    for number in range(40):
        patient, what = chosen.choice(PATIENTS), chosen.random()
        if what < 0.1:
            messages.append(adt_a01(patient, f"A{seed}-{number}", hospital.clock.now()))
        elif what < 0.2:
            renamed = replace(patient, given=chosen.choice(["Other", "Person"]))
            messages.append(adt_a08(renamed, f"A{seed}-{number}", hospital.clock.now()))
        elif what < 0.3 and messages:
            again = chosen.choice(messages).replace(b"|F|", b"|C|")
            messages.append(again.replace(b"|P|2", f"x{number}|P|2".encode()))
        elif what < 0.35:
            other = replace(patient, birth_date=patient.birth_date.replace(year=1990))
            messages.append(hospital.vitals(other))
        else:
            names = chosen.sample(sorted(ILL), 3)
            messages.append(hospital.vitals(patient, **dict.fromkeys(ILL, "") | {name: ILL[name] for name in names}))
    return messages


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def new_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Return what gives the URL of an empty database; empty for the file in the data folder."""
    if request.param == "sqlite":
        return lambda: ""
    return request.getfixturevalue("new_postgres_url")


def test_a_backlog_leaves_what_one_message_after_the_other_leaves(
    new_url: Callable[[], str],
    open_hospital: Callable[..., Hospital],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together: list[int] = []
    save = hl7_message.save

    def counted(core: Any, tx: Transaction, messages: Any) -> None:
        together.append(len(messages))
        save(core, tx, messages)

    monkeypatch.setattr(hl7_message, "save", counted)
    for seed in range(3):
        found = []
        keys = tmp_path / f"keys-{seed}.json"
        for most in (1, 8):
            folder = tmp_path / f"{seed}-{most}"
            folder.mkdir()
            if keys.exists():
                shutil.copy(keys, folder / "keys.json")  # the ids of resources depend on them
            hospital = open_hospital(data_dir=folder, database_url=new_url(), ehr_url=None, interface_engine=None)
            shutil.copy(folder / "keys.json", keys)
            monkeypatch.setattr(hl7_message, "MOST_TOGETHER", most)
            for message in backlog(hospital, seed):
                assert hospital.hl7(message) == "AA"
            hospital.work()
            found.append(stored(hospital))
        assert found[1] == found[0]
    assert max(together) > 2


def test_messages_of_different_patients_are_stored_in_one_commit(hospital: Hospital) -> None:
    for patient in PATIENTS:
        hospital.hl7(hospital.vitals(patient))
    hospital.application.worker.run_one()
    assert states(hospital) == ["done"] * len(PATIENTS)


def test_messages_of_one_patient_are_stored_one_after_the_other(hospital: Hospital) -> None:
    for patient in (PATIENTS[0], PATIENTS[1], PATIENTS[0], PATIENTS[2]):
        hospital.hl7(hospital.vitals(patient))
    hospital.application.worker.run_one()
    assert states(hospital) == ["done", "done", "received", "received"]


def test_patients_with_a_common_identifier_are_one_patient_to_the_order(hospital: Hospital) -> None:
    """The second message names both numbers; the third only the other one."""
    for numbers in ("1^^^HOSPITAL^MR", "1^^^HOSPITAL^MR~9^^^CITY^PI", "9^^^CITY^PI"):
        message = hospital.vitals(PATIENTS[1])
        hospital.hl7(message.replace(b"1^^^HOSPITAL^MR", numbers.encode()))
    for done in (1, 2, 3):
        hospital.application.worker.run_one()
        assert states(hospital) == ["done"] * done + ["received"] * (3 - done)


def test_a_message_that_cannot_be_stored_now_delays_nobody_before_it(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patient in PATIENTS:
        hospital.hl7(hospital.vitals(patient))
    save = hl7_message.save

    def only_one(core: Any, tx: Transaction, messages: Any) -> None:
        save(core, tx, messages)
        if len(messages) > 1:
            raise Problem(Category.BUSY, "the Patient was changed by somebody else meanwhile")

    monkeypatch.setattr(hl7_message, "save", only_one)
    hospital.application.worker.run_one()
    assert states(hospital) == ["done", "received", "received", "received"]
    monkeypatch.setattr(hl7_message, "save", save)
    hospital.application.worker.run_one()
    assert set(states(hospital)) == {"done"}
    assert len(hospital.all("Observation?code=9279-1&_count=50")) == len(PATIENTS)


def test_a_message_that_waits_for_a_person_holds_nobody_else(hospital: Hospital) -> None:
    hospital.admit(PATIENTS[0])
    stranger = replace(PATIENTS[0], family="Stranger", given="Quite", birth_date=ADULT.birth_date.replace(year=1999))
    for patient in (PATIENTS[1], stranger, PATIENTS[2]):
        hospital.hl7(hospital.vitals(patient))
    hospital.application.worker.run_one()
    assert states(hospital)[1:] == ["done", "received", "received"]
    hospital.work()
    assert states(hospital)[1:] == ["done", "held", "done"]


def test_locks_are_taken_in_the_order_of_the_writer() -> None:
    """A writer of a Patient locks its identifiers, then the resource; who locks them the other way round may wait for
    it while it waits for them."""
    names = ["Patient/a", "Patient?identifier=s|2", "Encounter/e", "Patient?identifier=s|1", "Patient/a"]
    taken = ["Patient?identifier=s|1", "Patient?identifier=s|2", "Encounter/e", "Patient/a"]
    assert in_lock_order(names) == taken
