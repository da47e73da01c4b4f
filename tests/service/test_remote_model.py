"""A model that another server runs, from the vital signs that arrive to the result that names who computed it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fhir_adapter.testing import LoopbackServer
from inference.finalize import finalize_folder
from inference.folder import bundled_folder
from inference.remote.permitted import RemoteHosts
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.errors import Category, Problem
from privacy.principal import SERVER
from service.api import http_application
from service.application import build
from service.operations import models as operations
from service.settings import load

from ..inference import tiny_models as tiny  # noqa: TID252 - the models of the tests of the runners
from ..inference.model_server import ModelServer, answered  # noqa: TID252 - as above
from .hospital import Hospital

LOOPBACK = RemoteHosts(allowed=("127.0.0.1",))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as one:
        yield one


@pytest.fixture
def ausculta(tmp_path: Path) -> Iterator[str]:
    """A second Ausculta, which runs NEWS2; its URL."""
    application = build(load({}, None, data_dir=tmp_path / "second", device="cpu", model_deadline_s=600.0))
    web = LoopbackServer(http_application(application))
    yield web.url
    web.close()
    application.close()


def far_news2(url: str, folder: Path) -> Path:
    """Bring a folder with the features of NEWS2, whose score the other server computes."""
    manifest = yaml.safe_load((bundled_folder("news2") / "model.yaml").read_text())
    features = yaml.safe_load((bundled_folder("news2") / "features.yaml").read_text())
    for feature in features["features"]:
        del feature["sources"][1:]  # a number is sent without its unit, so there is one unit for each feature
    features["features"].append({"name": "age", "title": "age", "subject": "age", "missing": "refuse"})
    bands = [{"name": "low", "at_least": 0}, {"name": "medium", "at_least": 5}, {"name": "high", "at_least": 7}]
    manifest["outputs"][0]["bands"] = bands
    manifest |= {"name": folder.name, "runner": {"kind": "remote", "url": url, "model": "news2", "version": "1.0.0"}}
    (folder / "golden").mkdir(parents=True)
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    (folder / "features.yaml").write_text(yaml.safe_dump(features))
    for name in ("well", "septic"):
        case = json.loads((bundled_folder("news2") / "golden" / f"{name}.json").read_text())
        (folder / "golden" / f"{name}.json").write_text(json.dumps({"input": case["input"]}))
    finalize_folder(folder, {"Evidence": "None: a test."}, remote_hosts=LOOPBACK)
    return folder


def tiny_folder(server: ModelServer, folder: Path) -> Path:
    options = {"kind": "remote", "url": server.url, "model": "risk", "transform": "sigmoid"}
    return tiny.bring(folder, options, {}, remote_hosts=LOOPBACK)


def rows(hospital: Hospital, name: str) -> list[Any]:
    return [row for row in hospital.results() if row.model == name]


def values(row: Any) -> list[float]:
    return [one["value"] for one in json.loads(row.outputs)]


def test_a_second_ausculta_computes_the_same_score_and_is_named(
    open_hospital: Callable[..., Hospital], ausculta: str, tmp_path: Path
) -> None:
    folder = far_news2(ausculta, tmp_path / "far-news2")
    hospital = open_hospital(model_dirs=(folder,), remote_model_hosts=("127.0.0.1",))
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (near,), (far,) = rows(hospital, "news2"), rows(hospital, "far-news2")
    assert (near.kind, far.kind) == ("prediction", "prediction")
    assert values(far) == values(near) == [19]
    provenances = hospital.all("Provenance?_tag=urn:ausculta:model-status|shadow")
    performers = [agent["who"]["identifier"]["value"] for one in provenances for agent in one["agent"][2:]]
    assert performers == [f"{ausculta}/v2/models/news2/versions/1.0.0"]


LACTATE = {
    "name": "lactate",
    "title": "lactate",
    "window": {"take": "last"},
    "missing": {"default": 2},
    "transform": ["log"],
    "sources": [{"code": "2524-7", "unit": "mmol/L", "plausible": [0.1, 40]}],
}
HEIGHT = {
    "name": "height",
    "title": "height",
    "window": {"take": "last"},
    "missing": {"default": 170},
    "sources": [{"code": "8302-2", "unit": "cm", "plausible": [20, 250]}],
}
NO_LACTATE = {"name": "no_lactate", "title": "no lactate", "missing_of": "lactate"}


@pytest.mark.parametrize(
    ("features", "facts"),
    [
        ([tiny.ALERTNESS | {"one_hot": True}], [{"code": "67775-7", "answer": "LA17108-4"}]),
        ([LACTATE, NO_LACTATE], [{"code": "2524-7", "value": "7", "unit": "mmol/L"}]),
        ([HEIGHT, LACTATE, NO_LACTATE], [{"code": "8302-2", "value": "180", "unit": "cm"}]),
        (["pulse", LACTATE], [{"code": "8867-4", "value": "195", "unit": "/min"}]),
    ],
    ids=["an answer", "a value and its indicator", "no value", "a logarithm"],
)
def test_the_same_features_are_the_same_answer_of_a_second_ausculta(
    tmp_path: Path, features: list[Any], facts: list[Any]
) -> None:
    near = tiny.bring(
        tmp_path / "near",
        "onnx",
        {"weights.onnx": tiny.onnx_bytes(features=max(2, len(features)))},
        features=features,
        golden={"facts": facts},
    )
    second = tmp_path / "second"
    application = build(load({}, None, data_dir=second, device="cpu", model_deadline_s=600.0, model_dirs=(near,)))
    web = LoopbackServer(http_application(application))
    options = {"kind": "remote", "url": web.url, "model": "near", "version": "1.0.0"}
    try:
        far = tiny.bring(
            tmp_path / "far", options, {}, features=features, golden={"facts": facts}, remote_hosts=LOOPBACK
        )
    finally:
        web.close()
        application.close()
    said = [
        json.loads((one / "golden" / "one.json").read_text())["expected"]["outputs"][0]["value"] for one in (near, far)
    ]
    assert said[0] == pytest.approx(said[1], abs=1e-9)


def test_while_the_other_server_is_busy_the_job_waits_and_nothing_else_does(
    open_hospital: Callable[..., Hospital], server: ModelServer, tmp_path: Path
) -> None:
    folder = tiny_folder(server, tmp_path / "tiny")
    hospital = open_hospital(model_dirs=(folder,), remote_model_hosts=("127.0.0.1",))
    hospital.application.runtime.warm_up()
    server.misbehave = lambda handler: answered(handler, 503, b"the patient Invented is too much")
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert [row.kind for row in rows(hospital, "news2")] == ["prediction"]
    assert rows(hospital, "tiny") == []
    server.misbehave = None
    hospital.clock.advance(3600)
    hospital.work()
    assert [row.kind for row in rows(hospital, "tiny")] == ["prediction"]
    assert hospital.parked() == []


def test_while_the_other_server_is_not_there_the_job_waits(
    open_hospital: Callable[..., Hospital], server: ModelServer, tmp_path: Path
) -> None:
    folder = tiny_folder(server, tmp_path / "tiny")
    server.close()
    hospital = open_hospital(model_dirs=(folder,), remote_model_hosts=("127.0.0.1",))
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert [row.kind for row in rows(hospital, "news2")] == ["prediction"]
    assert (rows(hospital, "tiny"), hospital.parked()) == ([], [])


def test_a_caller_of_a_model_whose_server_is_not_there_learns_when_to_try_again(
    open_hospital: Callable[..., Hospital], server: ModelServer, tmp_path: Path
) -> None:
    folder = tiny_folder(server, tmp_path / "tiny")
    hospital = open_hospital(model_dirs=(folder,), remote_model_hosts=("127.0.0.1",))
    hospital.application.runtime.warm_up()
    server.close()
    inputs = [{"name": name, "datatype": "FP64", "shape": [1], "data": [95]} for name in ("pulse", "systolic")]
    answer = httpx.post(f"{hospital.web.url}/v2/models/tiny/versions/1.0.0/infer", json={"inputs": inputs}, timeout=30)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1"), answer.text
    assert answer.json() == {"error": "the remote model cannot be reached"}


def test_other_models_in_shadow_do_not_wait_for_a_server_that_is_not_there(
    open_hospital: Callable[..., Hospital], server: ModelServer, tmp_path: Path
) -> None:
    folders = (tiny_folder(server, tmp_path / "tiny"), pulse_risk(tmp_path / PULSE_RISK))
    server.close()
    hospital = open_hospital(model_dirs=folders, remote_model_hosts=("127.0.0.1",))
    hospital.admit()
    for _ in range(3):
        hospital.clock.advance(60)
        hospital.hl7(hospital.vitals())
        hospital.work()
    assert rows(hospital, "tiny") == []
    assert len(rows(hospital, PULSE_RISK)) == 3


def test_an_answer_that_never_comes_is_a_result_that_says_so(
    open_hospital: Callable[..., Hospital], server: ModelServer, tmp_path: Path
) -> None:
    folder = tiny_folder(server, tmp_path / "tiny")
    hospital = open_hospital(model_dirs=(folder,), remote_model_hosts=("127.0.0.1",), model_deadline_s=3.0)
    hospital.application.runtime.warm_up()
    server.misbehave = lambda _: bool(server.released.wait()) and None
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    ((row),) = rows(hospital, "tiny")
    assert (row.kind, row.reason) == ("failed", "the model did not answer in time")


def test_a_host_that_the_operator_does_not_list_is_refused_when_the_folder_is_added_and_when_it_runs(
    open_hospital: Callable[..., Hospital], server: ModelServer, tmp_path: Path
) -> None:
    folder = tiny_folder(server, tmp_path / "tiny")
    hospital = open_hospital(model_dirs=(folder,))
    server.received.clear()
    with pytest.raises(Problem, match="REMOTE_MODEL_HOSTS") as refused:
        operations.register(hospital.application.operations, SERVER, folder)
    assert refused.value.category is Category.FORBIDDEN
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = rows(hospital, "tiny")
    assert row.kind == "failed"
    assert "the operator lists hosts in the setting REMOTE_MODEL_HOSTS" in row.reason
    assert server.received == []
