"""The official R4 examples through the listener: what is served is what was sent, however it is asked for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from .harness import Server
from .test_validate import WRONG

REFUSED = {
    "MedicationRequest-medrx0301.json": "MedicationRequest.dispenseRequest.performer",
    "Observation-clinical-gender.json": "Observation.performer[0]",
    "Media-1.2.840.11361907579238403408700.3.1.04.19970327150033.json": "Media.text.div",
}
"""Examples that are refused, and where: two refer to a type that R4 does not list, one shows a remote image."""
NOT_BY_PROFILE = {"Observation-example-genetics-brcapat.json": "Observation.extension[1].valueCodeableConcept"}
"""It uses an extension of US Core with a value that US Core does not allow; R4 itself takes it."""

OWN_LINK = b'"urn:uuid:'
"""In a transaction it must be that of an entry, so what has one of its own cannot be in another's."""


def exactly(raw: bytes) -> Any:
    """Read JSON with each number as the characters it was written in."""
    return json.loads(raw, parse_float=lambda text: ("number", text), parse_int=lambda text: ("number", text))


def examples(shared: Path) -> Iterator[tuple[str, bytes, Any]]:
    """Return name, bytes and content of each example that R4 allows and a client may write."""
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        if path.name not in WRONG and not path.name.startswith("AuditEvent"):
            raw = path.read_bytes()
            yield path.name, raw, exactly(raw)


def test_every_official_example_is_created_and_read_back_unchanged(server: Server, shared: Path) -> None:
    kept = list(examples(shared))
    assert len(kept) > 400
    for name, raw, sent in kept:
        created = server.client.post(f"/{sent['resourceType']}", content=raw)
        assert created.status_code == 201, (name, created.text)
        read = exactly(server.client.get(created.headers["location"]).content)
        assert without_identity(read) == without_identity(sent), name
        assert without_identity(exactly(created.content)) == without_identity(sent), name


def test_every_official_example_is_the_same_as_a_version_in_its_history_and_in_a_search(
    server: Server, shared: Path
) -> None:
    for name, raw, sent in examples(shared):
        kind, address = sent["resourceType"], f"/{sent['resourceType']}/{sent['id']}"
        assert server.client.put(address, content=raw).status_code in {200, 201}, name
        version = server.client.get(f"{address}/_history/1")
        (past,) = entries(server.client.get(f"{address}/_history?_count=1"))
        (found,) = entries(server.client.get(f"/{kind}?_id={sent['id']}"))
        for read in (exactly(version.content), past, found):
            assert read["id"] == sent["id"]
            if version.headers["etag"] == f'W/"{read["meta"]["versionId"]}"':
                assert without_identity(read) == without_identity(sent), name


def test_every_official_example_is_the_same_after_a_transaction(server: Server, shared: Path) -> None:
    chosen = {
        (sent["resourceType"], sent["id"]): (raw, sent)
        for _, raw, sent in examples(shared)
        if len(raw) < 20_000 and OWN_LINK not in raw
    }
    assert len(chosen) > 350
    parts = [
        b'{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}' % (raw, kind.encode(), name.encode())
        for (kind, name), (raw, _) in chosen.items()
    ]
    body = b'{"resourceType":"Bundle","type":"transaction","entry":[%s]}' % b",".join(parts)
    answer = server.client.post("/", content=body)
    assert answer.status_code == 200, answer.text[:1000]
    for (kind, name), (_, sent) in chosen.items():
        read = exactly(server.client.get(f"/{kind}/{name}").content)
        assert without_identity(read) == without_identity(sent), (kind, name)


def test_an_example_that_r4_forbids_is_refused_and_the_place_is_named(lasting: Server, shared: Path) -> None:
    assert REFUSED.keys() == WRONG
    for name, place in REFUSED.items():
        raw = (shared / "data" / "fhir-r4-examples" / name).read_bytes()
        answer = lasting.client.post(f"/{name.partition('-')[0]}", content=raw)
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, [place])


def test_validate_says_of_each_official_example_what_the_server_does_with_it(lasting: Server, shared: Path) -> None:
    wrong: dict[str, str] = {}
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        answer = lasting.client.post(f"/{path.name.partition('-')[0]}/$validate", content=path.read_bytes())
        assert answer.status_code == 200, path.name
        found = [it["expression"][0] for it in answer.json()["issue"] if it["severity"] == "error"]
        if found:
            wrong[path.name] = found[0]
    assert wrong == REFUSED | NOT_BY_PROFILE


def entries(answer: httpx.Response) -> list[Any]:
    return [it["resource"] for it in exactly(answer.content)["entry"]]


def without_identity(resource: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the server sets."""
    meta = {key: value for key, value in resource.get("meta", {}).items() if key not in {"versionId", "lastUpdated"}}
    return {key: value for key, value in resource.items() if key not in {"id", "meta"}} | (
        {"meta": meta} if meta else {}
    )
