"""Other systems call the models under ``/v2`` (Open Inference Protocol): described, authorised, recorded, bounded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from fhir_adapter.testing import LoopbackServer
from inference import registry
from inference.batching import QueueLimits
from inference.runtime import Runtime
from inference.testing import radiograph
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.errors import Category, Problem
from kernel.tables import audit_log
from privacy.authorize import Interaction, Request
from privacy.principal import Principal
from service.api import http_application

from .hospital import Hospital

NORMAL: dict[str, Any] = {
    "respirations": 14,
    "oxygen_saturation": 98,
    "oxygen": 0,
    "systolic": 120,
    "pulse": 70,
    "consciousness": "alert",
    "temperature": 37,
}
NEWS2 = "models/news2"


def tensor(name: str, *values: Any, shape: list[int] | None = None) -> dict[str, Any]:
    kind = "BYTES" if isinstance(values[0], str) else "FP64"
    return {"name": name, "datatype": kind, "shape": shape or [len(values)], "data": list(values)}


def tensors(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Write one tensor for each feature."""
    return [tensor(name, *(row[name] for row in rows)) for name in rows[0]]


@pytest.fixture
def site(open_hospital: Callable[..., Hospital], tmp_path: Path) -> Hospital:
    """The bundled models, and a logistic model of the pulse in shadow."""
    return open_hospital(model_dirs=(pulse_risk(tmp_path / PULSE_RISK),))


def get(site: Hospital, path: str) -> httpx.Response:
    return httpx.get(f"{site.web.url}/v2/{path}", timeout=30)


def post(site: Hospital, path: str, inputs: Any, **more: Any) -> httpx.Response:
    return httpx.post(f"{site.web.url}/v2/{path}/infer", json={"inputs": inputs, **more}, timeout=30)


def outputs(answer: httpx.Response) -> dict[str, list[Any]]:
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["data"] for one in answer.json()["outputs"]}


def recorded(site: Hospital) -> list[tuple[str, str]]:
    """Return entity and body of every event of a model that was called."""
    with site.application.database.read() as connection:
        rows = connection.execute(select(audit_log).order_by(audit_log.c.seq)).all()
    return [(str(row.entity), bytes(row.event).decode()) for row in rows if b"model-inferred" in bytes(row.event)]


def test_health_says_that_the_server_lives_and_when_every_active_model_is_loaded(site: Hospital) -> None:
    assert get(site, "health/live").json() == {"live": True}
    unloaded = get(site, "health/ready")
    assert (unloaded.status_code, unloaded.json()) == (503, {"ready": False})
    site.application.runtime.warm_up()
    loaded = get(site, "health/ready")
    assert (loaded.status_code, loaded.json()) == (200, {"ready": True})
    assert httpx.get(f"{site.web.url}/v2").json()["name"] == "ausculta"


def test_the_metadata_of_a_model_come_from_its_manifest(site: Hospital) -> None:
    found = get(site, NEWS2).json()
    assert (found["name"], found["versions"], found["platform"]) == ("news2", ["1.0.0"], "ausculta_score")
    names = {one["name"]: (one["datatype"], one["shape"]) for one in found["inputs"]}
    assert names == {name: ("FP64", [-1]) for name in (*NORMAL, "age")} | {"consciousness": ("BYTES", [-1])}
    assert [one["name"] for one in found["outputs"]] == ["total", "total.band", "total.text", "reason"]
    assert get(site, f"{NEWS2}/versions/1.0.0").json() == found
    site.application.runtime.warm_up()
    assert get(site, f"{NEWS2}/ready").json() == {"name": "news2", "ready": True}


def test_each_row_gets_its_own_answer_and_the_call_is_recorded_before_it_is_given(site: Hospital) -> None:
    ill = NORMAL | {"respirations": 25, "pulse": 131, "consciousness": "alert"}
    answer = post(site, NEWS2, tensors(NORMAL | {"age": 40}, ill | {"age": 40}), id="7")
    assert outputs(answer)["total"] == [0, 6]
    assert outputs(answer)["reason"] == ["", ""]
    content = answer.json()
    assert (content["id"], content["model_name"], content["model_version"]) == ("7", "news2", "1.0.0")
    assert content["parameters"] == {"status": "active", "demonstration": False}
    ((entity, body),) = recorded(site)
    assert entity == "urn:ausculta:model:news2:1.0.0"
    assert "131" not in body, "what was sent is not recorded"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pulse": None}, "missing pulse"),
        ({"pulse": 900}, "implausible pulse"),
        ({"age": 9}, "the model is not for patients under 16 years"),
        ({"age": None}, "date of birth is not known and the model is not for patients under 16 years"),
    ],
)
def test_a_row_that_the_model_declines_has_null_and_the_reason_and_the_others_are_answered(
    site: Hospital, changes: dict[str, Any], reason: str
) -> None:
    well = NORMAL | {"age": 40}
    found = outputs(post(site, NEWS2, tensors(well, well | changes)))
    assert found["total"] == [0, None]
    assert found["reason"] == ["", reason]


def test_rows_of_one_tensor_are_in_the_order_of_the_features(site: Hospital) -> None:
    path = f"models/{PULSE_RISK}/versions/1.0.0"
    as_rows = outputs(post(site, path, [tensor("features", 90.0, 80.0, shape=[2, 1])]))
    one_by_one = outputs(post(site, path, [tensor("pulse", 90.0, 80.0)]))
    assert as_rows == one_by_one
    assert as_rows["risk"] == pytest.approx([0.679179, 0.562177], abs=1e-5)


def test_a_response_has_the_outputs_that_the_request_names(site: Hospital) -> None:
    path = f"models/{PULSE_RISK}/versions/1.0.0"
    found = outputs(post(site, path, [tensor("pulse", 90.0)], outputs=[{"name": "risk.band"}]))
    assert found == {"risk.band": ["high"], "reason": [""]}


def test_outputs_that_the_model_does_not_have_are_refused(site: Hospital) -> None:
    path = f"models/{PULSE_RISK}/versions/1.0.0"
    for wanted in ([{"name": "other"}], [{"name": [1]}], [{}], "risk"):
        assert post(site, path, [tensor("pulse", 90.0)], outputs=wanted).status_code == 400


def test_a_version_in_shadow_is_called_by_its_number_only(site: Hospital) -> None:
    named = post(site, f"models/{PULSE_RISK}/versions/1.0.0", [tensor("pulse", 90.0)])
    assert named.json()["parameters"]["status"] == "shadow"
    assert post(site, f"models/{PULSE_RISK}", [tensor("pulse", 90.0)]).status_code == 404


def test_an_image_is_sent_as_pixels(site: Hospital) -> None:
    pixels = radiograph(64, 56).pixels
    image = {
        "name": "image",
        "datatype": "FP32",
        "shape": [1, 64, 56],
        "data": [float(value) for value in pixels.ravel()],
    }
    stated = {"modality": "DX", "body_part": "CHEST"}
    answer = post(site, "models/cxr-pneumonia", [image, tensor("age", 4)], parameters=stated)
    found = outputs(answer)
    assert answer.json()["parameters"]["demonstration"] is True
    assert (found["reason"], [0 <= value <= 1 for value in found["pneumonia"]]) == ([""], [True])
    unsaid = outputs(post(site, "models/cxr-pneumonia", [image, tensor("age", 4)]))
    assert unsaid["reason"] == ["the model reads modality CR or DX only"]


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ([], "inputs must be a list of tensors"),
        ([tensor("pulse", 70)], "the input respirations is missing; a value that is not known is null"),
        (tensors(NORMAL | {"colour": 1}), "the model has no input colour"),
        ([tensor("pulse", 70, shape=[2])], "inputs[0].data does not have as many values as its shape says"),
        ([*tensors(NORMAL), tensor("age", 40, 41)], "all inputs must have the same number of rows"),
        ([tensor("pulse", 70), tensor("pulse", 71)], "inputs[1]: there is another input of this name"),
        ([{"name": "pulse", "datatype": "FP64", "shape": [1], "data": ["x"]}], "the input pulse must hold numbers"),
        ([tensor("pulse", 70, shape=[1, *[9] * 100_000])], "inputs[0].shape may have 8 dimensions"),
        ([{"name": "pulse", "datatype": "X", "shape": [1], "data": [1]}], "inputs[0].datatype must be one of"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_protocols_form(site: Hospital, inputs: Any, error: str) -> None:
    answer = post(site, NEWS2, inputs)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(error)
    assert recorded(site) == []


def test_an_unknown_model_a_foreign_host_and_what_is_no_json_are_refused(site: Hospital) -> None:
    assert post(site, "models/none", tensors(NORMAL)).status_code == 404
    assert get(site, f"{NEWS2}/versions/9.9.9").json() == {"error": "there is no model news2 in version 9.9.9"}
    url = f"{site.web.url}/v2/{NEWS2}/infer"
    assert httpx.post(url, content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert httpx.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    other = httpx.post(url, content=b"{}", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert other.status_code == 415
    assert other.json() == {"error": "the Content-Type of a request must be application/json"}
    binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "2"}
    refused = httpx.post(url, content=b"{}", headers=binary)
    assert (refused.status_code, "binary extension" in refused.json()["error"]) == (415, True)
    assert httpx.get(f"{site.web.url}/v2/{NEWS2}", headers={"Host": "evil.example"}).status_code == 403
    headers = {"Origin": "http://evil.example"}
    assert httpx.post(url, json={}, headers=headers).status_code == 403


def test_a_model_that_is_stopped_is_not_ready_and_says_why_it_does_not_answer(site: Hospital) -> None:
    now = site.clock.now()
    site.application.database.write(lambda tx: registry.stop(tx, "news2", "recall of batch 7", by="ada", at=now))
    assert get(site, f"{NEWS2}/ready").status_code == 503
    answer = post(site, NEWS2, tensors(NORMAL | {"age": 40}))
    assert (answer.status_code, answer.json()) == (503, {"error": "the model was stopped: recall of batch 7"})
    ((_, body),) = recorded(site)
    assert '"outcome":"4"' in body or '"outcome":"8"' in body


@contextmanager
def all_places_taken(runtime: Runtime) -> Iterator[None]:
    """Fill every place of NEWS2: one input may be under way, and another system's is."""
    runtime._limits = QueueLimits(longest_queue=0, largest_batch=1)
    runtime.warm_up()
    (news2,) = [loaded.result() for (name, *_), loaded in runtime._loaded.items() if name == "news2"]
    assert all(news2.enter(urgent=urgent) for urgent in (False, True))
    yield
    for urgent in (False, True):
        news2.leave(urgent=urgent)


def test_a_full_queue_is_answered_with_429_and_when_to_try_again(site: Hospital) -> None:
    inputs = tensors(NORMAL | {"age": 40})
    with all_places_taken(site.application.runtime):
        answer = post(site, NEWS2, inputs)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json() == {"error": "too many requests wait for the model"}
    assert post(site, NEWS2, inputs).status_code == 200


class Nobody:
    """Permits nothing under ``/v2``."""

    def require(self, principal: Principal, request: Request) -> None:
        if request.interaction is Interaction.INFER:
            raise Problem(Category.FORBIDDEN, "not permitted")


def test_a_principal_who_may_not_call_a_model_is_refused_and_the_refusal_is_recorded(site: Hospital) -> None:
    web = LoopbackServer(http_application(replace(site.application, authorizer=Nobody())))
    try:
        answer = httpx.post(f"{web.url}/v2/{NEWS2}/infer", json={"inputs": tensors(NORMAL)})
        assert (answer.status_code, answer.json()) == (403, {"error": "not permitted"})
        assert httpx.get(f"{web.url}/v2/{NEWS2}").status_code == 403
        assert httpx.get(f"{web.url}/v2").status_code == 403
    finally:
        web.close()
    assert [entity for entity, _ in recorded(site)] == ["urn:ausculta:model:news2"] * 2


def test_a_job_that_finds_the_queue_full_is_tried_again_later(hospital: Hospital) -> None:
    with all_places_taken(hospital.application.runtime):
        hospital.admit()
        assert hospital.hl7(hospital.vitals()) == "AA"
        hospital.work()
        assert hospital.results() == []
        assert hospital.parked() == []
    hospital.clock.advance(600)
    hospital.work()
    assert len(hospital.results()) == 1
