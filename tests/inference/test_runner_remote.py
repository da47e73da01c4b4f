"""A model that another server runs: what is sent, what is refused, and what a server that misbehaves can do."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.batching import QueueLimits
from inference.contract import FactsInput
from inference.devices import Device, DeviceName
from inference.golden import infer
from inference.loading import AnyRunner, load_model
from inference.remote.peer import LARGEST_ANSWER
from inference.remote.permitted import RemoteHosts
from inference.replicas import LoadedModel, Replica
from inference.testing import WELL, ToyRunner, fact, radiograph, vitals
from kernel.errors import Category, Problem

from . import tiny_models as tiny
from .model_server import ModelServer, answered, declared, tensor, weighed
from .test_kinds import TEXT

LOOPBACK = RemoteHosts(allowed=("127.0.0.1",))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as one:
        yield one


def folder_of(server: ModelServer, folder: Path, hosts: RemoteHosts = LOOPBACK, **more: Any) -> Path:
    """Bring a folder whose model the server runs."""
    options = {"kind": "remote", "url": server.url, "model": "risk", "transform": "sigmoid", **more.pop("options", {})}
    return tiny.bring(
        folder, {key: it for key, it in options.items() if it is not None}, {}, remote_hosts=hosts, **more
    )


def loaded(server: ModelServer, folder: Path, hosts: RemoteHosts = LOOPBACK, **more: Any) -> AnyRunner:
    return load_model(folder_of(server, folder, hosts, **more), remote_hosts=hosts)


def refused(server: ModelServer, folder: Path, hosts: RemoteHosts = LOOPBACK, **more: Any) -> Problem:
    with pytest.raises(Problem) as problem:
        folder_of(server, folder, hosts, **more)
    return problem.value


def given(pulse: str = "100", systolic: str = "95") -> FactsInput:
    return vitals(_8867_4=(pulse, "/min"), _8480_6=(systolic, "mm[Hg]"))


def sigmoid(number: float) -> float:
    return float(1 / (1 + np.exp(-number)))


def test_the_other_server_computes_and_is_sent_numbers_alone(server: ModelServer, tmp_path: Path) -> None:
    runner = loaded(server, tmp_path / "tiny")
    server.received.clear()
    answer = infer(runner, given())
    assert answer.outputs[0].value == pytest.approx(sigmoid(0.05 * 195 - 9.5))
    assert answer.computed_by == f"{server.url}/v2/models/risk/versions/3"
    (request,) = server.received
    assert request.path == "/v2/models/risk/infer"
    assert request.content == {
        "inputs": [tensor("pulse", [1], [100.0]), tensor("systolic", [1], [95.0])],
        "outputs": [{"name": "risk"}],
    }
    assert "Authorization" not in request.headers


def test_several_patients_are_one_request(server: ModelServer, tmp_path: Path) -> None:
    runner = loaded(server, tmp_path / "tiny")
    server.received.clear()
    items = [runner.decode(one).item for one in (given("60"), given("150"))]
    low, high = runner.predict(runner.batch(items))
    assert len(server.received) == 1
    assert runner.encode(items[0], low).outputs[0].value < 0.5 < runner.encode(items[1], high).outputs[0].value


def test_the_version_is_part_of_the_address(server: ModelServer, tmp_path: Path) -> None:
    infer(loaded(server, tmp_path / "tiny", options={"version": "3"}), given())
    assert {one.path for one in server.received} == {"/v2/models/risk/versions/3", "/v2/models/risk/versions/3/infer"}


def test_a_token_is_sent_to_the_host_that_it_is_for(server: ModelServer, tmp_path: Path) -> None:
    hosts = RemoteHosts(allowed=("127.0.0.1",), tokens={"elsewhere": "no", f"127.0.0.1:{server.port}": "abc"})
    infer(loaded(server, tmp_path / "tiny", hosts), given())
    assert {one.headers["Authorization"] for one in server.received} == {"Bearer abc"}
    assert "abc" not in repr(hosts)


@pytest.mark.parametrize(("datatype", "sent"), [("FP32", [100.0, 95.0]), ("FP64", [100.0, 95.0]), ("INT64", [100, 95])])
def test_all_features_may_be_one_tensor(server: ModelServer, tmp_path: Path, datatype: str, sent: list[Any]) -> None:
    server.inputs = [declared("x", 2, datatype=datatype)]
    server.outputs = [declared("label", 1, datatype="INT64")]
    server.answer = lambda content: {"outputs": [tensor("label", [content["inputs"][0]["shape"][0], 1], [7], "INT64")]}
    runner = loaded(server, tmp_path / "tiny", outputs=[tiny.SCORE], options={"transform": None})
    assert infer(runner, given()).outputs[0].value == 7
    assert server.received[-1].content["inputs"] == [tensor("x", [1, 2], sent, datatype)]
    assert isinstance(server.received[-1].content["inputs"][0]["data"][0], type(sent[0]))


def test_a_number_that_is_not_whole_is_not_rounded(server: ModelServer, tmp_path: Path) -> None:
    server.inputs = [declared("pulse", datatype="INT64"), declared("systolic", datatype="INT64")]
    runner = loaded(server, tmp_path / "tiny")
    with pytest.raises(Problem, match="takes whole numbers for pulse"):
        infer(runner, given(pulse="99.5"))


def test_a_value_that_is_missing_is_null(server: ModelServer, tmp_path: Path) -> None:
    runner = loaded(server, tmp_path / "tiny", missing="nan")
    facts = tuple(fact(code, *value) for code, value in WELL.items() if code != "8867-4")
    infer(runner, FactsInput(subject=given().subject, facts=facts, at=given().at))
    assert server.received[-1].content["inputs"][0] == tensor("pulse", [1], [None])


def test_a_number_is_not_sent_where_texts_are_taken(server: ModelServer, tmp_path: Path) -> None:
    server.inputs[1] = declared("systolic", datatype="BYTES")
    detail = refused(server, tmp_path / "number").detail
    assert detail == "features.yaml: each source of systolic must have answers; the remote model takes BYTES for it"


def test_a_text_is_one_tensor_of_texts(server: ModelServer, tmp_path: Path) -> None:
    server.inputs = [declared("note", datatype="BYTES")]
    server.outputs = [declared("shares", 3, datatype="FP32")]
    server.answer = lambda _: {"outputs": [tensor("shares", [1, 3], [[0.2, 0.7, 0.1]], "FP32")]}
    more: dict[str, Any] = {
        "inputs": {"name": "note", "kind": "text"},
        "trigger": {"kind": "document", "document_types": []},
        "golden": tiny.NOTE,
        "outputs": [tiny.CLASSES],
        "options": {"transform": "none"},
    }
    runner = loaded(server, tmp_path / "tiny", **more)
    detail = infer(runner, TEXT).outputs[0].detail
    assert dict(detail.probabilities) == {"home": 0.2, "icu": 0.7, "ward": 0.1}  # type: ignore[union-attr]
    assert server.received[-1].content["inputs"] == [tensor("note", [1], ["No fever."], "BYTES")]


def test_an_image_is_one_tensor_of_pixels(server: ModelServer, tmp_path: Path) -> None:
    server.inputs = [declared("film", 1, 4, 6, datatype="FP32")]
    server.answer = lambda content: {"outputs": [tensor("risk", [1], [sum(content["inputs"][0]["data"])])]}
    pixels = {"pixels": "AAECAwQFBgc=", "rows": 2, "columns": 4, "modality": "DX", "body_part": "", "view": ""}
    more: dict[str, Any] = {
        "inputs": {"name": "film", "kind": "image", "modalities": ["DX"]},
        "trigger": {"kind": "study"},
        "golden": pixels,
        "options": {"resize": [4, 6]},
    }
    assert infer(loaded(server, tmp_path / "tiny", **more), radiograph()).outputs[0].value is not None
    assert server.received[-1].content["inputs"][0]["shape"] == [1, 1, 4, 6]
    server.inputs = [declared("film", 3, 4, 6)]
    assert refused(server, tmp_path / "other", **more).detail == (
        "model.yaml.runner.resize and channels must make items of 3 x 4 x 6, as the remote model takes them for film; "
        "they are of 1 x 4 x 6"
    )


@pytest.mark.parametrize(
    ("url", "allowed", "detail"),
    [
        ("http://127.0.0.1:{port}", (), "the operator lists hosts in the setting REMOTE_MODEL_HOSTS"),
        ("http://127.0.0.1:{port}", ("127.0.0.1:1", "models.example"), "REMOTE_MODEL_HOSTS"),
        ("http://models.example", ("models.example",), "must be an https URL; http is for loopback addresses alone"),
        ("ftp://127.0.0.1:{port}", ("127.0.0.1",), "must be an http or https URL"),
        ("http://user:secret@127.0.0.1:{port}", ("127.0.0.1",), "must have no user, password or fragment"),
        ("http://127.0.0.1:{port}/?a=1", ("127.0.0.1",), "must have no query"),
    ],
)
def test_nothing_is_asked_of_a_server_that_the_operator_does_not_list(
    server: ModelServer, tmp_path: Path, url: str, allowed: tuple[str, ...], detail: str
) -> None:
    problem = refused(
        server, tmp_path / "tiny", RemoteHosts(allowed=allowed), options={"url": url.format(port=server.port)}
    )
    assert problem.detail.startswith("model.yaml.runner.url ")
    assert detail in problem.detail
    assert server.received == []


def test_the_server_itself_is_never_called(server: ModelServer, tmp_path: Path) -> None:
    hosts = RemoteHosts(allowed=("localhost",), own=frozenset({("127.0.0.1", server.port)}))
    problem = refused(server, tmp_path / "tiny", hosts, options={"url": f"http://localhost:{server.port}"})
    assert problem.detail == "model.yaml.runner.url is this server itself"


@pytest.mark.parametrize(
    ("change", "options", "detail"),
    [
        ({}, {"model": "other"}, "model.yaml.runner.model: the server has no model other"),
        ({}, {"model": "../../admin"}, "model.yaml.runner.model must have the form"),
        ({}, {"version": "4"}, "model.yaml.runner.version must be one of: 3"),
        ({}, {"url": None}, "model.yaml.runner.url is missing"),
        ({}, {"output": "other"}, "model.yaml.runner.output must be one of: risk"),
        ({}, {"network": "mlp"}, "model.yaml.runner.network is not known; remote knows: "),
        (
            {"inputs": [declared("pulse"), declared("diastolic")]},
            {},
            "features.yaml must declare the features that the remote model takes: diastolic, pulse",
        ),
        (
            {"inputs": [declared("pulse", datatype="FP16"), declared("systolic")]},
            {},
            "model.yaml.runner.model: the remote model takes FP16 for pulse; what is sent is FP32, FP64, INT64, BYTES",
        ),
        (
            {"inputs": [declared("x", 3)]},
            {},
            "features.yaml must make items of 3, as the remote model takes them for x; they are of 2",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}]},
            {},
            "model.yaml.runner.model: the remote model takes or gives 1 items at a time",
        ),
        (
            {"outputs": [declared("a"), declared("b")]},
            {},
            "model.yaml.runner.output must say which output of the remote model counts: a, b",
        ),
        (
            {"outputs": [declared("risk", 3)]},
            {},
            "of a class-set one for each band); the remote model gives 3",
        ),
        ({"inputs": "none"}, {}, "the remote model's metadata are not of the Open Inference Protocol"),
    ],
)
def test_a_folder_that_does_not_fit_the_remote_model_is_refused_with_the_line_to_change(
    server: ModelServer, tmp_path: Path, change: Mapping[str, Any], options: Mapping[str, Any], detail: str
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    assert detail in refused(server, tmp_path / "tiny", options=options).detail


def test_the_golden_cases_are_answered_by_the_remote_model(server: ModelServer, tmp_path: Path) -> None:
    folder = folder_of(server, tmp_path / "tiny")
    server.answer = lambda content: {"outputs": [tensor("risk", [len(content["inputs"][0]["data"])], [0.3])]}
    with pytest.raises(Problem, match="does not answer its golden case one as it should"):
        load_model(folder, remote_hosts=LOOPBACK)


def answering(outputs: Any, **more: Any) -> Callable[[Any], Any]:
    return lambda _: {"outputs": outputs, **more}


def writing(status: int, body: bytes = b"{}", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: answered(handler, status, body, **headers)


SECRET = b'{"error": "the patient Invented, Person has no pulse"}'


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (answering([tensor("risk", [1], [None])]), "the remote model gave no number"),
        (answering([tensor("risk", [2], [0.1, 0.2])]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [1], [0.1, 0.2])]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [0], [])]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [1], ["0.5"], "BYTES")]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [1], ["0.5"])]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [1, 2], [[0.1], [0.2, 0.3]])]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [1, *[10**308] * 3000], [0.1])]), "did not answer with the numbers of risk"),
        (answering([tensor("risk", [1, -1, -1], [0.1])]), "did not answer with the numbers of risk"),
        (answering([tensor("other", [1], [0.1])]), "did not answer with the numbers of risk"),
        (answering([]), "did not answer with the numbers of risk"),
        (answering(7), "did not answer with the numbers of risk"),
        (lambda _: [], "not of the Open Inference Protocol"),
    ],
)
def test_an_answer_that_is_not_what_was_declared_is_a_failure(
    server: ModelServer, tmp_path: Path, answer: Callable[[Any], Any], detail: str
) -> None:
    runner = loaded(server, tmp_path / "tiny")
    server.answer = answer
    with pytest.raises(Problem, match=detail) as problem:
        infer(runner, given())
    assert problem.value.category is Category.FAULT


def test_another_version_than_the_declared_one_is_a_failure(server: ModelServer, tmp_path: Path) -> None:
    runner = loaded(server, tmp_path / "tiny", options={"version": "3"})
    server.answer = lambda content: weighed(content) | {"model_version": "4"}
    with pytest.raises(Problem, match="answered in another version than"):
        infer(runner, given())


@pytest.mark.parametrize(
    ("misbehave", "category", "detail"),
    [
        (writing(429, SECRET), Category.BUSY, "the remote model is busy"),
        (writing(503, SECRET), Category.BUSY, "the remote model is busy"),
        (writing(400, SECRET), Category.FAULT, "the remote model refused the request (400)"),
        (writing(422, SECRET), Category.FAULT, "the remote model refused the request (422)"),
        (
            writing(401, SECRET),
            Category.FAULT,
            "the remote model refused this server (401): see the setting REMOTE_MODEL_TOKENS",
        ),
        (writing(404, SECRET), Category.NOT_FOUND, "the remote model is not known to its server (404)"),
        (writing(500, SECRET), Category.FAULT, "the remote model failed (500)"),
        (
            writing(302, SECRET, Location="http://127.0.0.1:1/"),
            Category.FAULT,
            "the remote model answered with a redirect, which is not followed",
        ),
        (
            writing(307, SECRET, Location="/v2/models/risk/infer"),
            Category.FAULT,
            "the remote model answered with a redirect, which is not followed",
        ),
        (writing(200, SECRET[:20]), Category.FAULT, "the remote model gave an answer that is not JSON"),
        (
            writing(200, b'{"outputs": [{"name": "risk", "datatype": "FP64", "shape": [1], "data": [NaN]}]}'),
            Category.FAULT,
            "the remote model gave an answer that is not JSON",
        ),
        (
            writing(200, SECRET, **{"Content-Encoding": "gzip"}),
            Category.FAULT,
            "the remote model gave an answer that is compressed",
        ),
        (
            writing(200, b" " * (LARGEST_ANSWER + 1)),
            Category.FAULT,
            f"the remote model gave an answer of more than {LARGEST_ANSWER} bytes",
        ),
        (
            writing(200, SECRET, **{"Content-Length": "9999"}),
            Category.FAULT,
            "the remote model ended the connection before its answer",
        ),
        (
            lambda handler: handler.connection.close(),
            Category.FAULT,
            "the remote model ended the connection before its answer",
        ),
    ],
)
def test_a_server_that_misbehaves_is_answered_in_our_own_words(
    server: ModelServer,
    tmp_path: Path,
    misbehave: Callable[[BaseHTTPRequestHandler], None],
    category: Category,
    detail: str,
) -> None:
    runner = loaded(server, tmp_path / "tiny")
    server.misbehave = misbehave
    with pytest.raises(Problem) as problem:
        infer(runner, given())
    assert (problem.value.category, problem.value.detail) == (category, detail)
    assert "Invented" not in problem.value.diagnostics + repr(problem.value.__cause__)


def test_an_endless_answer_is_not_read_to_its_end(server: ModelServer, tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.is_set():
            handler.wfile.write(b" " * 65536)

    runner = loaded(server, tmp_path / "tiny")
    server.misbehave = endless
    with pytest.raises(Problem, match="gave an answer of more than"):
        infer(runner, given())


def silent(server: ModelServer) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda _: bool(server.released.wait()) and None


def dripping(server: ModelServer) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer byte by byte, so that each single wait is short."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not server.released.wait(0.02):
            handler.wfile.write(b"X: y\r\n")
            handler.wfile.flush()

    return drip


@pytest.mark.parametrize("slow", [silent, dripping])
def test_the_whole_exchange_has_one_limit_of_time(
    server: ModelServer, tmp_path: Path, slow: Callable[[ModelServer], Callable[[BaseHTTPRequestHandler], None]]
) -> None:
    runner = loaded(server, tmp_path / "tiny")
    server.misbehave = slow(server)
    batch = runner.batch([runner.decode(given()).item])
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        runner.predict_within(batch, 0.3)
    assert time.monotonic() - began < 20


def test_a_server_that_is_not_there_is_tried_again_later(server: ModelServer, tmp_path: Path) -> None:
    runner = loaded(server, tmp_path / "tiny")
    server.close()
    with pytest.raises(Problem, match="the remote model cannot be reached") as problem:
        infer(runner, given())
    assert problem.value.category is Category.UNAVAILABLE


def test_only_golden_inputs_are_sent_before_the_model_runs(server: ModelServer, tmp_path: Path) -> None:
    folder = folder_of(server, tmp_path / "tiny")
    server.received.clear()
    load_model(folder, remote_hosts=LOOPBACK)
    case = json.loads((folder / "golden" / "one.json").read_text())
    sent = [one.content["inputs"] for one in server.received if one.content is not None]
    assert sent == [[tensor("pulse", [1], [95.0]), tensor("systolic", [1], [95.0])]]
    assert {one["value"] for one in case["input"]["facts"]} == {"95"}


def test_a_server_that_does_not_answer_golden_cases_is_tried_again_later(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.runners.remote._ANSWER_S", 0.3)
    server.misbehave = silent(server)
    problem = refused(server, tmp_path / "tiny")
    assert (problem.category, problem.detail) == (Category.UNAVAILABLE, "the remote model did not answer in time")


class Waiting(ToyRunner):
    """Records how long it may wait, and whether it keeps the device from others."""

    def __init__(self, device: Device, *, uses_device: bool) -> None:
        super().__init__(list)
        self.device, self.uses_device = device, uses_device  # type: ignore[misc]
        self.seconds = 0.0
        self.device_is_free = False

    def predict_within(self, batch: Any, seconds: float) -> Any:
        self.seconds = seconds
        turn = self.device.turns[False]
        self.device_is_free = turn.acquire(blocking=False)
        if self.device_is_free:
            turn.release()
        return self.predict(batch)


@pytest.mark.parametrize("uses_device", [True, False])
def test_a_runner_knows_the_deadline_and_one_that_waits_for_others_keeps_no_device(*, uses_device: bool) -> None:
    device = Device(DeviceName(kind="cpu"))
    runner = Waiting(device, uses_device=uses_device)
    model = LoadedModel([Replica(runner=runner, device=device)], QueueLimits(), lambda: 100.0)
    _, answer = model.submit(runner.decode(vitals()), background=False, deadline=107.0, urgent=False)
    answer.result(20)
    assert runner.seconds == 7.0
    assert runner.device_is_free is not uses_device
    model.close()
