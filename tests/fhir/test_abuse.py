"""What a client can send to cost or to learn more than it should: each is refused, and the next request is served."""

import gzip
import socket
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from fhir_adapter.rest import http
from fhir_adapter.rest.budget import MOST_MATCHES, Budget
from fhir_adapter.store.document import MOST_CONTAINERS, parse
from fhir_adapter.store.problems import TooCostly
from fhir_adapter.validation import narrative
from fhir_adapter.validation.narrative import is_safe
from fhir_adapter.validation.primitives import CHECKS, LONGEST_STRING
from kernel.errors import Problem

from .examples import entry, observation, patient
from .harness import Server
from .test_hostile import CANARY, refusal

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def raw(server: Server, request: bytes) -> bytes:
    host, port = server.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


@pytest.mark.parametrize("name", ["%2e", "%2e%2e", ".", ".."])
def test_a_name_that_no_address_can_have_is_no_id(server: Server, name: str) -> None:
    path = f"PUT /fhir/Patient/{name} HTTP/1.1".encode()
    body = orjson.dumps(patient(name.replace("%2e", ".")))
    head = b"\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert b" 404 " in raw(server, path + head + body).split(b"\r\n")[0]
    dotted = entry("PUT", "Patient/..", patient(".."))
    assert refusal(server.transact(dotted)) == (400, "invalid")
    assert server.count() == 0


@pytest.mark.parametrize("host", [b"[", b"a b", b"x/y", b"user@x"])
def test_a_host_that_is_no_address_is_refused(lasting: Server, host: bytes) -> None:
    answer = raw(lasting, b"GET /fhir/Patient HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"OperationOutcome" in answer


def test_a_long_parameter_is_refused(lasting: Server) -> None:
    assert refusal(lasting.client.get("/Patient?family=" + "x" * 60_000)) == (414, "invalid")
    form = lasting.client.post("/Patient/_search", content="family=" + "x" * 70_000, headers=FORM)
    assert refusal(form) == (413, "too-long")


def test_an_address_that_is_not_utf_8_is_refused(lasting: Server) -> None:
    answer = raw(lasting, b"GET /fhir/Patient?family=\xff HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0]


def test_a_gzip_body_is_stored_decoded(server: Server) -> None:
    body = gzip.compress(orjson.dumps(patient()))
    made = server.client.put("/Patient/p1", content=body, headers={"Content-Encoding": "gzip"})
    assert made.status_code == 201
    assert server.client.get("/Patient/p1").json()["gender"] == "female"


def test_a_body_that_decodes_to_too_much_is_refused(lasting: Server) -> None:
    bomb = gzip.compress(b" " * (20 * 2**20))
    sent = {"content": bomb, "headers": {"Content-Encoding": "gzip"}}
    assert refusal(lasting.client.post("/Patient", **sent)) == (413, "too-long")
    many = gzip.compress(b"") * 500
    assert refusal(lasting.client.post("/Patient", **(sent | {"content": many}))) == (400, "invalid")


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("gzip", b"{}", (400, "invalid")),
        ("gzip", b"", (400, "invalid")),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-4], (400, "invalid")),
        ("deflate", b"{}", (415, "not-supported")),
        ("gzip, gzip", b"{}", (415, "not-supported")),
    ],
)
def test_another_encoding_is_refused(lasting: Server, encoding: str, body: bytes, expected: tuple[int, str]) -> None:
    sent = lasting.client.post("/Patient", content=body, headers={"Content-Encoding": encoding})
    assert refusal(sent) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"JohnDoe19500203": 1},
        {"_JohnDoe19500203": {"id": "x"}},
        {"name": [{"JohnDoe19500203": 1}]},
        {"extension": [{"url": "urn:x", "JohnDoe19500203": "x"}]},
    ],
)
def test_a_name_that_r4_does_not_define_is_not_repeated(lasting: Server, wrong: dict[str, Any]) -> None:
    refused = lasting.put(patient() | wrong)
    assert refused.status_code == 422
    assert "JohnDoe" not in refused.text


def test_a_name_that_r4_defines_elsewhere_is_named(lasting: Server) -> None:
    assert "Patient.dosage" in lasting.put(patient(dosage=1)).text
    number = lasting.client.post("/Patient", content=b'{"resourceType":"Patient","JohnDoe":1e999}')
    assert number.status_code == 422
    assert "JohnDoe" not in number.text


@pytest.mark.parametrize("path", ["/metadata", "/Patient/none", "/Patient"])
def test_an_answer_is_kept_by_nobody(lasting: Server, path: str) -> None:
    headers = lasting.client.get(path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("headers", "write", "read"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403, 403),
        ({"Origin": "https://elsewhere.example.org"}, 403, 200),
        ({"Origin": "null"}, 403, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 201, 200),
    ],
)
def test_a_page_of_another_site_changes_nothing(server: Server, headers: dict[str, str], write: int, read: int) -> None:
    assert server.client.post("/Patient", json=patient(), headers=headers).status_code == write
    assert server.client.get("/Patient", headers=headers).status_code == read


def test_a_page_of_this_server_may_write(server: Server) -> None:
    own = server.url.removesuffix("/fhir")
    assert server.post(patient(), Origin=own).status_code == 201


def test_a_condition_in_the_address_of_a_create_is_refused(server: Server) -> None:
    """R4 has the condition of a create in If-None-Exist; whoever sends it here would get a second resource."""
    assert refusal(server.client.post("/Patient?identifier=x", json=patient())) == (400, "invalid")
    assert server.client.post("/Patient?_format=json", json=patient()).status_code == 201


def test_many_small_objects_are_refused_before_they_are_made() -> None:
    many = b'{"resourceType":"Patient","a":[' + b",".join([b'{"a":1}'] * (MOST_CONTAINERS + 1)) + b"]}"
    with pytest.raises(Problem):
        parse(many)
    assert parse(b'{"resourceType":"Patient","a":"' + b'{,\\"[' * 400_000 + b'"}').type == "Patient"


def test_the_searches_of_one_bundle_are_bounded_together(server: Server) -> None:
    for place in range(3):
        server.transact(*(entry("POST", "Patient", patient(f"p{place}-{it}")) for it in range(1000)))
    searches = [entry("GET", "Patient?_count=1000") for _ in range(20)]
    for kind in ("transaction", "batch"):
        entries = server.transact(*searches, entry("PUT", f"Patient/{kind}", patient(kind)), kind=kind).json()["entry"]
        statuses = [it["response"]["status"] for it in entries]
        assert statuses == ["200"] * (MOST_MATCHES // 1000) + ["403"] * 15 + ["201"]
        (issue,) = entries[10]["response"]["outcome"]["issue"]
        assert issue["code"] == "too-costly"


def test_the_budget_of_a_bundle_counts_bytes_and_time() -> None:
    now = [0.0]
    budget = Budget(size=10, seconds=1, clock=lambda: now[0])
    budget.require()
    now[0] = 1.1
    with pytest.raises(TooCostly):
        budget.require()
    full = Budget(size=10)
    full.take(b"x" * 10)
    with pytest.raises(TooCostly):
        full.require()


XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">%s</div>'


@pytest.mark.parametrize(
    "inner",
    [
        '<p style="background:u\\72l(http://x)">a</p>',
        '<p style="background:u/**/rl(http://x)">a</p>',
        '<p style="background:image-set(&quot;http://x&quot; 1x)">a</p>',
        '<p style="behavior:x">a</p>',
        '<p style="@import x">a</p>',
        '<img src="http://elsewhere.example.org/x.png" alt="x"/>',
        '<img src="//elsewhere.example.org/x.png" alt="x"/>',
        '<img src="/\\elsewhere.example.org/x.png" alt="x"/>',
        '<img src="/&#9;/elsewhere.example.org/x.png" alt="x"/>',
    ],
)
def test_a_narrative_loads_nothing_from_elsewhere(inner: str) -> None:
    assert not is_safe(XHTML % inner)


@pytest.mark.parametrize(
    "inner",
    [
        '<p style="color:red; margin: 0 2px">a</p>',
        '<img src="#photo" alt="x"/>',
        '<img src="data:image/png;base64,AAAA" alt="x"/>',
        '<img src="../Binary/1" alt="x"/>',
        '<a href="http://hl7.org/fhir">a</a>',
    ],
)
def test_a_harmless_narrative_is_accepted(inner: str) -> None:
    assert is_safe(XHTML % inner)


def test_an_unknown_type_is_not_repeated(lasting: Server) -> None:
    refused = lasting.post(observation(contained=[{"resourceType": CANARY}]))
    assert refused.status_code == 422
    assert CANARY not in refused.text


@pytest.mark.parametrize("inner", ["<b>x</b>" * 10_000, "x" * 2**20])
def test_a_narrative_that_is_too_long_is_refused_before_it_is_parsed(
    server: Server, monkeypatch: pytest.MonkeyPatch, inner: str
) -> None:
    def fail(_: str) -> None:
        raise AssertionError

    monkeypatch.setattr(narrative.ElementTree, "fromstring", fail)
    resource = patient(text={"status": "generated", "div": XHTML % inner})
    (issue,) = server.client.post("/Patient/$validate", json=resource).json()["issue"]
    assert (issue["code"], issue["expression"]) == ("too-long", ["Patient.text.div"])
    assert server.post(resource).status_code == 422
    assert server.count() == 0


def test_a_long_narrative_is_accepted() -> None:
    assert is_safe(XHTML % ("<b>x</b>" * 9_000))
    assert is_safe(XHTML % ("x" * 1_000_000))


@pytest.mark.parametrize(
    "name", ["code", "uri", "canonical", "url", "oid", "dateTime", "instant", "string", "markdown"]
)
def test_a_text_of_more_than_one_mebibyte_is_of_no_type(name: str) -> None:
    ends = {"oid": ("urn:oid:1", ".1"), "code": ("a", " a"), "instant": ("2026-01-01T10:00:00.", "1")}
    start, more = ends.get(name, ("2026-01-01T10:00:00.", "1") if name == "dateTime" else ("a", "a"))
    zone = "Z" if name in {"instant", "dateTime"} else ""
    assert CHECKS[name](start + more * 1000 + zone)
    assert not CHECKS[name](start + more * LONGEST_STRING + zone)


def test_a_text_that_is_too_long_is_named_as_that(server: Server) -> None:
    resource = patient(identifier=[{"system": "a" * (LONGEST_STRING + 1), "value": "1"}])
    (issue,) = server.client.post("/Patient/$validate", json=resource).json()["issue"]
    assert (issue["code"], issue["expression"]) == ("too-long", ["Patient.identifier[0].system"])


def test_base64_may_be_longer() -> None:
    assert CHECKS["base64Binary"]("AAAA" * LONGEST_STRING)


@pytest.mark.parametrize("text", ["", " a", "a ", "a  b", "a\n\nb", "\ta"])
def test_a_code_has_single_spaces_between_words(text: str) -> None:
    assert not CHECKS["code"](text)
    assert CHECKS["code"]("a b\tc")


def test_the_log_of_a_failure_has_its_place_and_not_its_text(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr("fhir_adapter.store.store.Store.read", fail)
    with capture_logs() as lines:
        monkeypatch.setattr(http, "_log", http.get_logger("test"))
        answer = server.client.get("/Patient/x", headers={"X-Request-Id": "trace-1"})
    assert answer.status_code == 500
    (line,) = [it for it in lines if it["event"] == "fhir_request_failed"]
    assert (line["request_id"], line["exception"]) == ("trace-1", "ValueError")
    assert line["place"].startswith("fhir_adapter/rest/")
    assert CANARY not in str(line)
