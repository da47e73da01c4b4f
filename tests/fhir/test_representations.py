"""What is returned: Prefer, _format, _pretty, _summary, _elements, gzip, OPTIONS."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fhir_adapter.store.document import parse
from fhir_adapter.store.summary import reduced
from fhir_adapter.store.validate import Validator
from fhir_adapter.validation import summaries
from fhir_adapter.validation.compile import lines

from .examples import entry, observation, patient
from .harness import Server

JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def resource_of(answer: httpx.Response) -> str:
    return str(answer.json()["resourceType"]) if answer.content else ""


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("return=minimal", ""),
        ("return=representation", "Patient"),
        ("return=OperationOutcome", "OperationOutcome"),
        ("respond-async, return = minimal; x=y", ""),
        ("return=minimally", "Patient"),
    ],
)
def test_prefer_decides_what_each_change_returns(server: Server, prefer: str, expected: str) -> None:
    headers = {"Prefer": prefer}
    assert resource_of(server.post(patient(), **headers)) == expected
    assert resource_of(server.put(patient(), **headers)) == expected
    assert resource_of(server.client.patch("/Patient/p1", json=[], headers=JSON_PATCH | headers)) == expected
    deleted = server.client.delete("/Patient/p1", headers=headers)
    assert resource_of(deleted) == ("OperationOutcome" if "Outcome" in expected else "")
    assert deleted.status_code == (200 if "Outcome" in expected else 204)


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_prefer_decides_what_each_entry_returns(server: Server, kind: str) -> None:
    def changed(prefer: str) -> dict[str, Any]:
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry("PUT", "Patient/p1", patient())]}
        first = server.client.post("/", json=bundle, headers={"Prefer": prefer}).json()["entry"][0]
        assert isinstance(first, dict)
        return first

    assert "resource" not in changed("return=minimal")
    assert changed("return=representation")["resource"]["id"] == "p1"
    assert changed("return=OperationOutcome")["response"]["outcome"]["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("wanted", ["json", "application/json", "application/fhir+json", "text/json"])
def test_all_names_of_json_are_accepted(lasting: Server, wanted: str) -> None:
    lasting.put(patient())
    assert lasting.client.get("/Patient/p1", params={"_format": wanted}).status_code == 200
    assert lasting.client.get("/Patient/p1", headers={"Accept": f"text/html;q=0.9, {wanted};q=0.5"}).status_code == 200


@pytest.mark.parametrize("wanted", ["xml", "application/fhir+xml", "text/turtle", "html"])
def test_another_format_is_refused(lasting: Server, wanted: str) -> None:
    refused = lasting.client.get("/Patient/p1", params={"_format": wanted})
    assert (refused.status_code, resource_of(refused)) == (406, "OperationOutcome")


def test_a_person_gets_lines_and_the_same_numbers(server: Server) -> None:
    raw = orjson.dumps(observation(id="o")).replace(b":72,", b":7.20e1,")
    server.client.put("/Observation/o", content=raw)
    pretty = server.client.get("/Observation/o?_pretty=true")
    assert b'"value": 7.20e1,\n' in pretty.content
    assert pretty.json() == server.client.get("/Observation/o").json()


def test_a_long_answer_is_compressed_for_whoever_takes_it(server: Server) -> None:
    long = "x" * 5000
    server.put(patient(name=[{"text": long}]))
    for accepted, encoding in (("gzip", "gzip"), ("br, *", "gzip"), ("gzip;q=0", None), ("identity", None)):
        with server.client.stream("GET", "/Patient/p1", headers={"Accept-Encoding": accepted}) as answer:
            body = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == encoding
        content = gzip.decompress(body) if encoding else body
        assert json.loads(content)["name"][0]["text"] == long
    assert "content-encoding" not in server.client.get("/Patient/none", headers={"Accept-Encoding": "gzip"}).headers


def test_options_names_the_methods_of_an_address(lasting: Server) -> None:
    for path, methods in (
        ("/Patient/1", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/AuditEvent", "GET, HEAD, OPTIONS"),
        ("/metadata", "GET, HEAD, OPTIONS"),
    ):
        answer = lasting.client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, methods)
    assert lasting.client.options("/nowhere").status_code == 404


def test_a_head_is_the_head_of_a_read(server: Server) -> None:
    server.put(patient())
    head, whole = server.client.head("/Patient/p1"), server.client.get("/Patient/p1")
    assert head.content == b""
    for name in ("etag", "last-modified", "content-length"):
        assert head.headers[name] == whole.headers[name]


FULL = patient(
    text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">a</div>'},
    photo=[{"contentType": "image/png", "data": "AAAA"}],
    contact=[{"name": {"text": "x"}}],
    modifierExtension=[{"url": "urn:x", "valueBoolean": True}],
)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("_summary=true", {"identifier", "name", "gender", "birthDate"}),
        ("_summary=text", {"text"}),
        ("_summary=data", set(FULL) - {"text", "id", "resourceType", "modifierExtension"}),
        ("_elements=name,gender", {"name", "gender"}),
        ("_elements=Patient.contact", {"contact"}),
    ],
)
def test_a_read_returns_a_part_and_says_so(server: Server, query: str, names: set[str]) -> None:
    assert server.put(FULL).status_code == 201
    for url in ("/Patient/p1", "/Patient/p1/_history/1"):
        part = server.client.get(f"{url}?{query}").json()
        assert set(part) == names | {"resourceType", "id", "meta", "modifierExtension"}
        assert [tag["code"] for tag in part["meta"]["tag"]] == ["SUBSETTED"]
    whole = server.client.get("/Patient/p1?_summary=false").json()
    assert "tag" not in whole["meta"]


@pytest.mark.parametrize(
    "query", ["_summary=count", "_summary=x", "_elements=nonsense", "_summary=true&_elements=name", "nonsense=1"]
)
def test_a_view_that_does_not_exist_is_refused(lasting: Server, query: str) -> None:
    lasting.put(patient())
    assert lasting.client.get(f"/Patient/p1?{query}").status_code == 400


def test_a_summary_is_deep_and_keeps_what_is_required(shared: Path) -> None:
    value = b'{"resourceType":"Observation","id":"o","meta":{"tag":[{"code":"a"}]},"status":"final",'
    value += b'"code":{"text":"x"},"valueQuantity":{"value":1.10},"referenceRange":[{"text":"y"}],'
    value += b'"component":[{"code":{"text":"z"},"valueString":"v","referenceRange":[{"text":"y"}]}]}'
    part = reduced(value, "Observation", "true", ())
    assert b'"valueQuantity":{"value":1.10}' in part
    assert b"referenceRange" not in part
    assert b'"code":"a"' in part
    assert set(json.loads(reduced(value, "Observation", None, ("method",)))) == {
        *("resourceType", "id", "meta", "status", "code")
    }
    examples = (shared / "data" / "fhir-r4-examples").glob("*-example.json")
    validator = Validator()
    for path in sorted(examples)[:60]:
        raw = path.read_bytes()
        kind = json.loads(raw)["resourceType"]
        if kind not in {"Bundle", "Parameters"}:
            assert parse(reduced(raw, kind, "true", ())).type == kind, path.name
            assert validator.types


def test_the_table_of_summaries_is_that_of_the_definitions(shared: Path) -> None:
    table = Path(summaries.__file__).parent / "tables" / "summaries.json"
    definitions = lines(shared / "standards" / "fhir-r4" / "structure-definitions.ndjson")
    assert table.read_text(encoding="utf-8") == summaries.rendered(summaries.compiled(definitions))
