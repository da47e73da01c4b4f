"""The least that a FHIR server in Python can do: FastAPI, validation by ``fhir.resources``, a commit for each request.

``python -m benchmarks.bare PORT FOLDER`` serves ``POST /fhir/Observation``: it parses and validates the body, assigns
an id and a version, stores it in SQLite (WAL, ``synchronous=FULL``) in a transaction of its own, and answers 201. It
has no index, no history, no audit, no search and no triggers; the endpoint runs on the event loop, which is its
fastest form.
"""

import sqlite3
import sys
import uuid
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fhir.resources.R4B.observation import Observation


def application(folder: Path) -> FastAPI:
    """Return the application; its database is a new file in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "bare.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE resources (id TEXT PRIMARY KEY, content BLOB NOT NULL)")
    app = FastAPI(openapi_url=None)

    @app.get("/health/live")
    async def live() -> Response:
        return Response(b"{}", media_type="application/json")

    @app.post("/fhir/Observation")
    async def create(request: Request) -> Response:
        resource = orjson.loads(await request.body())
        Observation.model_validate(resource)
        resource["id"], resource["meta"] = str(uuid.uuid4()), {"versionId": "1"}
        content = orjson.dumps(resource)
        database.execute("INSERT INTO resources VALUES (?, ?)", (resource["id"], content))
        return Response(content, status_code=201, media_type="application/fhir+json")

    return app


if __name__ == "__main__":
    uvicorn.run(application(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), access_log=False, ws="none")
