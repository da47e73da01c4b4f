"""A real application with results in it, filled through its own components, and a browser's view of its console."""

import asyncio
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydicom import dcmread
from sqlalchemy import insert, select
from starlette.types import ASGIApp

from dicom_node.listener.association import ReceivedInstance
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.rest.steps import Call
from fhir_adapter.rest.writes import create, update
from fhir_adapter.store.write import Target
from inference import registry
from kernel.errors import Category, Problem
from kernel.outbox import Delivery
from kernel.tables import audit_log, outbox, results
from kernel.testing import FakeClock, SequenceIds
from privacy.principal import Principal
from service.api import console_services
from service.application import Application, build
from service.console import console_router
from service.settings import load

HOST = "http://127.0.0.1:8080"
SAME_ORIGIN = {"origin": HOST, "sec-fetch-site": "same-origin"}
SEEDER = Call(principal=Principal(client="test", client_address="127.0.0.1"), base=f"{HOST}/fhir")

VITALS = (
    ("9279-1", "Respiratory rate", "22", "/min"),
    ("59408-5", "Oxygen saturation", "93", "%"),
    ("8480-6", "Systolic blood pressure", "105", "mm[Hg]"),
    ("8867-4", "Heart rate", "112", "/min"),
    ("8310-5", "Body temperature", "38.50", "Cel"),
    ("9269-2", "Glasgow coma score total", "15", "{score}"),
    ("3150-6", "Inhaled oxygen concentration", "21", "%"),
)
"""NEWS2 2 + 2 + 1 + 2 + 1 + 0 + 0 = 8, high."""


def patient(application: Application, name: str) -> str:
    number = {"system": "urn:ausculta:authority:EXAMPLE", "value": name}
    content = {"birthDate": "1950-03-01", "gender": "female", "identifier": [number]}
    resource = {"resourceType": "Patient", "id": name} | content
    api = application.fhir
    api.complete(update(api, SEEDER, Target(type="Patient", id=name), json.dumps(resource).encode()))
    return f"Patient/{name}"


def observe(application: Application, subject: str, code: str, display: str, value: str, unit: str) -> None:
    body = """{"resourceType": "Observation", "status": "final",
      "code": {"coding": [{"system": "http://loinc.org", "code": "%s", "display": "%s"}]},
      "subject": {"reference": "%s"}, "effectiveDateTime": "2026-01-15T12:40:00.0+01:00",
      "valueQuantity": {"value": %s, "unit": "%s", "system": "http://unitsofmeasure.org", "code": "%s"}}"""
    filled = body % (code, display, subject, value, unit, unit)
    api = application.fhir
    api.complete(create(api, SEEDER, "Observation", filled.encode()))


def work(application: Application) -> None:
    while application.worker.run_one():
        pass


def result_of(application: Application, subject: str) -> Any:
    newest = select(results).where(results.c.subject == subject).order_by(results.c.seq.desc())
    with application.database.read() as connection:
        return connection.execute(newest).first()


def add_result(application: Application, **values: Any) -> str:
    """Write a results row as the publisher would, for outcomes that no bundled model gives."""
    row = {
        "id": "0" * 63 + "1",
        "model": "news2",
        "version": "1.0.0",
        "digest": "d" * 64,
        "status": "active",
        "kind": "prediction",
        "summary": "a summary",
        "subject": "Patient/p1",
        "resources": "[]",
        "inputs": "[]",
        "computed_at": application.clock.now(),
    } | values
    application.database.write(lambda tx: tx.execute(insert(results), row))
    return str(row["id"])


def park_job(application: Application, detail: str = "the message has no patient") -> str:
    application.database.write(lambda tx: application.jobs.enqueue(tx, "convert-hl7", {"message": "m-1"}))
    job = application.database.write(lambda tx: application.jobs.claim(tx, "w"))
    assert job is not None
    problem = Problem(Category.INCORRECT, detail, diagnostics="Mrs PHI")
    application.database.write(lambda tx: application.jobs.fail(tx, job, problem))
    return job.id


def park_delivery(application: Application, about: str) -> str:
    sent = Delivery(destination="ehr", idempotency_key="k-1", subject=about, patient="Patient/p1", payload=b"{}")
    application.database.write(lambda tx: application.outbox.add(tx, sent))
    with application.database.read() as connection:
        queued = application.outbox.pending(connection, "ehr")[-1]
    problem = Problem(Category.CONFLICT, "the EHR knows another patient")
    application.database.write(lambda tx: application.outbox.failed(tx, queued, problem, park=True))
    return queued.id


def audit_events(application: Application) -> list[dict[str, Any]]:
    with application.database.read() as connection:
        return [json.loads(event) for event in connection.execute(select(audit_log.c.event)).scalars()]


def status_of_delivery(application: Application, name: str) -> str:
    with application.database.read() as connection:
        return str(connection.execute(select(outbox.c.status).where(outbox.c.id == name)).scalar_one())


def new_application(folder: Path, clock: FakeClock, **settings: Any) -> Application:
    application = build(load({}, data_dir=folder, **settings), clock=clock, ids=SequenceIds())
    at, version = clock.now(), "1.1.0"  # of the demonstration, which comes as shadow
    application.database.write(lambda tx: registry.set_status(tx, "cxr-pneumonia", version, "active", by="test", at=at))
    return application


def shut(application: Application) -> None:
    """Close an application whose worker never started: the tests do its work themselves, one job at a time."""
    application.runtime.close()
    for destination in application.destinations.values():
        destination.close()
    application.database.close()


class Browser:
    """Sends requests to an ASGI application as a browser on this host does."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))

    def get(self, path: str, **headers: str) -> httpx.Response:
        return asyncio.run(self._request("GET", path, headers, None))

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        return asyncio.run(self._request("POST", path, headers or SAME_ORIGIN, form))

    async def _request(self, method: str, path: str, headers: dict[str, str], form: Any) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=self._transport, base_url=HOST) as client:
            return await client.request(method, path, headers=sent, data=form)


def browser_of(application: Application) -> Browser:
    app = FastAPI(openapi_url=None)
    app.include_router(console_router(console_services(application)))
    return Browser(app)


def bring_x_ray(application: Application, clock: FakeClock) -> None:
    """Store an X-ray as the DICOM listener does, and advance the clock until the study is complete."""
    file = chest_x_ray(ChestXRay(consolidation=True))
    dataset = dcmread(io.BytesIO(file))
    meta = dataset.file_meta
    start = 128 + 4 + 12 + meta.FileMetaInformationGroupLength
    application.imaging_studies.accept(
        ReceivedInstance(
            association="a-1",
            principal=Principal(client="MODALITY", client_address="127.0.0.1"),
            called_ae="AUSCULTA",
            SOPClassUID=meta.MediaStorageSOPClassUID,
            SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
            TransferSyntaxUID=meta.TransferSyntaxUID,
            encoded=file[start:],
        )
    )
    application.imaging_studies.association_closed("a-1")
    clock.advance(31)
    work(application)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """An application with results, and their ids."""

    application: Application
    browser: Browser
    news2: str
    refused: str
    x_ray: str
