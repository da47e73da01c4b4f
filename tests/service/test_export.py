"""Bulk export: what is asked for, as it was at one time; files that are sealed, complete and deleted in time."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import select as select_
from sqlalchemy import text

from fhir_adapter.bulk import exports as bulk_exports
from fhir_adapter.bulk import select
from fhir_adapter.bulk.exports import KEPT_FOR, MOST_OPEN
from fhir_adapter.results.common import SHADOW
from fhir_adapter.testing import LoopbackServer
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.tables import audit_log, exports
from kernel.testing import FakeClock
from privacy.authorize import Request
from privacy.principal import Principal
from service.api import http_application
from service.application import Application, build
from service.flows import export as export_flow
from service.settings import load

ASYNC = {"Prefer": "respond-async"}
NAME = "Unmistakable"


def below(url: str) -> str:
    """Return the address below the base of the API: the server states those of its setting."""
    return url.partition("/fhir")[2]


@dataclass
class Site:
    """A server without listeners, whose jobs run one by one, on request."""

    application: Application
    clock: FakeClock
    client: httpx.Client
    folder: Path

    def put(self, resource: dict[str, Any]) -> None:
        answer = self.client.put(f"/{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code in {200, 201}, answer.text

    def kick_off(self, path: str = "/$export", **headers: str) -> str:
        answer = self.client.get(path, headers=ASYNC | headers)
        assert answer.status_code == 202, answer.text
        return below(answer.headers["Content-Location"])

    def work(self) -> None:
        while self.application.worker.run_one():
            pass

    def exported(self, path: str = "/$export") -> dict[str, list[str]]:
        """Export, and return the ids of each type, as the files have them."""
        status = self.kick_off(path)
        self.work()
        return {kind: [it["id"] for it in lines] for kind, lines in self.fetched(status).items()}

    def fetched(self, status: str) -> dict[str, list[dict[str, Any]]]:
        manifest = self.client.get(status).json()
        found: dict[str, list[dict[str, Any]]] = {}
        for file in manifest["output"]:
            answer = self.client.get(below(file["url"]), headers={"Accept": "application/fhir+ndjson"})
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/fhir+ndjson")
            lines = [orjson.loads(line) for line in answer.content.splitlines()]
            assert len(lines) == file["count"]
            assert {it["resourceType"] for it in lines} == {file["type"]}
            found.setdefault(file["type"], []).extend(lines)
        return found

    def files(self) -> list[Path]:
        return [it for it in (self.folder / "exports").rglob("*") if it.is_file()]


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Site]:
    clock = FakeClock()
    application = build(load({}, None, data_dir=folder, device="cpu", **settings), clock=clock)
    application.worker.register()
    web = LoopbackServer(http_application(application))
    with httpx.Client(base_url=f"{web.url}/fhir", timeout=30) as client:
        yield Site(application=application, clock=clock, client=client, folder=folder)
    web.close()
    application.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "ausculta") as started:
        yield started


def patient(name: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": name, "name": [{"family": NAME}]} | more


def observation(name: str, of: str = "", **more: Any) -> dict[str, Any]:
    found = {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "pulse"}} | more
    return found | ({"subject": {"reference": f"Patient/{of}"}} if of else {})


def test_an_export_of_the_system_holds_every_resource_as_it_is_served(site: Site) -> None:
    for resource in (patient("a"), patient("b"), observation("o1", "a"), observation("o2")):
        site.put(resource)
    site.put({"resourceType": "Location", "id": "ward"})
    status = site.kick_off()
    waiting = site.client.get(status)
    assert (waiting.status_code, waiting.headers["X-Progress"], waiting.headers["Retry-After"]) == (202, "waiting", "5")
    site.work()
    done = site.client.get(status)
    manifest = done.json()
    assert (done.status_code, done.headers["Content-Type"]) == (200, "application/json")
    assert manifest["request"].endswith("/fhir/$export")
    assert (manifest["requiresAccessToken"], manifest["error"], manifest["deleted"]) == (False, [], [])
    assert manifest["transactionTime"] == "2026-01-15T12:00:00.000000Z"
    found = site.fetched(status)
    assert {kind: [it["id"] for it in lines] for kind, lines in found.items()} == {
        "Location": ["ward"],
        "Observation": ["o1", "o2"],
        "Patient": ["a", "b"],
    }
    assert found["Patient"][0] == site.client.get("/Patient/a").json()


def test_an_export_of_patients_holds_what_is_in_their_compartments(site: Site) -> None:
    site.put(patient("a"))
    site.put(observation("about-a", "a"))
    site.put(observation("by-a", performer=[{"reference": "Patient/a"}]))
    site.put(observation("of-nobody"))
    site.put({"resourceType": "Location", "id": "ward"})
    assert site.exported("/Patient/$export") == {"Observation": ["about-a", "by-a"], "Patient": ["a"]}


def test_an_export_of_a_group_holds_what_concerns_its_members(site: Site) -> None:
    for name in ("a", "b", "gone"):
        site.put(patient(name))
        site.put(observation(f"of-{name}", name))
    members = [{"entity": {"reference": "Patient/a"}}, {"entity": {"reference": "Patient/gone"}, "inactive": True}]
    site.put({"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": members})
    assert site.exported("/Group/g/$export") == {"Group": ["g"], "Observation": ["of-a"], "Patient": ["a"]}
    assert site.client.get("/Group/other/$export", headers=ASYNC).status_code == 404


def test_a_resource_is_exported_as_it_was_at_the_transaction_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes, comes or goes while pages are read is not in the files."""
    monkeypatch.setattr(select, "PAGE", 2)
    for number in range(5):
        site.put(observation(f"o{number}"))
    status = site.kick_off()
    pages = select.pages

    def disturbed(*arguments: Any) -> Iterator[Any]:
        for place, page in enumerate(pages(*arguments)):
            yield page
            if place == 0:
                site.clock.advance(60)
                site.put(observation("o4", status="amended"))
                site.put(observation("o5"))
                site.client.delete("/Observation/o3")

    monkeypatch.setattr(export_flow, "pages", disturbed)
    site.work()
    found = site.fetched(status)["Observation"]
    assert [(it["id"], it["status"]) for it in found] == [(f"o{number}", "final") for number in range(5)]


def test_what_changed_since_is_exported_and_what_was_deleted_is_named(site: Site) -> None:
    for name in ("old", "changed", "deleted"):
        site.put(observation(name))
    site.clock.advance(60)
    since = site.clock.now().isoformat()
    site.put(observation("changed", status="amended"))
    site.put(observation("new"))
    site.client.delete("/Observation/deleted")
    status = site.kick_off(f"/$export?_since={since.replace('+', '%2B')}")
    site.work()
    assert [it["id"] for it in site.fetched(status)["Observation"]] == ["changed", "new"]
    (deleted,) = site.client.get(status).json()["deleted"]
    line = site.client.get(below(deleted["url"])).json()
    assert (deleted["type"], line["type"]) == ("Bundle", "transaction")
    assert line["entry"] == [{"request": {"method": "DELETE", "url": "Observation/deleted"}}]


def test_types_and_filters_limit_what_is_exported(site: Site) -> None:
    site.put(patient("a", gender="female"))
    site.put(patient("b", gender="male"))
    site.put(observation("o1", status="amended"))
    site.put(observation("o2", status="final"))
    site.put(observation("o3", status="cancelled"))
    assert site.exported("/$export?_type=Patient") == {"Patient": ["a", "b"]}
    filters = "_typeFilter=Observation%3Fstatus%3Damended,Observation%3Fstatus%3Dcancelled"
    assert site.exported(f"/$export?{filters}") == {"Observation": ["o1", "o3"], "Patient": ["a", "b"]}
    both = "_typeFilter=Observation%3Fstatus%3Damended%2Ccancelled&_typeFilter=Patient%3Fgender%3Dmale"
    assert site.exported(f"/$export?{both}") == {"Observation": ["o1", "o3"], "Patient": ["b"]}


def test_results_of_models_in_shadow_are_exported_only_when_they_are_asked_for(site: Site) -> None:
    tag = {"tag": [{"system": SHADOW["system"], "code": SHADOW["code"]}]}
    site.put(observation("shadow", meta=tag))
    site.put(observation("o"))
    assert site.exported() == {"Observation": ["o"]}
    asked = f"_typeFilter=Observation%3F_tag%3D{SHADOW['code']}"
    assert site.exported(f"/$export?{asked}") == {"Observation": ["shadow"]}


@pytest.mark.parametrize(
    "query",
    [
        "_type=Nothing",
        "_since=2026-01-01",
        "_outputFormat=text/csv",
        "organizeOutputBy=Patient",
        "patient=Patient/a",
        "_typeFilter=Observation",
        "_typeFilter=Observation%3Fnothing%3D1",
        "_typeFilter=Observation%3Fstatus%3Dfinal%26_count%3D5",
        "_type=Patient&_typeFilter=Observation%3Fstatus%3Dfinal",
    ],
)
def test_what_an_export_cannot_do_is_refused(site: Site, query: str) -> None:
    answer = site.client.get(f"/$export?{query}", headers=ASYNC)
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")


def test_a_lenient_client_has_unknown_parameters_ignored(site: Site) -> None:
    prefer = {"Prefer": "respond-async, handling=lenient"}
    assert site.client.get("/$export?organizeOutputBy=Patient", headers=prefer).status_code == 202


def test_an_export_is_asynchronous(site: Site) -> None:
    assert site.client.get("/$export").status_code == 400


def test_an_export_is_started_with_parameters_in_the_body(site: Site) -> None:
    site.put(patient("a"))
    site.put(patient("b"))
    given = [
        {"name": "_type", "valueString": "Patient"},
        {"name": "patient", "valueReference": {"reference": "Patient/b"}},
    ]
    body = {"resourceType": "Parameters", "parameter": given}
    answer = site.client.post("/Patient/$export", json=body, headers=ASYNC)
    assert answer.status_code == 202
    site.work()
    status = below(answer.headers["Content-Location"])
    assert [it["id"] for it in site.fetched(status)["Patient"]] == ["b"]
    assert site.client.get(status).json()["request"].endswith("/fhir/Patient/$export")


def test_files_are_sealed_at_rest_and_deleted_in_time(site: Site) -> None:
    site.put(patient("a"))
    status = site.kick_off()
    site.work()
    (file,) = site.files()
    assert NAME.encode() not in file.read_bytes()
    url = below(site.client.get(status).json()["output"][0]["url"])
    site.clock.advance(KEPT_FOR.total_seconds())
    assert site.client.get(status).status_code == 404
    assert site.client.get(url).status_code == 404
    site.work()
    assert site.files() == []


def test_a_file_that_was_altered_is_not_served_as_if_it_were_whole(site: Site) -> None:
    site.put(patient("a"))
    status = site.kick_off()
    site.work()
    (file,) = site.files()
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    url = below(site.client.get(status).json()["output"][0]["url"])
    with pytest.raises(httpx.RemoteProtocolError):
        site.client.get(url)


def test_a_cancelled_export_is_gone_with_its_files(site: Site) -> None:
    site.put(patient("a"))
    waiting, done = site.kick_off(), site.kick_off()
    assert site.client.delete(waiting).status_code == 202
    site.work()
    assert site.client.get(waiting).status_code == 404
    assert len(site.files()) == 1
    assert site.client.delete(done).status_code == 202
    assert site.client.get(done).status_code == 404
    site.work()
    assert site.files() == []


def test_an_export_that_is_cancelled_while_it_runs_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_flow, "_NOTED", 1)
    for number in range(4):
        site.put(observation(f"o{number}"))
    status = site.kick_off()
    pages = select.pages

    def disturbed(*arguments: Any) -> Iterator[Any]:
        for page in pages(*arguments):
            assert site.client.get(status).status_code == 202
            site.client.delete(status)
            yield page

    monkeypatch.setattr(export_flow, "pages", disturbed)
    site.work()
    assert (site.client.get(status).status_code, site.files()) == (404, [])


def test_too_many_exports_at_once_are_refused(site: Site) -> None:
    for _ in range(MOST_OPEN):
        site.kick_off()
    answer = site.client.get("/$export", headers=ASYNC)
    assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)
    site.work()
    site.kick_off()


def test_another_worker_takes_an_export_over_from_one_that_died(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins again in a folder of its own, with the time that was fixed, and nothing of the first one is served."""
    site.put(patient("a"))
    status = site.kick_off()

    class Died(BaseException):
        pass

    def dying(*_: Any) -> Any:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(export_flow._Writing, "_end", dying)
        site.work()
    assert len(site.files()) == 1
    site.clock.advance(60)
    site.put(patient("b"))
    site.work()
    assert [it["id"] for it in site.fetched(status)["Patient"]] == ["a"]
    assert site.client.get(status).json()["transactionTime"] == "2026-01-15T12:00:00.000000Z"
    assert len(site.files()) == 1


def test_an_export_that_keeps_failing_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    status = site.kick_off()
    site.put(patient("a"))

    def broken(*_: Any) -> Any:
        raise OSError("canary-secret")

    monkeypatch.setattr(export_flow, "SealedLines", broken)
    for _ in range(12):
        site.work()
        site.clock.advance(600)
    answer = site.client.get(status)
    assert (answer.status_code, "canary" in answer.text) == (500, False)


def test_many_resources_are_in_several_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_flow, "LONGEST_FILE", 2)
    monkeypatch.setattr("fhir_adapter.bulk.files.PART", 100)
    for number in range(5):
        site.put(observation(f"o{number}"))
    status = site.kick_off()
    site.work()
    counts = [file["count"] for file in site.client.get(status).json()["output"]]
    assert counts == [2, 2, 1]
    assert [it["id"] for it in site.fetched(status)["Observation"]] == [f"o{number}" for number in range(5)]


def test_the_kick_off_and_each_file_are_in_the_audit_log(site: Site) -> None:
    site.put(patient("a"))
    status = site.kick_off("/Patient/$export?_type=Patient")
    site.work()
    site.fetched(status)
    events = audited(site)
    queries = [it["query"] for event in events for it in event.get("entity", ()) if "query" in it]
    assert [base64.b64decode(it).decode() for it in queries] == ["Patient/$export?_type=Patient"]
    read = [event["entity"][0]["what"] for event in events if event["action"] == "R"]
    name = f"urn:ausculta:export:{status.rpartition('/')[2]}:Patient-1.ndjson"
    assert read == [{"identifier": {"system": "urn:ietf:rfc:3986", "value": name}}]


def audited(site: Site) -> list[dict[str, Any]]:
    with site.application.database.read() as connection:
        return [orjson.loads(it) for it in connection.execute(select_(audit_log.c.event)).scalars()]


@pytest.mark.postgres
def test_on_postgresql_a_write_in_flight_is_part_of_the_export(
    tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    """Its versions have their numbers, but are not committed: the export waits for them, and says an earlier time."""
    with serving(tmp_path / "ausculta", database_url=new_postgres_url()) as site:
        site.put(patient("a"))
        database = site.application.database
        prepared = site.application.writer.prepare([patient("late")])
        who = Principal(client="test", client_address="127.0.0.1")
        begun, committing = threading.Event(), threading.Event()

        def write(tx: Transaction) -> None:
            site.application.writer.apply(tx, prepared, who)
            begun.set()
            assert committing.wait(30)

        other = Database.open(database.url.render_as_string(hide_password=False))
        writer = threading.Thread(target=other.write, args=(write,))
        writer.start()
        assert begun.wait(30)
        status = site.kick_off()
        exporting = threading.Thread(target=site.work)
        exporting.start()
        while not waits_for_a_lock(database):
            assert exporting.is_alive()
        committing.set()
        for thread in (writer, exporting):
            thread.join(30)
        other.close()
        assert [it["id"] for it in site.fetched(status)["Patient"]] == ["a", "late"]
        assert site.client.get(status).json()["transactionTime"] == "2026-01-15T11:59:30.000000Z"


def waits_for_a_lock(database: Database) -> bool:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'resource_versions'::regclass")
    with database.read() as connection:
        return bool(connection.execute(waiting).scalar())


def test_metadata_states_the_exports(site: Site) -> None:
    (rest,) = site.client.get("/metadata").json()["rest"]
    assert [it["name"] for it in rest["operation"]] == ["export"]
    by_type = {it["type"]: [one["name"] for one in it.get("operation", ())] for it in rest["resource"]}
    assert "export" in by_type["Patient"]
    assert "export" in by_type["Group"]


def test_the_bounds_are_what_is_documented() -> None:
    assert (MOST_OPEN, bulk_exports.MOST_KEPT, KEPT_FOR.total_seconds()) == (4, 32, 86_400)


def test_nothing_is_exported_when_its_record_cannot_be_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("canary-secret")

    monkeypatch.setattr(site.application.audit, "record_all", broken)
    answer = site.client.get("/$export", headers=ASYNC)
    assert answer.status_code == 500
    with site.application.database.read() as connection:
        assert connection.execute(select_(exports)).all() == []


def test_an_export_is_authorized_at_each_step(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(patient("a"))
    status = site.kick_off()
    site.work()
    url = below(site.client.get(status).json()["output"][0]["url"])

    def refuse(_principal: Principal, _request: Request) -> None:
        raise Problem(Category.FORBIDDEN, "not for you")

    monkeypatch.setattr(site.application.authorizer, "require", refuse)
    asked = [site.client.get("/$export", headers=ASYNC), site.client.get(status), site.client.get(url)]
    asked.append(site.client.delete(status))
    assert [it.status_code for it in asked] == [403] * 4
