"""The rounds: Flower's averaging is correct, and only permitted numbers leave a hospital."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from federated import task
from federated.client_app import client_app
from federated.grid import flower_here
from federated.mods import allow_only
from kernel.errors import Category, Problem

from .hospitals import WIDTH, federate, made_up

HOSPITALS = (made_up("north", 120, 1), made_up("south", 40, 2, shift=0.5), made_up("island", 9, 3, shift=1.5))


def descend(weight: Any, bias: float, inputs: Any, labels: Any, steps: int, rate: float) -> tuple[Any, float]:
    """Logistic regression, independent of the code under test."""
    for _ in range(steps):
        wrong = 1 / (1 + np.exp(-(inputs @ weight + bias))) - labels
        weight, bias = weight - rate * inputs.T @ wrong / len(labels), bias - rate * wrong.mean()
    return weight, bias


def averaged_by_hand(hospitals: tuple[task.Hospital, ...], rounds: int, steps: int, rate: float) -> tuple[Any, float]:
    """Weighted federated averaging over pooled scaling, in one loop."""
    pooled = np.concatenate([hospital.train.inputs for hospital in hospitals])
    mean, scale = pooled.mean(axis=0), pooled.std(axis=0)
    share = [len(hospital.train.labels) / len(pooled) for hospital in hospitals]
    weight, bias = np.zeros(WIDTH), 0.0
    for _ in range(rounds):
        trained = [
            descend(weight, bias, (hospital.train.inputs - mean) / scale, hospital.train.labels, steps, rate)
            for hospital in hospitals
        ]
        weight = sum(part * theirs for part, (theirs, _) in zip(share, trained, strict=True))
        bias = sum(part * theirs for part, (_, theirs) in zip(share, trained, strict=True))
    return weight, bias


def test_flowers_rounds_are_those_of_the_loop_by_hand() -> None:
    trained, _, _ = federate(HOSPITALS, rounds=7, descent=task.Descent(steps=4, rate=0.3))
    weight, bias = averaged_by_hand(HOSPITALS, rounds=7, steps=4, rate=0.3)
    np.testing.assert_allclose(trained.parameters["weight"], weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(trained.parameters["bias"], [bias], rtol=0, atol=1e-6)


def test_with_one_step_a_round_federated_is_the_same_as_pooled() -> None:
    trained, _, _ = federate(HOSPITALS, rounds=10, descent=task.Descent(steps=1, rate=0.3))
    inputs = np.concatenate([hospital.train.inputs for hospital in HOSPITALS])
    labels = np.concatenate([hospital.train.labels for hospital in HOSPITALS])
    scaled = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    weight, _ = descend(np.zeros(WIDTH), 0.0, scaled, labels, steps=10, rate=0.3)
    np.testing.assert_allclose(trained.parameters["weight"], weight, rtol=0, atol=1e-9)


def test_the_scaling_is_that_of_all_patients_together() -> None:
    trained, _, _ = federate(HOSPITALS, rounds=1, descent=task.Descent())
    everybody = np.concatenate([hospital.train.inputs for hospital in HOSPITALS])
    np.testing.assert_allclose(trained.scaling.mean, everybody.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(trained.scaling.scale, everybody.std(axis=0), atol=1e-9)


def test_the_same_run_gives_the_same_bits() -> None:
    runs = [federate(HOSPITALS, rounds=3, descent=task.Descent())[1] for _ in range(2)]
    assert [report.digest for report in runs[0]] == [report.digest for report in runs[1]]


def test_each_round_is_made_from_the_one_before() -> None:
    trained, reports, _ = federate(HOSPITALS, rounds=3, descent=task.Descent())
    assert [report.round for report in reports] == [0, 1, 2, 3]
    assert [report.previous for report in reports] == [None, *(report.digest for report in reports[:-1])]
    assert reports[-1].digest == task.digest(trained.parameters)


def test_a_round_reports_each_hospitals_auc_and_that_of_its_own_model() -> None:
    trained, reports, _ = federate(HOSPITALS, rounds=3, descent=task.Descent(steps=5, rate=0.5))
    north = reports[-1].sites[0]
    assert (north.site, north.examples) == ("north", 120)
    assert north.federated == task.measure(trained.parameters, HOSPITALS[0].test, trained.scaling)
    assert north.alone == task.alone(HOSPITALS[0], task.Descent(steps=15, rate=0.5))


def test_a_hospital_with_too_few_of_a_kind_is_marked() -> None:
    _, reports, _ = federate(HOSPITALS, rounds=1, descent=task.Descent())
    assert [site.alone.meaningful for site in reports[-1].sites] == [True, True, False]


# --- nothing about a patient leaves


def test_only_listed_arrays_and_numbers_leave_a_hospital() -> None:
    _, _, replies = federate(HOSPITALS, rounds=2, descent=task.Descent())
    arrays = {
        (name, tuple(array.shape))
        for reply in replies
        for record in reply.content.array_records.values()
        for name, array in record.items()
    }
    metrics = {name for reply in replies for record in reply.content.metric_records.values() for name in record}
    assert len(replies) == 3 * (2 + 2 * 2)
    assert arrays == {
        ("of_values", (WIDTH,)),
        ("of_squares", (WIDTH,)),
        ("weight", (WIDTH,)),
        ("bias", (1,)),
    }
    assert metrics == {"num-examples", "positives", "negatives", "auc"}
    assert not any(reply.content.config_records for reply in replies)


def test_no_message_holds_a_patient() -> None:
    _, _, replies = federate(HOSPITALS, rounds=2, descent=task.Descent())
    sent = [
        array.numpy()
        for reply in replies
        for record in reply.content.array_records.values()
        for array in record.values()
    ]
    patients = np.concatenate([part.inputs for hospital in HOSPITALS for part in (hospital.train, hospital.test)])
    assert not any(np.isclose(array, patients).all(axis=1).any() for array in sent if array.shape == (WIDTH,))


def leaks_patients(message: Any) -> RecordDict:
    patients = Array(HOSPITALS[0].train.inputs)
    return RecordDict({"arrays": ArrayRecord({"of_values": patients}), "metrics": MetricRecord({"num-examples": 1})})


def leaks_a_number(message: Any) -> RecordDict:
    return RecordDict({"metrics": MetricRecord({"num-examples": 1, "age": 63.0})})


def leaks_a_list(message: Any) -> RecordDict:
    return RecordDict({"metrics": MetricRecord({"num-examples": [63.0, 1.0]})})


def leaks_a_text(message: Any) -> RecordDict:
    return RecordDict({"note": ConfigRecord({"name": "Doe"})})


@pytest.mark.parametrize("leak", [leaks_patients, leaks_a_number, leaks_a_list, leaks_a_text])
def test_the_last_mod_stops_a_reply_with_unlisted_content(leak: Callable[[Any], RecordDict]) -> None:
    guard = allow_only(arrays={"of_values": (WIDTH,)}, metrics=frozenset({"num-examples"}))
    with flower_here():
        asked = Message(RecordDict(), dst_node_id=2, message_type="query.sums")
        with pytest.raises(PermissionError, match="may not leave this site"):
            guard(asked, None, lambda message, _context: Message(leak(message), reply_to=message))


# --- when a hospital fails


def test_a_hospital_that_fails_ends_the_run_and_is_named() -> None:
    def load(context: Any) -> task.Hospital:
        if context.node_config["site"] == "south":
            raise OSError("disk of patient Doe")
        return HOSPITALS[0]

    with pytest.raises(Problem, match="no answer from south") as raised:
        federate(HOSPITALS, rounds=1, descent=task.Descent(), app=client_app(load))
    assert raised.value.category is Category.UNAVAILABLE
    assert "Doe" not in raised.value.detail


def test_flower_leaves_no_trace_in_the_process() -> None:
    logger = logging.getLogger("flwr")
    before = logger.level
    federate(HOSPITALS, rounds=1, descent=task.Descent())
    assert logger.level == before
    with pytest.raises(RuntimeError, match="not set"):
        Message(RecordDict(), dst_node_id=2, message_type="query")
