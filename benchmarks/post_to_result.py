"""From the POST of the last Observation of a set to its RiskAssessment in the store: p50 and p95.

The other vital signs are stored already. The time is measured from the request's first byte to the commit of the
result, which is read from the server's database and not over HTTP, so that the server is not slowed down. Run as
``python -m benchmarks.post_to_result``.
"""

import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.hospital import drain
from benchmarks.items import observations
from benchmarks.measure import percentiles, table
from benchmarks.processes import ServerProcess

PATIENTS: Final = 200
_PATIENCE_S: Final = 20.0
_JSON: Final = {"Content-Type": "application/fhir+json"}
_RESULT: Final = "SELECT count(*) FROM results WHERE subject = ? AND kind = 'prediction'"


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, ServerProcess(Path(name)) as server, httpx.Client() as client:
        server.wait_ready()
        time.sleep(5)  # the models are loaded in the background
        last = {f"p{number}": admit(client, server.url, f"p{number}") for number in range(PATIENTS)}
        drain(server, lambda: 0, patience_s=120.0)  # no destination is configured
        with closing(sqlite3.connect(f"file:{server.data / 'ausculta.db'}?mode=ro", uri=True)) as database:
            timed = [time_one(client, server.url, database, patient, body) for patient, body in last.items()]
        for patient in last:
            _check(client, server.url, patient)
    answered, stored = zip(*timed, strict=True)
    found: dict[str, Any] = {"patients": PATIENTS, "to_201": percentiles(answered), "to_result": percentiles(stored)}
    rows = [["", "p50 ms", "p95 ms"]]
    rows += [[what, *(str(value) for value in found[what].values())] for what in ("to_201", "to_result")]
    print(table(rows))
    return found


def admit(client: httpx.Client, url: str, patient: str) -> bytes:
    """Store a patient and all Observations except the last; return the last."""
    *early, last = observations(patient, datetime.now(UTC))
    person = {"resourceType": "Patient", "id": patient, "birthDate": "1950-03-01"}
    entries = [
        {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}
        for resource in (person, *early)
    ]
    bundle = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    client.post(f"{url}/fhir", content=bundle, headers=_JSON, timeout=30.0).raise_for_status()
    del last["id"]
    return orjson.dumps(last)


def time_one(
    client: httpx.Client, url: str, database: sqlite3.Connection, patient: str, body: bytes
) -> tuple[float, float]:
    """Return the seconds until the answer, and until the result."""
    begun = time.perf_counter()
    client.post(f"{url}/fhir/Observation", content=body, headers=_JSON).raise_for_status()
    answered = time.perf_counter()
    while not database.execute(_RESULT, (f"Patient/{patient}",)).fetchone()[0]:
        if time.perf_counter() - begun > _PATIENCE_S:
            raise TimeoutError(patient)
        time.sleep(0.001)
    return answered - begun, time.perf_counter() - begun


def _check(client: httpx.Client, url: str, patient: str) -> None:
    """Check that the result is also found over FHIR."""
    answer = client.get(f"{url}/fhir/RiskAssessment?subject=Patient/{patient}").json()
    assert any("prediction" in entry["resource"] for entry in answer["entry"])


if __name__ == "__main__":
    main()
