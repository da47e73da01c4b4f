"""``schemathesis`` makes requests of the server's own ``/openapi.json``; each is answered, in time, and as it says.

``AUSCULTA_FUZZ_EXAMPLES`` makes the run longer (``make bench-fhir-fuzz``), ``AUSCULTA_FUZZ_SEED`` another one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from fhir_adapter.rest.openapi import path_of
from fhir_adapter.rest.routes import ROUTES
from fhir_adapter.testing import LoopbackServer
from kernel.tables import exports, jobs
from kernel.testing import FakeClock
from service.api import http_application
from service.application import Application, build
from service.settings import load

EXAMPLES = int(os.environ.get("AUSCULTA_FUZZ_EXAMPLES", "4"))
SEED = int(os.environ.get("AUSCULTA_FUZZ_SEED", "1"))
LONGEST_S = 10
"""A request that takes longer hangs."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "x"}], "birthDate": "1980-01-01"}
HEART_RATE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": HEART_RATE,
    "subject": {"reference": "Patient/p1"},
    "valueQuantity": {"value": 72, "system": "http://unitsofmeasure.org", "code": "/min"},
}
GROUP = {"resourceType": "Group", "id": "g1", "type": "person", "actual": True}
SUBSCRIPTION = {
    "resourceType": "Subscription",
    "id": "s1",
    "status": "requested",
    "reason": "x",
    "criteria": "Observation?status=final",
    "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.2:1/hook", "payload": "application/fhir+json"},
}


@dataclass
class Site:
    """A server without workers, with a few resources."""

    application: Application
    url: str
    #: Ids of what is stored, by the first segment of a path.
    stored: dict[str, str]


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    hosts = {"subscription_hosts": ("127.0.0.2",)}
    application = build(load({}, None, data_dir=folder, device="cpu", **hosts), clock=FakeClock())
    application.worker.register()
    with closing(LoopbackServer(http_application(application))) as web:
        url = f"{web.url}/fhir"
        stored = {}
        for resource in (PATIENT, OBSERVATION, GROUP, SUBSCRIPTION):
            answer = httpx.put(f"{url}/{resource['resourceType']}/{resource['id']}", json=resource, timeout=30)
            assert answer.status_code == 201, answer.text
            stored[str(resource["resourceType"])] = str(resource["id"])
        for name in ("$export-status", "$export-file"):
            export = httpx.get(f"{url}/$export", headers={"Prefer": "respond-async"}, timeout=30)
            stored[name] = export.headers["Content-Location"].rpartition("/")[2]
        run_all(application)
        yield Site(application=application, url=url, stored=stored)
    application.close()


def run_all(application: Application) -> None:
    while application.worker.run_one():
        pass


def fuzzed(site: Site, folder: Path) -> tuple[str, dict[str, dict[int, int]]]:
    """Return what schemathesis found, empty when it found nothing, and the answers by operation and status."""
    answers = folder / "answers.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{site.url}/openapi.json", "--url", site.url),
        *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--no-shrink"),
        *("--checks", ",".join(CHECKS), "--request-timeout", str(LONGEST_S), "--workers", "1", "--warnings", "off"),
    ]
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parent),
        "SCHEMATHESIS_HOOKS": "fhir_hooks",
        "FUZZ_STORED": json.dumps(site.stored),
        "FUZZ_ANSWERS": str(answers),
    }
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    counted: dict[str, dict[int, int]] = {}
    for name, number in json.loads(answers.read_text()).items():
        operation, _, status = name.rpartition(" ")
        counted.setdefault(operation, {})[int(status)] = number
    return (run.stdout + run.stderr if run.returncode else ""), counted


@pytest.mark.timeout(300 if EXAMPLES <= 10 else 0)
def test_every_request_is_answered_in_time_and_as_openapi_states(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as site:
        found, answers = fuzzed(site, tmp_path)
        if found:
            pytest.fail(found)
        for operation in (f"{route.method} {path_of(route)}" for route in ROUTES):
            statuses = answers[operation]
            is_full = "export" in operation and 429 in statuses  # so many exports are kept
            assert min(statuses) < 300 or is_full, (operation, statuses)
        run_all(site.application)
        with site.application.database.read() as connection:
            states = connection.execute(select(exports.c.state)).scalars().all()
            parked = connection.execute(select(jobs.c.step).where(jobs.c.status == "parked")).scalars().all()
        assert set(states) <= {"complete", "cancelled"}
        assert parked == []
