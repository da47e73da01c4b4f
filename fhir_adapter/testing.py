"""Shipped stand-ins: a real FHIR server on loopback, with its own database, for demonstrations and tests.

:class:`LoopbackServer` runs any ASGI application under uvicorn in a thread. :class:`StandInEhr` is the hospital's own
EHR: the same FHIR API as this server's, with a store of its own.
"""

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.http import HttpSettings, fhir_route
from fhir_adapter.store.document import Json, exact_values
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.search.query import LARGEST_COUNT
from fhir_adapter.store.store import Store
from fhir_adapter.store.upgrade import prepare_database
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.write import StoreWriter
from kernel.clock import RandomIds, SystemClock
from kernel.db import Database
from privacy.audit import AuditLog
from privacy.authorize import LoopbackAuthorizer
from privacy.keys import KeyRing
from privacy.principal import Principal

_OWN_ACCESS = Principal(
    client="Stand-in EHR", client_address="127.0.0.1", server="Stand-in EHR", server_address="127.0.0.1"
)


class LoopbackServer:
    """An ASGI application, served on a free port of 127.0.0.1 until closed.

    Parameters
    ----------
    app
        The application to serve.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)  # clients can connect from now on; they are answered when the thread runs
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="loopback-server", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StandInEhr:
    """A FHIR server that stands in for the hospital's EHR.

    Parameters
    ----------
    folder
        Folder of its database and keys.

    Attributes
    ----------
    url
        Base URL of its FHIR API.
    requests
        Number of HTTP requests received.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = Database.open(f"sqlite:///{folder / 'ehr.db'}")
        prepare_database(self._database)
        clock, ids = SystemClock(), RandomIds()
        audit = AuditLog(KeyRing.open_or_create(folder / "ehr-keys.json"), clock, ids)
        self._writer = StoreWriter(Validator(), audit, (), clock, ids)
        backend = Backend(self._database, Store(), self._writer, audit, LoopbackAuthorizer(), clock)
        app = FastAPI(openapi_url=None)
        app.router.routes.append(fhir_route(backend, ids, HttpSettings(version="stand-in")))
        self.requests = 0
        self._counting = threading.Lock()
        self._server = LoopbackServer(self._counted(app))
        self.url = f"{self._server.url}/fhir"

    def received(self, kind: str) -> list[Json]:
        """Return every current resource of a type, newest first, its decimals exact."""
        found: list[StoredVersion] = []
        query = f"_count={LARGEST_COUNT}"
        with self._database.read() as connection:
            page = find(connection, parse(kind, query))
            found += page.found
            while page.cursor is not None:
                page = find(connection, parse(kind, f"{query}&_cursor={page.cursor.text()}"))
                found += page.found
        return [exact_values(version.content) for version in found]

    def put(self, resource: Json) -> StoredVersion:
        """Store a resource that has an id, as the hospital's own systems would."""
        prepared = self._writer.prepare([resource])
        (done,) = self._database.write(lambda tx: self._writer.apply(tx, prepared, _OWN_ACCESS))
        return done.version

    def close(self) -> None:
        """Stop serving and close the database."""
        self._server.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                with self._counting:
                    self.requests += 1
            await app(scope, receive, send)

        return count
