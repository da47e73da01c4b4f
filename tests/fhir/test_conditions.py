"""Conditional update, patch, delete and read (FHIR R4, http.html), alone and as entries of Bundles."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson
import pytest

from privacy.authorize import Interaction

from .examples import entry, observation, patient
from .harness import Server

MRN = "identifier=urn:oid:1.2.3|MRN-p1"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MALE = [{"op": "replace", "path": "/gender", "value": "male"}]


def without_id(**more: Any) -> dict[str, Any]:
    return {key: value for key, value in patient(**more).items() if key != "id"}


def statuses(answer: httpx.Response) -> list[str]:
    return [it["response"]["status"][:3] for it in answer.json()["entry"]]


def test_a_conditional_update_creates_what_nothing_meets_and_changes_what_one_meets(server: Server) -> None:
    made = server.client.put(f"/Patient?{MRN}", json=without_id())
    changed = server.client.put(f"/Patient?{MRN}", json=without_id(gender="male"))
    assert (made.status_code, changed.status_code, changed.headers["etag"]) == (201, 200, 'W/"2"')
    assert made.json()["id"] == changed.json()["id"]


def test_an_id_in_a_conditional_update_is_that_of_the_resource(server: Server) -> None:
    made = server.client.put("/Patient?identifier=x", json=patient("own", identifier=[{"value": "x"}]))
    assert made.headers["location"].endswith("/Patient/own/_history/1")
    assert server.client.put("/Patient?identifier=x", json=patient("other")).status_code == 400
    assert server.client.put("/Patient?identifier=y", json=patient("own")).status_code == 412
    assert server.count() == 1


def test_several_that_meet_a_condition_are_left_alone(server: Server) -> None:
    server.put(patient("a", identifier=[{"value": "x"}]))
    server.put(patient("b", identifier=[{"value": "x"}]))
    url = "/Patient?identifier=x"
    assert server.client.put(url, json=without_id()).status_code == 412
    assert server.client.delete(url).status_code == 412
    assert server.client.patch(url, json=MALE, headers=JSON_PATCH).status_code == 412
    assert server.count() == 2


@pytest.mark.parametrize("url", ["/Patient", "/Patient?", "/Patient?_format=json", "/Patient?nonsense=1"])
def test_a_change_without_a_condition_that_is_served_is_refused(server: Server, url: str) -> None:
    server.put(patient())
    assert server.client.delete(url).status_code == 400
    assert server.client.put(url, json=patient()).status_code == 400
    assert server.client.get("/Patient/p1").status_code == 200


def test_a_conditional_delete_deletes_one(server: Server) -> None:
    server.put(patient())
    assert server.client.delete(f"/Patient?{MRN}").status_code == 204
    assert server.client.get("/Patient/p1").status_code == 410
    assert server.client.delete(f"/Patient?{MRN}").status_code == 204
    assert [event["action"] for event in server.audited()] == ["C", "D", "E"]


def test_a_conditional_patch_changes_one(server: Server) -> None:
    assert server.client.patch(f"/Patient?{MRN}", json=MALE, headers=JSON_PATCH).status_code == 404
    server.put(patient())
    patched = server.client.patch(f"/Patient?{MRN}", json=MALE, headers=JSON_PATCH)
    assert (patched.status_code, patched.json()["gender"]) == (200, "male")


def test_if_none_match_of_an_update_creates_only(server: Server) -> None:
    """RFC 9110, 13.1.2: whoever sends If-None-Match: * means that nothing may be overwritten."""
    assert server.put(patient(), If_None_Match="*").status_code == 201
    assert server.put(patient(gender="male"), If_None_Match="*").status_code == 412
    assert server.put(patient(), If_None_Match='W/"1"').status_code == 400
    server.client.delete("/Patient/p1")
    assert server.put(patient(), If_None_Match="*").status_code == 201


def test_if_match_guards_a_delete_and_a_patch(server: Server) -> None:
    server.put(patient())
    stale = {"If-Match": 'W/"7"'}
    assert server.client.delete("/Patient/p1", headers=stale).status_code == 412
    assert server.client.delete(f"/Patient?{MRN}", headers=stale).status_code == 412
    assert server.client.patch("/Patient/p1", json=MALE, headers=JSON_PATCH | stale).status_code == 412
    assert server.client.put(f"/Patient?{MRN}", json=patient(), headers=stale).status_code == 412
    assert server.client.patch("/Patient/p1", json=MALE, headers=JSON_PATCH | {"If-Match": 'W/"1"'}).status_code == 200
    assert server.client.delete("/Patient/p1", headers={"If-Match": 'W/"2"'}).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": 'W/"1"'}, 304),
        ({"If-None-Match": 'W/"2"'}, 200),
        ({"If-Modified-Since": "Thu, 15 Jan 2026 12:00:00 GMT"}, 304),
        ({"If-Modified-Since": "Thu, 15 Jan 2026 11:59:59 GMT"}, 200),
        ({"If-Modified-Since": "Thu, 15 Jan 2026 12:00:00 GMT", "If-None-Match": 'W/"2"'}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
    ],
)
def test_a_conditional_read_returns_what_is_new(lasting: Server, headers: dict[str, str], status: int) -> None:
    lasting.put(patient())
    assert lasting.client.get("/Patient/p1", headers=headers).status_code == status


def test_conditions_are_the_same_as_entries_of_a_bundle(server: Server) -> None:
    server.put(patient("p2"))
    patch = {"resourceType": "Binary", "contentType": "application/json-patch+json"}
    patch["data"] = base64.b64encode(orjson.dumps(MALE)).decode()
    for kind in ("batch", "transaction"):
        answer = server.transact(
            entry("GET", "Patient/p2", ifNoneMatch='W/"1"') if kind == "batch" else entry("HEAD", "Patient/p2"),
            entry("PUT", f"Patient?{MRN}", without_id()),
            entry("PATCH", "Patient?identifier=MRN-p2", patch),
            entry("DELETE", "Patient?identifier=none"),
            kind=kind,
        )
        assert statuses(answer) == (["304", "201"] if kind == "batch" else ["200", "200"]) + ["200", "204"]
        assert "resource" not in answer.json()["entry"][0]
    assert server.client.get("/Patient/p2").json()["gender"] == "male"


@pytest.mark.parametrize(
    "second",
    [
        entry("PUT", f"Patient?{MRN}", patient()),
        entry("DELETE", f"Patient?{MRN}"),
        entry("POST", "Patient", patient(), ifNoneExist=MRN),
        entry("DELETE", "Patient/p1"),
    ],
)
def test_two_entries_that_name_one_resource_refuse_the_transaction(server: Server, second: dict[str, Any]) -> None:
    server.put(patient())
    answer = server.transact(entry("PUT", "Patient/p1", patient(gender="male")), second)
    assert answer.status_code == 400
    assert server.count() == 1


def test_two_entries_that_would_make_one_resource_twice_refuse_the_transaction(server: Server) -> None:
    twice = [entry("POST", "Patient", patient()), entry("POST", "Patient", patient(), ifNoneExist=MRN)]
    assert server.transact(*twice).status_code == 412
    assert server.transact(*(entry("PUT", f"Patient?{MRN}", without_id()) for _ in range(2))).status_code == 412
    assert server.count() == 0


def test_a_transaction_deletes_creates_and_then_updates(server: Server) -> None:
    server.put(patient("old"))
    server.transact(
        entry("PUT", "Observation/o", observation(id="o")),
        entry("POST", "Patient", patient()),
        entry("DELETE", "Patient/old"),
    )
    with server.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT method FROM resource_versions ORDER BY seq").scalars().all()
    assert sorted(rows[1:]) == ["DELETE", "POST", "POST"]
    assert server.client.get("/Patient/old").status_code == 410


@pytest.mark.parametrize(
    "holder",
    [
        lambda urn: {"subject": {"reference": urn}},
        lambda urn: {"extension": [{"url": "urn:x", "valueReference": {"reference": urn}}]},
        lambda urn: {"extension": [{"url": "urn:x", "valueUri": urn}]},
        lambda urn: {"extension": [{"url": "urn:x", "valueCanonical": urn}]},
        lambda urn: {"meta": {"profile": [urn]}},
        lambda urn: {
            "contained": [{"resourceType": "Specimen", "id": "s", "subject": {"reference": urn}}],
            "specimen": {"reference": "#s"},
        },
        lambda urn: {
            "text": {
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{urn}">a patient</a></div>',
            }
        },
    ],
)
def test_a_name_of_the_transaction_is_replaced_wherever_a_reference_stands(
    server: Server, holder: Callable[[str], dict[str, Any]]
) -> None:
    urn = "urn:uuid:6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a11"
    answer = server.transact(
        entry("PUT", "Patient/p9", patient("p9"), fullUrl=urn),
        entry("POST", "Observation", observation() | holder(urn)),
    )
    assert answer.status_code == 200
    stored = server.client.get("/Observation").json()["entry"][0]["resource"]
    assert holder("Patient/p9").items() <= stored.items() or stored["meta"]["profile"] == ["Patient/p9"]


def test_sixty_four_conditional_updates_at_once_make_one(server: Server) -> None:
    def update(_: int) -> int:
        return server.client.put(f"/Patient?{MRN}", json=without_id()).status_code

    with ThreadPoolExecutor(64) as pool:
        assert sorted(pool.map(update, range(64))) == [200] * 63 + [201]
    assert server.count() == 1


def test_a_resource_that_a_condition_names_is_authorized(server: Server) -> None:
    server.put(patient())

    def not_p1(request: Any) -> bool:
        return bool(request.interaction is Interaction.DELETE and request.target_id == "p1")

    server.authorizer.refuses = not_p1
    assert server.client.delete(f"/Patient?{MRN}").status_code == 403
    assert server.client.get("/Patient/p1").status_code == 200
    assert server.audited()[-2]["outcome"] != "0"


@pytest.mark.parametrize(
    "parameter",
    [
        "_cursor=WzEsMSwxXQ",
        "_count=0",
        "_sort=birthdate",
        "_total=accurate",
        "_summary=count",
        "_elements=name",
        "_include=Patient:organization",
        "_revinclude=Observation:subject",
        "_revinclude:iterate=Observation:subject",
    ],
)
def test_a_condition_holds_no_parameter_of_the_result(server: Server, parameter: str) -> None:
    """They could hide what meets the condition, so that a create makes it a second time."""
    server.put(patient())
    condition = f"{MRN}&{parameter}"
    assert server.post(patient(), If_None_Exist=condition).status_code == 400
    assert server.client.delete(f"/Patient?{condition}").status_code == 400
    assert server.transact(entry("POST", "Patient", patient(), ifNoneExist=condition)).status_code == 400
    reference = {"reference": f"Patient?{condition}"}
    assert server.transact(entry("POST", "Observation", observation(subject=reference))).status_code == 400
    assert server.count() == 1
    assert server.client.put(f"/Patient?{MRN}&_format=json&_pretty=true", json=without_id()).status_code == 200
