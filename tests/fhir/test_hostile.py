"""Every invalid request is answered with an OperationOutcome, and the next request is served."""

import socket
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .examples import observation, patient
from .harness import Server

CANARY = "canary-secret"


def refusal(answer: httpx.Response) -> tuple[int, str]:
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert answer.headers["content-type"] == "application/fhir+json"
    assert answer.headers["x-request-id"] in outcome["issue"][0]["diagnostics"]
    assert CANARY not in answer.text
    return answer.status_code, outcome["issue"][0]["code"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"resourceType":"Observation","status"', (400, "invalid")),
        (b"", (400, "invalid")),
        (b'{"resourceType":"Observation","a":' + b"[" * 5000 + b"]" * 5000 + b"}", (400, "invalid")),
        (b'{"resourceType":"Observation","resourceType":"Patient"}', (400, "invalid")),
        (b'{"resourceType":"Observation","x":"\\u0000"}', (400, "invalid")),
        (b'{"resourceType":"Observation","x":' + b"9" * 100_000 + b"}", (422, "value")),
        ('{"resourceType":"Observation","x":"ä"}'.encode("latin-1"), (400, "invalid")),
        (b'{"resourceType":"Patient"}', (400, "invalid")),
        (b'{"resourceType":"Observation","canary-secret":1}', (422, "required")),
        (b'{"resourceType":"Observation","contained":[{"resourceType":"canary-secret"}]}', (422, "not-supported")),
        (b'{"resourceType":"Observation","contained":5}', (422, "required")),
        (b'{"resourceType":"Observation","code":[[["canary-secret"]]]}', (422, "required")),
    ],
)
def test_a_body_that_cannot_be_accepted_is_refused(lasting: Server, body: bytes, expected: tuple[int, str]) -> None:
    assert refusal(lasting.client.post("/Observation", content=body)) == expected
    assert lasting.post(observation()).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/nowhere", {}, (404, "not-supported")),
        ("GET", "/Patient/1/2/3/4/5", {}, (404, "not-supported")),
        ("GET", "/SubscriptionTopic/1", {}, (404, "not-supported")),
        ("GET", "/Patient/none", {}, (404, "not-found")),
        ("GET", "/Patient/none/_history", {}, (404, "not-found")),
        ("GET", "/Patient/none/_history/one", {}, (404, "not-found")),
        ("GET", "/Patient/" + "x" * 65, {}, (404, "not-found")),
        ("GET", "/Patient/%00", {}, (404, "not-found")),
        ("GET", "/Patient/a%2F_history", {}, (404, "not-found")),
        ("GET", "/Patient/_nothing", {}, (404, "not-supported")),
        ("DELETE", "/Patient", {}, (400, "invalid")),
        ("DELETE", "/metadata", {}, (405, "not-supported")),
        ("PATCH", "/Patient/1", {"Content-Type": "text/plain"}, (415, "not-supported")),
        ("POST", "/metadata", {}, (405, "not-supported")),
        ("POST", "/AuditEvent", {}, (405, "not-supported")),
        ("PUT", "/AuditEvent/1", {}, (405, "not-supported")),
        ("DELETE", "/AuditEvent/1", {}, (405, "not-supported")),
        ("POST", "/Patient", {"Content-Type": "text/plain"}, (415, "not-supported")),
        ("POST", "/Patient", {"Content-Type": "application/fhir+json; charset=utf-16"}, (415, "not-supported")),
        ("POST", "/Patient", {"Content-Type": "application/fhir+json; fhirVersion=5.0"}, (415, "not-supported")),
        ("POST", "/Patient", {"Content-Type": "application/fhir+xml"}, (415, "not-supported")),
        ("GET", "/Patient/1", {"Accept": "application/fhir+xml"}, (406, "not-supported")),
        ("GET", "/Patient?_format=xml", {}, (406, "not-supported")),
        ("GET", "/Patient?_count=1&%5Fform%61t=xml", {}, (406, "not-supported")),
    ],
)
def test_a_request_that_is_not_supported_is_refused(
    lasting: Server, method: str, path: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert refusal(lasting.client.request(method, path, headers=headers)) == expected


def test_405_names_what_would_be_allowed(lasting: Server) -> None:
    assert lasting.client.post("/Patient/1").headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"
    assert lasting.client.delete("/AuditEvent/1").headers["allow"] == "GET, HEAD"


def test_a_body_that_is_too_large_is_refused_unread(lasting: Server) -> None:
    assert refusal(lasting.client.post("/Observation", content=b"x" * (20 * 2**20))) == (413, "too-long")


def test_a_body_without_a_declared_length_is_limited(lasting: Server) -> None:
    def endless() -> Any:
        for _ in range(20):
            yield b"x" * 2**20

    with suppress(httpx.TransportError):  # the server may also close the connection before everything was sent
        assert lasting.client.post("/Observation", content=endless()).status_code == 413
    assert lasting.post(observation()).status_code == 201


def test_a_client_that_never_finishes_is_timed_out(lasting: Server) -> None:
    host, port = lasting.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n")
        slow.sendall(b"Content-Length: 100\r\n\r\n{")
        answer = slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"OperationOutcome" in answer


def test_two_hundred_idle_connections_do_not_delay_http_requests(lasting: Server) -> None:
    host, port = lasting.url.split("/")[2].split(":")
    idle = [socket.create_connection((host, int(port)), timeout=10) for _ in range(200)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"POST /fhir/Observation HTTP/1.1\r\nHost: x\r\n")
        assert lasting.post(observation()).status_code == 201
    finally:
        for connection in idle:
            connection.close()


def test_an_internal_error_shows_only_the_request_id(server: Server) -> None:
    server.changed.fails = True
    assert refusal(server.put(patient())) == (500, "exception")
    server.changed.fails = False
    assert server.put(patient()).status_code == 201


def test_an_unreachable_database_is_reported_as_unavailable(server: Server) -> None:
    server.database.close()
    answer = server.put(patient())
    assert refusal(answer) == (503, "transient")
    assert answer.headers["retry-after"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(lasting: Server, body: bytes) -> None:
    assert refusal(lasting.client.post("/Observation", content=body))[0] == 400


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*observation(), "contained", "component", "extension", "meta", "text"]), json_values)
def test_any_value_in_any_element_is_accepted_or_refused(lasting: Server, element: str, value: Any) -> None:
    answer = lasting.post(observation() | {element: value} | {"resourceType": "Observation"})
    assert answer.status_code in {201, 400, 422}
    if answer.status_code != 201:
        refusal(answer)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_any_value_as_a_bundle_is_answered(lasting: Server, value: Any) -> None:
    answer = lasting.client.post("/", json={"resourceType": "Bundle", "type": "transaction", "entry": value})
    assert answer.status_code in {200, 400, 422}


def test_a_slow_sender_does_not_hold_up_the_others(lasting: Server) -> None:
    host, port = lasting.url.split("/")[2].split(":")
    done = threading.Event()

    def others() -> None:
        for _ in range(5):
            assert lasting.post(observation()).status_code == 201
        done.set()

    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n")
        slow.sendall(b"Content-Length: 100\r\n\r\n{")
        thread = threading.Thread(target=others)
        thread.start()
        assert done.wait(10)
        thread.join()
