"""A model in shadow is marked, hidden and bounded: it reaches nobody who does not ask, and holds nobody up."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.synthesise import SyntheticPatient
from inference import registry
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.jobs import BACKGROUND, Job

from .hospital import ADULT, Hospital

SHADOW_TAG = "urn:ausculta:model-status|shadow"


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], tmp_path: Path) -> Hospital:
    """A hospital with NEWS2 active and a model of its own in shadow."""
    return open_hospital(model_dirs=(pulse_risk(tmp_path / PULSE_RISK),))


def models_of(resources: list[dict[str, Any]]) -> set[str]:
    return {resource["method"]["coding"][0]["code"] for resource in resources if "method" in resource}


@pytest.fixture
def searched(hospital: Hospital) -> Hospital:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert {(row.model, row.status) for row in hospital.results()} == {("news2", "active"), (PULSE_RISK, "shadow")}
    return hospital


def test_a_search_does_not_find_what_a_model_in_shadow_said(searched: Hospital) -> None:
    assert models_of(searched.all("RiskAssessment")) == {"news2"}
    assert models_of(searched.all("Observation?_count=200")) == {"news2"}
    assert len(searched.all("Provenance")) == 1


def test_who_asks_for_shadow_finds_it_and_each_resource_is_marked(searched: Hospital) -> None:
    for kind in ("RiskAssessment", "Observation"):
        found = searched.all(f"{kind}?_tag={SHADOW_TAG}")
        assert models_of(found) == {PULSE_RISK}
        (resource,) = found
        (tag,) = resource["meta"]["tag"]
        assert f"{tag['system']}|{tag['code']}" == SHADOW_TAG
        assert searched.get(f"{kind}/{resource['id']}")["meta"]["tag"] == [tag]
    assert len(searched.all(f"Provenance?_tag={SHADOW_TAG}")) == 1


def test_what_is_delivered_has_no_mark(searched: Hospital) -> None:
    (risk,) = searched.ehr.received("RiskAssessment")
    assert "tag" not in risk["meta"]


def test_what_a_model_in_shadow_said_is_read_by_no_model(searched: Hospital) -> None:
    from fhir_adapter.facts import patient_facts

    (observation,) = searched.all(f"Observation?_tag={SHADOW_TAG}")
    code = observation["code"]["coding"][0]["code"]
    patient = observation["subject"]["reference"]
    with searched.application.database.read() as connection:
        since = searched.clock.now().replace(year=2000)
        assert patient_facts(connection, searched.application.store, patient, [code], since) == ()


def test_a_created_resource_is_found_by_its_condition_although_it_is_hidden(searched: Hospital) -> None:
    (risk,) = searched.all(f"RiskAssessment?_tag={SHADOW_TAG}")
    identifier = f"{risk['identifier'][0]['system']}|{risk['identifier'][0]['value']}"
    again = {key: value for key, value in risk.items() if key != "id"}
    headers = {"If-None-Exist": f"identifier={identifier}", "Content-Type": "application/fhir+json"}
    answer = httpx.post(f"{searched.url}/RiskAssessment", json=again, headers=headers)
    assert (answer.status_code, answer.json()["id"]) == (200, risk["id"])


def test_active_models_are_run_before_any_model_in_shadow(hospital: Hospital) -> None:
    patients = [SyntheticPatient(**vars(ADULT) | {"mrn": f"9{number}"}) for number in range(4)]
    for patient in patients:
        hospital.admit(patient)
    for patient in patients:
        hospital.hl7(hospital.vitals(patient))
    hospital.work()
    assert [row.status for row in hospital.results()] == ["active"] * 4 + ["shadow"] * 4


def test_jobs_of_models_in_shadow_run_one_at_a_time_and_take_no_place_of_others(hospital: Hospital) -> None:
    application = hospital.application
    hospital.admit()
    hospital.admit(SyntheticPatient(**vars(ADULT) | {"mrn": "92"}))
    application.database.write(
        lambda tx: registry.set_status(tx, "news2", "1.0.0", "shadow", by="test", at=hospital.clock.now())
    )
    hospital.hl7(hospital.vitals())

    def claim(*, background: bool) -> Job | None:
        return application.database.write(lambda tx: application.jobs.claim(tx, "w", background=background))

    assert application.worker.run_one()  # the conversion, which asks for the model
    assert claim(background=False) is None
    first = claim(background=True)
    assert first is not None
    assert first.lock == BACKGROUND
    assert claim(background=True) is None


def test_a_model_in_shadow_that_hangs_does_not_delay_an_active_one(
    open_hospital: Callable[..., Hospital], tmp_path: Path
) -> None:
    """With the worker's own threads: one for everybody, and one for the background."""
    hospital = open_hospital(model_dirs=(pulse_risk(tmp_path / PULSE_RISK),), worker_threads=1, model_deadline_s=120.0)
    runtime = hospital.application.runtime
    hung, go = threading.Event(), threading.Event()
    load = runtime._load

    def loading(model_files: Any, row: Any, *, device: str) -> Any:
        runner = load(model_files, row, device=device)
        if row.name == PULSE_RISK:
            predict = runner.predict

            def hang(batch: Any) -> Any:
                hung.set()
                assert go.wait(60)
                return predict(batch)

            runner.predict = hang
        return runner

    runtime._load = loading  # type: ignore[assignment]
    hospital.admit()
    hospital.hl7(hospital.vitals())
    threads = hospital.application.worker._threads
    for thread in threads:
        thread.start()
    assert hung.wait(60)
    hospital.hl7(hospital.vitals(pulse="99"))
    deadline = threading.Event()
    for _ in range(600):
        rows = [row for row in hospital.results() if row.model == "news2"]
        if len(rows) >= 2:
            break
        deadline.wait(0.1)
    statuses = {row.status for row in hospital.results()}
    go.set()
    assert (len(rows), statuses) == (2, {"active"})


def test_a_job_of_a_version_that_was_retired_meanwhile_is_run_by_the_one_that_took_its_place(
    hospital: Hospital, tmp_path: Path
) -> None:
    """Rolled back between a message and its result: the older version had no job, and nobody would have heard."""
    from inference.digest import seal
    from privacy.principal import Principal
    from service.operations import models as operations

    context, person = hospital.application.operations, Principal(client="test", client_address="", user="somebody")
    newer = pulse_risk(tmp_path / "newer")
    (newer / "model.yaml").write_text((newer / "model.yaml").read_text().replace("version: 1.0.0", "version: 1.1.0"))
    seal(newer)
    operations.activate(context, person, PULSE_RISK)
    operations.register(context, person, newer)
    operations.activate(context, person, PULSE_RISK)
    hospital.admit()
    hospital.hl7(hospital.vitals())
    assert hospital.application.worker.run_one()  # the message is converted, and the models have their jobs
    operations.rollback(context, person, PULSE_RISK)
    hospital.work()
    (row,) = [row for row in hospital.results() if row.model == PULSE_RISK]
    assert (row.version, row.kind, row.status) == ("1.0.0", "prediction", "active")
