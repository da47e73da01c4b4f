"""A server, its client, and access to its components."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
from fastapi import FastAPI
from sqlalchemy import func, select

from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.http import HttpSettings, fhir_route
from fhir_adapter.store.store import Store
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.write import StoreWriter
from fhir_adapter.testing import LoopbackServer
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.tables import audit_log, resource_versions
from kernel.testing import FakeClock, SequenceIds
from privacy.audit import AuditLog
from privacy.authorize import Request
from privacy.keys import KeyRing
from privacy.principal import Principal


@dataclass
class Changed:
    """An observer that records the changes it gets, and raises when ``fails`` is set."""

    calls: list[tuple[list[str], Principal]] = field(default_factory=list)
    fails: bool = False

    def on_change(self, tx: Any, changes: list[StoredVersion], principal: Principal) -> None:
        if self.fails:
            raise RuntimeError("canary-secret")
        self.calls.append(([change.reference for change in changes], principal))


@dataclass
class RecordingAuthorizer:
    """Permits everything except what ``refuses`` selects, and records the requests."""

    requests: list[Request] = field(default_factory=list)
    refuses: Callable[[Request], bool] = lambda _request: False

    def require(self, principal: Principal, request: Request) -> None:
        self.requests.append(request)
        if self.refuses(request):
            raise Problem(Category.FORBIDDEN, "this is not allowed")


@dataclass
class Server:
    """The parts that a test can inspect."""

    client: httpx.Client
    database: Database
    writer: StoreWriter
    authorizer: RecordingAuthorizer
    store: Store
    clock: FakeClock
    changed: Changed
    url: str
    app: FastAPI

    def post(self, resource: dict[str, Any], **headers: str) -> httpx.Response:
        return self.client.post(f"/{resource['resourceType']}", json=resource, headers=_named(headers))

    def put(self, resource: dict[str, Any], **headers: str) -> httpx.Response:
        url = f"/{resource['resourceType']}/{resource['id']}"
        return self.client.put(url, json=resource, headers=_named(headers))

    def transact(self, *entries: dict[str, Any], kind: str = "transaction") -> httpx.Response:
        return self.client.post("/", json={"resourceType": "Bundle", "type": kind, "entry": list(entries)})

    def count(self, table: Any = resource_versions) -> int:
        with self.database.read() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    def audited(self) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            rows = connection.execute(select(audit_log.c.event).order_by(audit_log.c.seq)).scalars().all()
        return [orjson.loads(row) for row in rows]


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def running(folder: Path, *, body_seconds: float = 0.5) -> Iterator[Server]:
    """Serve the migrated database ``fhir.db`` of a folder."""
    clock, ids, changed = FakeClock(), SequenceIds(), Changed()
    database = Database.open(f"sqlite:///{folder / 'fhir.db'}")
    store = Store()
    audit = AuditLog(KeyRing.open_or_create(folder / "keys.json"), clock, ids)
    writer, authorizer = StoreWriter(Validator(), audit, (changed,), clock, ids), RecordingAuthorizer()
    backend = Backend(database, store, writer, audit, authorizer, clock)
    app = FastAPI(openapi_url=None)
    app.router.routes.append(fhir_route(backend, ids, HttpSettings(version="1.2.3", body_seconds=body_seconds)))
    with LoopbackServer(app) as loopback:
        url = f"{loopback.url}/fhir"
        headers = {"Content-Type": "application/fhir+json"}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            yield Server(
                client=client,
                database=database,
                writer=writer,
                authorizer=authorizer,
                store=store,
                clock=clock,
                changed=changed,
                url=url,
                app=app,
            )
    database.close()
