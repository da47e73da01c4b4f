"""``ausculta send fhir``: files of many resources, stored once however often they are sent; refused lines are named."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fhir_adapter.bulk import sending
from fhir_adapter.bulk.lines import Line, files, line_of
from fhir_adapter.bulk.sending import PAUSES, Sender
from kernel.errors import Problem

from .harness import Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files, which the server's are not in."""
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def observation(name: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "pulse"}} | more


def write(path: Path, *resources: Any) -> Path:
    lines = [it if isinstance(it, bytes) else orjson.dumps(it) for it in resources]
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def send(server: Server, *paths: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ausculta")), "send", "fhir", *map(str, paths), "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=120)


def test_each_line_is_stored_under_its_id_and_a_second_time_changes_nothing(server: Server, folder: Path) -> None:
    many = [observation(f"o{number}") for number in range(450)]
    file = write(folder / "Observation.ndjson", *many)
    first = send(server, file)
    assert first.returncode == 0, first.stderr
    assert server.client.get("/Observation?_summary=count").json()["total"] == 450
    versions = server.count()
    assert send(server, file).returncode == 0
    assert server.count() == versions == 450


def test_a_line_without_an_id_is_stored_once(server: Server, folder: Path) -> None:
    resource = observation("x")
    del resource["id"]
    file = write(folder / "Observation.ndjson.gz", resource)
    assert [send(server, file).returncode for _ in range(2)] == [0, 0]
    assert server.count() == 1


def test_what_is_refused_is_in_a_file_of_errors_and_the_rest_is_stored(server: Server, folder: Path) -> None:
    write(
        folder / "many.ndjson",
        observation("o1"),
        observation("o2", status="canary-secret"),
        b"not json",
        observation("o3"),
        {"resourceType": "Nothing", "id": "n"},
        b'{"id": "x"}',
    )
    run = send(server, folder)
    assert (run.returncode, "4 refused" in run.stdout) == (1, True)
    outcomes = [orjson.loads(line) for line in (folder / "many.errors.ndjson").read_bytes().splitlines()]
    said = {issue["diagnostics"].partition(":")[0] for it in outcomes for issue in it["issue"]}
    assert said == {"line 2", "line 3", "line 5", "line 6"}
    (invalid,) = [it for it in outcomes if it["issue"][0]["diagnostics"].startswith("line 2")]
    assert invalid["issue"][0]["expression"] == ["Observation.status"]
    assert b"canary" not in (folder / "many.errors.ndjson").read_bytes()
    assert [server.client.get(f"/Observation/{name}").status_code for name in ("o1", "o2", "o3")] == [200, 404, 200]
    write(folder / "many.ndjson", observation("o1"), observation("o2"))
    assert send(server, folder).returncode == 0
    assert not (folder / "many.errors.ndjson").exists()


def test_two_lines_of_one_resource_are_stored_in_their_order(server: Server, folder: Path) -> None:
    file = write(folder / "o.ndjson", observation("o"), observation("p"), observation("o", status="amended"))
    assert send(server, file).returncode == 0
    assert server.client.get("/Observation/o").json()["status"] == "amended"
    assert server.client.get("/Observation/o").headers["ETag"] == 'W/"2"'


def test_a_transaction_is_carried_out_and_a_collection_is_stored_entry_by_entry(server: Server, folder: Path) -> None:
    patient = {"resourceType": "Patient"}
    entry = {"resource": patient, "request": {"method": "POST", "url": "Patient"}}
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    (folder / "1.json").write_bytes(orjson.dumps(transaction))
    collection = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": observation("c")}]}
    (folder / "2.json").write_bytes(orjson.dumps(collection))
    assert send(server, folder).returncode == 0
    assert server.client.get("/Patient?_summary=count").json()["total"] == 1
    assert server.client.get("/Observation/c").status_code == 200


def test_a_refused_entry_of_a_batch_is_said(server: Server, folder: Path) -> None:
    entry = {"resource": {"resourceType": "Patient", "x": 1}, "request": {"method": "POST", "url": "Patient"}}
    (folder / "b.json").write_bytes(orjson.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry]}))
    run = send(server, folder)
    assert (run.returncode, "number 1" in run.stdout) == (1, True)


def test_a_file_that_ends_too_soon_is_named(server: Server, folder: Path) -> None:
    file = write(folder / "o.ndjson.gz", observation("o"))
    file.write_bytes(file.read_bytes()[:-9])
    run = send(server, file)
    assert (run.returncode, run.stderr) == (2, "ausculta: o.ndjson.gz is not complete gzip\n")


def test_a_folder_is_searched_for_files_of_resources(folder: Path) -> None:
    for name in ("b.ndjson", "a.json.gz", "README.txt", "b.errors.ndjson"):
        (folder / name).touch()
    assert [it.name for it in files([folder])] == ["a.json.gz", "b.ndjson"]


def scripted(statuses: list[int], pauses: list[float]) -> Sender:
    """Return a sender to a server that answers with these statuses, one after the other, and then with 200."""

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(statuses.pop(0) if statuses else 200, json={})

    client = httpx.Client(base_url="http://ehr/fhir", transport=httpx.MockTransport(answer))
    return Sender(client, pause=pauses.append)


def line(number: int) -> Line:
    return line_of(number, orjson.dumps(observation(f"o{number}")))


def test_a_busy_server_is_asked_again_later() -> None:
    pauses: list[float] = []
    stored: list[int] = []
    assert [*scripted([429, 503], pauses).send([line(1)], stored.append)] == []
    assert (pauses, stored) == ([1.0, 2.0], [1])


def test_a_server_that_stays_busy_ends_the_sending() -> None:
    pauses: list[float] = []
    with pytest.raises(Problem, match="the server answered 503"):
        [*scripted([503] * 20, pauses).send([line(1)], lambda _: None)]
    assert pauses == [*PAUSES]


def test_a_server_that_does_not_permit_it_ends_the_sending() -> None:
    with pytest.raises(Problem, match="does not permit"):
        [*scripted([403], []).send([line(1)], lambda _: None)]


def test_a_transaction_has_no_resource_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MOST_LINES", 2)
    batches = [*sending._batches([line(1), line(1), line(2), line(3)])]
    assert [[it.url for it in batch] for batch in batches if not isinstance(batch, sending.LineRefused)] == [
        ["Observation/o1"],
        ["Observation/o1", "Observation/o2"],
        ["Observation/o3"],
    ]
