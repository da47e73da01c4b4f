"""The simulation on the four hospitals, its ledger, and the model that comes out of it."""

import json
import logging
import warnings
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from safetensors.numpy import load_file
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from federated import task
from federated.ledger import Ledger, provenance
from federated.model_folder import NAME, write_model
from federated.server_app import RoundReport
from federated.simulate import SimulationResult, simulate
from inference import registry
from inference.contract import Fact, FactsInput, Subject
from inference.digest import digest_of
from inference.folder import open_folder
from inference.golden import infer
from inference.loading import load_model
from kernel.db import Database, Transaction
from kernel.tables import audit_log, federated_rounds
from kernel.testing import FakeClock, SequenceIds
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import Principal
from privacy.verify import verify

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library's own deprecations are not ours to fix
    from fhir.resources.R4B.provenance import Provenance

ROUNDS = 6
CLOCK = FakeClock()


@pytest.fixture(scope="module")
def result(data: Path) -> SimulationResult:
    return simulate(data, rounds=ROUNDS, seed=0, report=lambda _: None)


# --- the simulation


def test_every_round_is_reported_the_round_of_sums_first(data: Path) -> None:
    reports: list[RoundReport] = []
    simulate(data, rounds=2, seed=0, report=reports.append)
    assert [(report.round, report.kind) for report in reports] == [
        (0, "statistics"),
        (1, "training"),
        (2, "training"),
    ]


def test_the_weights_are_those_of_averaging_by_hand(data: Path, result: SimulationResult) -> None:
    hospitals = [task.load_hospital(data, name, seed=0) for name in task.HOSPITALS]
    pooled = np.concatenate([hospital.train.inputs for hospital in hospitals])
    scaling = task.Scaling(mean=pooled.mean(axis=0), scale=pooled.std(axis=0))
    parameters: task.Parameters = task.start()
    for _ in range(ROUNDS):
        trained = [task.train(parameters, hospital.train, scaling, result.descent) for hospital in hospitals]
        shares = [len(hospital.train.labels) / len(pooled) for hospital in hospitals]
        parameters = {
            name: np.sum([share * each[name] for share, each in zip(shares, trained, strict=True)], axis=0)
            for name in parameters
        }
    np.testing.assert_allclose(result.parameters["weight"], parameters["weight"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.parameters["bias"], parameters["bias"], rtol=0, atol=1e-6)


def test_the_small_hospital_gains_most_and_the_large_ones_lose_nothing(data: Path) -> None:
    gains = []
    for seed in range(10):
        sites = simulate(data, rounds=20, seed=seed, report=lambda _: None).last.sites
        gains.append([(site.federated.auc or 0) - (site.alone.auc or 0) for site in sites if site.federated])
    cleveland, hungarian, _, va = np.mean(gains, axis=0)
    assert cleveland > -0.02
    assert hungarian > -0.02
    assert va > 0.05


def test_switzerland_has_too_few_without_disease_to_say_anything(result: SimulationResult) -> None:
    switzerland = next(site for site in result.last.sites if site.site == "switzerland")
    assert switzerland.federated is not None
    assert (switzerland.federated.meaningful, switzerland.federated.negatives) == (False, 0)


def test_a_simulation_needs_no_network_and_no_home(data: Path, no_network: Path) -> None:
    simulate(data, rounds=1, seed=0, report=lambda _: None)
    assert list(no_network.iterdir()) == []


def test_an_exception_of_the_report_ends_the_run(data: Path) -> None:
    def refuse(report: RoundReport) -> None:
        if report.round == 2:
            raise RuntimeError("the ledger is away")

    with pytest.raises(RuntimeError, match="the ledger is away"):
        simulate(data, rounds=3, seed=0, report=refuse)


def test_flower_says_nothing_on_the_terminal(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    simulate(data, rounds=1, seed=0, report=lambda _: None)
    logging.shutdown()
    assert capfd.readouterr() == ("", "")


# --- the ledger


def ledger(tmp_path: Path, stored: list[dict[str, Any]]) -> Ledger:
    keys = KeyRing.open_or_create(tmp_path / "keys.json")
    audit = AuditLog(keys, CLOCK, SequenceIds())
    principal = Principal(client="ausculta federated simulate", client_address="")
    return Ledger(audit, CLOCK, lambda resource: lambda _tx: stored.append(resource), principal)


def record_all(sqlite: Database, book: Ledger, result: SimulationResult) -> None:
    for report in result.rounds:
        sqlite.write(book.prepare("run-1", report))


def test_there_is_a_row_a_provenance_and_an_event_for_each_round(
    sqlite: Database, tmp_path: Path, result: SimulationResult
) -> None:
    stored: list[dict[str, Any]] = []
    record_all(sqlite, ledger(tmp_path, stored), result)
    with sqlite.read() as connection:
        rounds = list(connection.scalars(select(federated_rounds.c.round).order_by(federated_rounds.c.round)))
        entities = list(connection.scalars(select(audit_log.c.entity).order_by(audit_log.c.seq)))
        assert verify(connection, KeyRing.open_or_create(tmp_path / "keys.json"), None).ok
    assert rounds == list(range(ROUNDS + 1))
    assert [resource["id"] for resource in stored] == [f"federated-run-1-{number}" for number in rounds]
    assert entities == [f"urn:ausculta:federated:run-1:{number}" for number in rounds]


def test_the_last_row_holds_the_digest_of_the_weights(
    sqlite: Database, tmp_path: Path, result: SimulationResult
) -> None:
    record_all(sqlite, ledger(tmp_path, []), result)
    with sqlite.read() as connection:
        record = connection.scalar(select(federated_rounds.c.record).where(federated_rounds.c.round == ROUNDS))
    assert json.loads(record)["digest"] == task.digest(result.parameters)


def test_a_row_marks_an_auc_that_is_not_meaningful(sqlite: Database, tmp_path: Path, result: SimulationResult) -> None:
    record_all(sqlite, ledger(tmp_path, []), result)
    with sqlite.read() as connection:
        record = connection.scalar(select(federated_rounds.c.record).where(federated_rounds.c.round == 1))
    sites = {site["site"]: site["meaningful"] for site in json.loads(record)["sites"]}
    assert sites == {"cleveland": True, "hungarian": True, "switzerland": False, "va": True}


def test_a_round_is_recorded_once(sqlite: Database, tmp_path: Path, result: SimulationResult) -> None:
    book = ledger(tmp_path, [])
    record_all(sqlite, book, result)
    with pytest.raises(IntegrityError):
        sqlite.write(book.prepare("run-1", result.last))


def test_a_round_whose_provenance_cannot_be_stored_leaves_no_row(
    sqlite: Database, tmp_path: Path, result: SimulationResult
) -> None:
    def refuse(_tx: Transaction) -> None:
        raise ValueError("no")

    keys = KeyRing.open_or_create(tmp_path / "keys.json")
    principal = Principal(client="x", client_address="")
    book = Ledger(AuditLog(keys, CLOCK, SequenceIds()), CLOCK, lambda _resource: refuse, principal)
    with pytest.raises(ValueError, match="no"):
        sqlite.write(book.prepare("run-1", result.last))
    with sqlite.read() as connection:
        assert connection.scalar(select(func.count()).select_from(federated_rounds)) == 0
        assert connection.scalar(select(func.count()).select_from(audit_log)) == 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_rounds_provenance_is_valid_fhir(result: SimulationResult, number: int) -> None:
    resource = provenance("run-1", result.rounds[number], server="Ausculta", at=CLOCK.now())
    Provenance.model_validate_json(orjson.dumps(resource))


def test_a_rounds_provenance_names_the_sites_and_both_weights(result: SimulationResult) -> None:
    resource = provenance("run-1", result.last, server="Ausculta", at=CLOCK.now())
    sites = [agent["who"]["identifier"]["value"] for agent in resource["agent"][1:]]
    (target,), (source,) = resource["target"], resource["entity"]
    assert sites == list(task.HOSPITALS)
    assert target["identifier"]["value"] == result.last.digest
    assert source["what"]["identifier"]["value"] == result.rounds[-2].digest


# --- the model


def test_the_result_is_a_model_folder_that_loads(tmp_path: Path, result: SimulationResult) -> None:
    digest = write_model(result, tmp_path / "model")
    assert load_model(tmp_path / "model").model.digest == digest == digest_of(tmp_path / "model")


def test_the_folder_holds_the_weights_of_the_last_round(tmp_path: Path, result: SimulationResult) -> None:
    write_model(result, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "weights.safetensors")
    assert task.digest({name: tensors[name] for name in ("weight", "bias")}) == result.last.digest


def test_the_model_answers_as_the_federation_would(tmp_path: Path, result: SimulationResult) -> None:
    write_model(result, tmp_path / "model")
    answer = infer(load_model(tmp_path / "model"), patient())
    row = np.array([[60, 1, 150, 250, 0, 130, 1, 1.5, 0, 0, 1, 0, 1]])
    logit = result.scaling.apply(row) @ result.parameters["weight"] + result.parameters["bias"]
    assert answer.outputs[0].value == pytest.approx(1 / (1 + np.exp(-logit[0])), abs=1e-9)


def test_the_card_tells_what_was_measured_and_what_was_not(tmp_path: Path, result: SimulationResult) -> None:
    write_model(result, tmp_path / "model")
    card = (tmp_path / "model" / "card.md").read_text()
    (va,) = (site for site in result.last.sites if site.site == "va")
    assert va.federated is not None
    assert f"| va | {va.examples} | 34, 10 | {va.federated.auc:.3f} (" in card
    assert "not meaningful: 0 without disease" in card
    assert "not for clinical use" in card


def test_the_model_can_be_registered_as_shadow(sqlite: Database, tmp_path: Path, result: SimulationResult) -> None:
    write_model(result, tmp_path / "model", version="1.2.0")
    opened = open_folder(tmp_path / "model")
    sqlite.write(lambda tx: registry.register(tx, opened, "shadow", by="ann", at=CLOCK.now()))
    with sqlite.read() as connection:
        (row,) = registry.everything(connection)
    assert (row.name, row.version, row.status) == (NAME, "1.2.0", "shadow")


def patient() -> FactsInput:
    """A man of 60 with pain that is not typical, after an exercise test."""
    own = "urn:ausculta:uci-heart"
    values: list[tuple[str, str, Decimal | str, str | None]] = [
        ("http://loinc.org", "8480-6", Decimal(150), "mm[Hg]"),
        ("http://loinc.org", "2093-3", Decimal(250), "mg/dL"),
        (own, "fbs", "no", None),
        (own, "thalach", Decimal(130), "/min"),
        (own, "exang", "yes", None),
        (own, "oldpeak", Decimal("1.5"), "{score}"),
        (own, "cp", "Asymptomatic", None),
        (own, "restecg", "left ventricular hypertrophy", None),
    ]
    now = CLOCK.now()
    facts = tuple(
        Fact(
            system=system,
            code=code,
            value=value,
            value_system=None,
            unit=unit,
            effective=now,
            issued=now,
            source=f"Observation/{number}/_history/1",
        )
        for number, (system, code, value, unit) in enumerate(values)
    )
    subject = Subject(reference="Patient/p", birth_date=date(1966, 1, 1), sex="male", identifier=None)
    return FactsInput(subject=subject, facts=facts, at=now)
