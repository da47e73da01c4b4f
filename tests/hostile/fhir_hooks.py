"""What schemathesis does before and after each of its requests.

Random requests seldom name what is stored, and are seldom right. Some are changed here, so that they are. The answers
are counted by operation and status. schemathesis loads this file itself, in a process of its own
(``SCHEMATHESIS_HOOKS``); it reads what is stored from one file, and writes the numbers to another.
"""

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

STORED: dict[str, str] = json.loads(os.environ["FUZZ_STORED"])
"""The ids that are stored, by the first segment of a path."""
RESOURCE = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
ENTRY = {"resource": {"resourceType": "Basic", "code": {"text": "x"}}, "request": {"method": "POST", "url": "Basic"}}
BODIES: dict[str, Any] = {
    "POST /": {"resourceType": "Bundle", "type": "batch", "entry": [ENTRY]},
    "POST /{type}": RESOURCE,
    "PUT /{type}": RESOURCE,
    "PUT /{type}/{id}": RESOURCE,
    "POST /{type}/$validate": RESOURCE,
    "POST /{type}/{id}/$validate": RESOURCE,
    "POST /{type}/_search": {"status": "final"},
    "PATCH /{type}": {"resourceType": "Parameters"},
    "PATCH /{type}/{id}": {"resourceType": "Parameters"},
    "POST /$export": {"resourceType": "Parameters"},
    "POST /Patient/$export": {"resourceType": "Parameters"},
    "POST /Group/{id}/$export": {"resourceType": "Parameters"},
}
"""Bodies that are right."""
QUERIES: dict[str, list[dict[str, str]]] = {
    "GET /Observation/$lastn": [{"patient": "p1"}],
    "GET /{type}": [{"code": "8867-4"}, {"subject:Patient.name": "x"}, {"value-quantity": "lt90||/min"}],
    "GET /Patient/{id}/{member}": [{"date": "gt1970"}, {"_has:Provenance:target:agent": "Device/x"}],
    "PUT /{type}": [{"identifier": "http://x.org|1"}],
    "PATCH /{type}": [{"_id": "o1"}],
    "DELETE /{type}": [{"identifier": "http://x.org|2"}],
}
"""Queries that are right."""
_numbers: Counter[str] = Counter()
_answers: Counter[str] = Counter()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make every other request of an operation one that names what is stored, and every fourth one that is right."""
    operation = f"{case.method} {case.path}"
    number = _numbers[operation]
    _numbers[operation] += 1
    if "minimal" in str((case.headers or {}).get("Prefer", "")):
        case.headers["Prefer"] = "return=OperationOutcome"  # OpenAPI cannot say that a body may be absent
    if number % 2:
        return
    kind = next((it for it in STORED if case.path.startswith(f"/{it}/")), "Observation")
    values = {"type": kind, "id": STORED[kind], "version": "1", "name": "Observation-1.ndjson", "member": "Observation"}
    parts = case.path_parameters
    parts |= {name: values[name] for name in parts}
    if number % 4 == 0:
        case.query = QUERIES.get(operation, [{}])[number // 4 % len(QUERIES.get(operation, [{}]))]
        case.headers = {"Prefer": "respond-async"} if "export" in case.path else {}
        case.body = [] if "json-patch" in str(case.media_type) else BODIES.get(operation, case.body)
    if isinstance(case.body, dict) and "type" in parts and case.method != "PATCH" and case.path != "/{type}/_search":
        case.body = case.body | {"resourceType": kind} | ({"id": parts["id"]} if "id" in parts else {})


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count an answer."""
    _answers[f"{case.method} {case.path} {response.status_code}"] += 1


def _write() -> None:
    Path(os.environ["FUZZ_ANSWERS"]).write_text(json.dumps(_answers), encoding="utf-8")


atexit.register(_write)
