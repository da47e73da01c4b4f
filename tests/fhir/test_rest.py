"""The FHIR API through its listener: create, read, update, delete, history, conditions and transactions."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from privacy.principal import Principal

from .examples import entry, observation, patient
from .harness import Server

URN = "urn:uuid:6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a11"


def test_a_created_resource_is_read_back_byte_for_byte(server: Server) -> None:
    raw = orjson.dumps(observation()).replace(b":72,", b":1.10,")
    created = server.client.post("/Observation", content=raw)
    assert created.status_code == 201
    assert b'"value":1.10,' in created.content
    assert server.client.get(created.headers["location"]).content == created.content


def test_a_create_returns_location_and_version(server: Server) -> None:
    created = server.post(observation())
    made = created.json()
    assert created.headers["location"] == f"{server.url}/Observation/{made['id']}/_history/1"
    assert created.headers["etag"] == 'W/"1"'
    assert created.headers["last-modified"] == "Thu, 15 Jan 2026 12:00:00 GMT"
    assert made["meta"] == {"versionId": "1", "lastUpdated": "2026-01-15T12:00:00.000000Z"}


@pytest.mark.parametrize(
    ("prefer", "expected"), [("return=minimal", ""), ("return=OperationOutcome", "OperationOutcome")]
)
def test_prefer_decides_what_a_create_returns(server: Server, prefer: str, expected: str) -> None:
    created = server.post(observation(), Prefer=prefer)
    assert created.status_code == 201
    assert (created.json()["resourceType"] if created.content else "") == expected


def test_an_update_makes_a_version_and_keeps_the_last(server: Server) -> None:
    server.put(patient())
    server.clock.advance(60)
    updated = server.put(patient(gender="male"))
    assert (updated.status_code, updated.headers["etag"]) == (200, 'W/"2"')
    assert server.client.get("/Patient/p1/_history/1").json()["gender"] == "female"
    assert server.client.get("/Patient/p1").json()["gender"] == "male"


def test_only_a_read_is_answered_not_modified(server: Server) -> None:
    server.put(patient())
    deleted = server.client.delete("/Patient/p1", headers={"If-None-Match": 'W/"2"'})
    assert deleted.status_code == 204


def test_an_update_creates_a_missing_resource(server: Server) -> None:
    assert server.put(patient()).status_code == 201


def test_an_update_without_changes_makes_no_version(server: Server) -> None:
    server.put(patient())
    server.clock.advance(60)
    again = server.put({**dict(reversed(patient().items())), "meta": {"versionId": "7"}})
    assert (again.status_code, again.headers["etag"]) == (200, 'W/"1"')
    assert len(server.changed.calls) == 1


def test_if_match_guards_against_a_lost_update(server: Server) -> None:
    server.put(patient())
    assert server.put(patient(gender="male"), If_Match='W/"1"').status_code == 200
    lost = server.put(patient(gender="other"), If_Match='W/"1"')
    assert (lost.status_code, lost.json()["issue"][0]["code"]) == (412, "conflict")
    assert server.put(patient(), If_Match="nonsense").status_code == 400


def test_if_none_match_returns_304_for_the_current_version(server: Server) -> None:
    server.put(patient())
    known = server.client.get("/Patient/p1", headers={"If-None-Match": 'W/"1"'})
    assert (known.status_code, known.content) == (304, b"")


def test_a_deleted_resource_is_gone_and_its_history_stays(server: Server) -> None:
    server.put(patient())
    assert server.client.delete("/Patient/p1").status_code == 204
    assert server.client.delete("/Patient/p1").status_code == 204
    gone = server.client.get("/Patient/p1")
    assert (gone.status_code, gone.json()["issue"][0]["code"]) == (410, "deleted")
    assert server.client.get("/Patient/p1/_history/2").status_code == 410
    assert server.client.get("/Patient/p1/_history/1").status_code == 200
    assert "entry" not in server.client.get("/Patient").json()
    history = server.client.get("/Patient/p1/_history").json()
    assert [it["request"]["method"] for it in history["entry"]] == ["DELETE", "POST"]


def test_a_deleted_resource_may_come_back(server: Server) -> None:
    server.put(patient())
    server.client.delete("/Patient/p1")
    back = server.put(patient())
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"3"')
    assert server.client.get("/Patient?identifier=MRN-p1").json()["entry"]


def test_history_goes_back_page_by_page(server: Server) -> None:
    for gender in ("female", "male", "other"):
        server.put(patient(gender=gender))
    first = server.client.get("/Patient/p1/_history?_count=2").json()
    (onward,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    second = server.client.get(onward).json()
    versions = [it["resource"]["meta"]["versionId"] for it in (*first["entry"], *second["entry"])]
    assert versions == ["3", "2", "1"]
    assert [link["relation"] for link in second["link"]] == ["self"]


def test_a_conditional_create_returns_the_existing_resource(server: Server) -> None:
    condition = "identifier=urn:oid:1.2.3|MRN-p1"
    made = server.post(patient(), If_None_Exist=condition)
    again = server.post(patient(), If_None_Exist=condition)
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json() == again.json()


def test_a_condition_that_several_resources_match_is_refused(server: Server) -> None:
    server.put(patient("a", identifier=[{"value": "x"}]))
    server.put(patient("b", identifier=[{"value": "x"}]))
    assert server.post(patient(), If_None_Exist="identifier=x").status_code == 412
    assert server.post(patient(), If_None_Exist="").status_code == 400


def test_sixteen_conditional_creates_at_once_make_one(server: Server) -> None:
    def create(_: int) -> int:
        return server.post(patient(), If_None_Exist="identifier=urn:oid:1.2.3|MRN-p1").status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(pool.map(create, range(16)))
    assert statuses == [200] * 15 + [201]
    assert server.count() == 1


def test_a_transaction_resolves_the_names_its_entries_have(server: Server) -> None:
    answer = server.transact(
        entry("POST", "Observation", observation(subject={"reference": URN})),
        entry("POST", "Patient", patient(), fullUrl=URN),
    )
    assert [it["response"]["status"] for it in answer.json()["entry"]] == ["201", "201"]
    made = server.client.get("/Observation").json()["entry"][0]["resource"]
    reference = made["subject"]["reference"]
    assert reference in answer.json()["entry"][1]["response"]["location"]
    assert server.client.get(f"/Observation?subject={reference}").json()["entry"]


def test_a_transaction_points_to_what_a_condition_found(server: Server) -> None:
    server.put(patient())
    server.transact(
        entry("POST", "Patient", patient(), fullUrl=URN, ifNoneExist="identifier=MRN-p1"),
        entry("POST", "Observation", observation(subject={"reference": URN})),
        entry("POST", "Observation", observation(subject={"reference": "Patient?identifier=urn:oid:1.2.3|MRN-p1"})),
    )
    found = server.client.get("/Observation?patient=Patient/p1").json()["entry"]
    assert len(found) == 2


def test_a_full_url_is_replaced_in_references_only(server: Server) -> None:
    named = observation(identifier=[{"system": "urn:ietf:rfc:3986", "value": URN}])
    server.transact(entry("POST", "Observation", named, fullUrl=URN))
    assert server.client.get(f"/Observation?identifier={URN}").json()["entry"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (entry("POST", "Observation", observation(status="banana")), 422),
        (entry("POST", "Observation", observation(subject={"reference": URN})), 400),
        (entry("POST", "Observation", observation(subject={"reference": "Patient?identifier=nobody"})), 412),
        (entry("PUT", "Patient/p2", patient("p2"), ifMatch='W/"4"'), 412),
        (entry("PUT", "Patient/p1", patient()), 400),
        (entry("DELETE", "Patient/p9"), 404),
        (entry("POST", "AuditEvent", {"resourceType": "AuditEvent"}), 501),
        (entry("PATCH", "Patient/p2", patient("p2")), 400),
        (entry("PUT", "Patient?nonsense=x", patient("p2")), 400),
    ],
)
def test_a_transaction_is_all_or_nothing(server: Server, wrong: dict[str, Any], status: int) -> None:
    answer = server.transact(entry("PUT", "Patient/p1", patient()), wrong)
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")
    assert server.count() == 0
    assert server.audited() == []


def test_a_transaction_is_rolled_back_when_an_observer_raises(server: Server) -> None:
    server.changed.fails = True
    answer = server.transact(entry("PUT", "Patient/p1", patient()))
    assert answer.status_code == 500
    assert "canary-secret" not in answer.text
    assert server.count() == 0


def test_an_observer_is_called_once_with_all_changes_of_a_transaction(server: Server) -> None:
    server.put(patient("old"))
    server.changed.calls.clear()
    server.transact(
        entry("PUT", "Patient/old", patient("old")),
        entry("PUT", "Patient/new", patient("new")),
        entry("PUT", "Observation/o", observation(id="o")),
    )
    ((references, principal),) = server.changed.calls
    assert references == ["Patient/new/_history/1", "Observation/o/_history/1"]
    assert principal.client_address == "127.0.0.1"


def test_each_entry_of_a_batch_stands_alone(server: Server) -> None:
    answer = server.transact(
        entry("PUT", "Patient/p1", patient()),
        entry("POST", "Observation", observation(status="banana")),
        entry("GET", "Patient/p1"),
        entry("GET", "Patient?identifier=MRN-p1"),
        entry("GET", "Patient/none"),
        {"request": "nonsense"},
        kind="batch",
    )
    entries = answer.json()["entry"]
    assert [it["response"]["status"] for it in entries] == ["201", "422", "200", "200", "404", "400"]
    assert entries[1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert entries[2]["resource"]["id"] == "p1"
    assert entries[3]["resource"]["type"] == "searchset"


def test_a_transaction_reads_what_it_wrote(server: Server) -> None:
    answer = server.transact(entry("GET", "Patient/p1"), entry("PUT", "Patient/p1", patient()))
    assert answer.json()["entry"][0]["resource"]["id"] == "p1"


def test_a_failed_get_of_a_transaction_is_answered_for_itself(server: Server) -> None:
    answer = server.transact(entry("GET", "Patient/none"), entry("PUT", "Patient/p1", patient()))
    assert [it["response"]["status"] for it in answer.json()["entry"]] == ["404", "201"]
    assert server.count() == 1


def test_a_wrong_search_in_a_transaction_changes_nothing(server: Server) -> None:
    answer = server.transact(entry("GET", "Patient?nonsense=1"), entry("PUT", "Patient/p1", patient()))
    assert answer.status_code == 400
    assert server.count() == 0


def test_resources_of_a_flow_are_part_of_its_own_transaction(server: Server) -> None:
    principal = Principal(client="engine", client_address="10.0.0.1")
    prepared = server.writer.prepare([patient()])

    def fails(tx: Any) -> None:
        server.writer.apply(tx, prepared, principal)
        raise KeyError

    with pytest.raises(KeyError):
        server.database.write(fails)
    assert server.count() == 0
    made = server.database.write(lambda tx: server.writer.apply(tx, prepared, principal))
    again = server.database.write(lambda tx: server.writer.apply(tx, prepared, principal))
    versions = [it.version for it in (*made, *again)]
    assert [(it.reference, it.created, it.changed) for it in versions] == [
        ("Patient/p1/_history/1", True, True),
        ("Patient/p1/_history/1", False, False),
    ]


def test_a_request_id_is_returned_or_assigned(server: Server) -> None:
    assert server.client.get("/metadata", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    given = server.client.get("/metadata", headers={"X-Request-Id": "not valid!"}).headers["x-request-id"]
    assert uuid.UUID(given)
