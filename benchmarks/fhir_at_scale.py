"""FHIR requests as the store grows: creates, reads, searches, transactions, import, export and memory.

Run as ``python -m benchmarks.fhir_at_scale --databases sqlite postgres --sizes 10000 1000000``. The store is filled
directly, with 200 Observations of each patient; what is measured goes through ``ausculta serve``, durable and audited.
No model reads these codes, so nothing runs behind a create.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.cluster import cluster, new_database
from benchmarks.fhir_requests import get, post
from benchmarks.load import Load, Loader
from benchmarks.measure import table
from benchmarks.processes import ServerProcess
from benchmarks.store_growth import CODES, OBSERVATIONS, Growing, body

SIZES: Final = (10_000, 1_000_000)
ROUNDS: Final = 3
ENTRIES: Final = 100
"""Resources of a transaction."""
IMPORTED: Final = 50_000
IDENTIFIERS: Final = "https://hospital.example/mrn"
LONGEST_S: Final = 1800.0
"""Of an export."""
_JSON: Final = {"Content-Type": "application/fhir+json"}

Requests = Callable[[random.Random], bytes]


def fill(folder: Path, url: str, size: int) -> None:
    """Store patients, and Observations until there are so many.

    Parameters
    ----------
    folder
        The server's data folder.
    url
        Of its database.
    size
        How many Observations.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Growing(folder, url)
    store.patients(max(1, size // OBSERVATIONS), IDENTIFIERS)
    store.fill(size)
    store.database.close()


def workloads(size: int) -> Mapping[str, tuple[int, int, Requests]]:
    """Name -> connections, requests of one round, and what makes one.

    Parameters
    ----------
    size
        Observations that are stored.
    """
    patients = max(1, size // OBSERVATIONS)

    def create(chosen: random.Random) -> bytes:
        return post("/fhir/Observation", body(chosen.randrange(size)))

    def transaction(chosen: random.Random) -> bytes:
        entries = [
            {
                "resource": orjson.loads(body(chosen.randrange(size))),
                "request": {"method": "POST", "url": "Observation"},
            }
            for _ in range(ENTRIES)
        ]
        return post("/fhir", orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}))

    def read(chosen: random.Random) -> bytes:
        return get(f"/fhir/Observation/o{chosen.randrange(size)}")

    def search(chosen: random.Random) -> bytes:
        subject = f"Patient/p{chosen.randrange(patients)}"
        return get(f"/fhir/Observation?subject={subject}&code={chosen.choice(CODES)}&_count=20")

    def updated(chosen: random.Random) -> bytes:
        return get(f"/fhir/Observation?_lastUpdated=gt2020-01-0{chosen.randrange(1, 9)}&_count=20")

    def chained(chosen: random.Random) -> bytes:
        identifier = f"{IDENTIFIERS}%7C{chosen.randrange(patients)}"
        return get(f"/fhir/Observation?subject:Patient.identifier={identifier}&code={chosen.choice(CODES)}&_count=20")

    return {
        "create, 1 connection": (1, 500, create),
        "create, 16 connections": (16, 3000, create),
        "create, 64 connections": (64, 3000, create),
        "read by id, 1 connection": (1, 1000, read),
        "read by id, 16 connections": (16, 4000, read),
        "search of 20 by patient and code, 1 connection": (1, 300, search),
        "search of 20 by patient and code, 16 connections": (16, 1500, search),
        "page of 20 by _lastUpdated, 16 connections": (16, 800, updated),
        "chained search of 20, 16 connections": (16, 800, chained),
        "transaction of 100, 1 connection": (1, 30, transaction),
        "transaction of 100, 4 connections": (4, 40, transaction),
    }


def measured(server: ServerProcess, loader: Loader, size: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what was measured, one kind of work after the other.

    Parameters
    ----------
    server
        Ready, and filled.
    loader
        The sending process.
    size
        Observations that are stored.
    """
    chosen = random.Random(size)
    for name, (connections, number, made) in workloads(size).items():
        rates, waits = list[float](), list[float]()
        for _ in range(ROUNDS + 1):
            requests = [made(chosen) for _ in range(number)]
            load = Load(port=server.ports.http, protocol="http", connections=connections, requests=requests)
            result = loader.run(load)
            rates.append(result.per_second)
            waits.extend(result.waits)
        each = ENTRIES if name.startswith("transaction") else 1
        p50, p99 = statistics.median(waits[number:]), statistics.quantiles(waits[number:], n=100)[-1]
        yield name, {"a second": statistics.median(rates[1:]) * each, "p50 ms": p50 * 1000, "p99 ms": p99 * 1000}
    yield "memory of all processes, MiB", {"a second": server.memory() / 2**20}


def imported(server: ServerProcess, folder: Path) -> float:
    """Return the resources a second of ``ausculta send fhir``, from its start to its end.

    Parameters
    ----------
    server
        To which it sends.
    folder
        For the file.
    """
    file = folder / "observations.ndjson"
    file.write_bytes(b"".join(body(number, f"i{number}") + b"\n" for number in range(IMPORTED)))
    begun = time.perf_counter()
    command = [str(Path(sys.executable).parent / "ausculta"), "send", "fhir", str(file), "--url", f"{server.url}/fhir"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return IMPORTED / (time.perf_counter() - begun)


def exported(server: ServerProcess) -> tuple[float, int]:
    """Export every Observation and fetch the files; return the resources a second and the most memory meanwhile.

    Parameters
    ----------
    server
        Whose.
    """
    most, lines = 0, 0
    with httpx.Client(timeout=60.0) as client:
        begun = time.perf_counter()
        asked = client.get(f"{server.url}/fhir/$export?_type=Observation", headers={"Prefer": "respond-async"})
        place = asked.raise_for_status().headers["Content-Location"]
        while (answer := client.get(place)).status_code == 202:
            most = max(most, server.memory())
            if time.perf_counter() > begun + LONGEST_S:
                raise TimeoutError("the export did not end")
            time.sleep(0.2)
        for file in answer.raise_for_status().json()["output"]:
            with client.stream("GET", file["url"]) as content:
                lines += sum(part.count(b"\n") for part in content.iter_bytes())
            most = max(most, server.memory())
    return lines / (time.perf_counter() - begun), most


def run(kind: str, size: int, prefix: str, folder: Path, processes: int) -> dict[str, dict[str, float]]:
    """Fill one database, and measure it.

    Parameters
    ----------
    kind
        ``sqlite`` or ``postgres``.
    size
        Observations that are stored.
    prefix
        Of the URLs of PostgreSQL's databases.
    folder
        An empty one.
    processes
        That answer HTTP.
    """
    data = folder / "data"
    url = f"sqlite:///{data / 'ausculta.db'}" if kind == "sqlite" else new_database(prefix, f"scale_{size}")
    begun = time.perf_counter()
    fill(data, url, size)
    print(f"{kind}, {size:,}: filled with {size / (time.perf_counter() - begun):.0f} resources a second", flush=True)
    return of_filled(folder, url, size, processes)


def of_filled(folder: Path, url: str, size: int, processes: int) -> dict[str, dict[str, float]]:
    """Measure a server on a database that is filled; print each figure as it comes.

    Parameters
    ----------
    folder
        Holds its data folder.
    url
        Of its database.
    size
        Observations that are stored.
    processes
        That answer HTTP.
    """
    settings = {"HTTP_PROCESSES": str(processes)}
    server = ServerProcess(folder, settings if url.startswith("sqlite") else {**settings, "DATABASE_URL": url})
    found: dict[str, dict[str, float]] = {}

    def keep(name: str, figures: dict[str, float]) -> None:
        found[name] = {what: round(value, 1) for what, value in figures.items()}
        print(f"  {name}: {found[name]}", flush=True)

    with server, Loader() as loader:
        server.wait_ready()
        time.sleep(8)  # the models are loaded in the background
        for name, figures in measured(server, loader, size):
            keep(name, figures)
        keep("import by ausculta send", {"a second": imported(server, folder)})
        rate, most = exported(server)
        keep("export of all", {"a second": rate})
        keep("most memory while exporting, MiB", {"a second": most / 2**20})
    return found


def main(
    databases: Sequence[str] = ("sqlite", "postgres"), sizes: Sequence[int] = SIZES, processes: int = 1
) -> dict[str, Any]:
    """Measure, print a table and return its figures.

    Parameters
    ----------
    databases
        ``sqlite``, ``postgres``, or both.
    sizes
        Observations that are stored.
    processes
        That answer HTTP.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    with ExitStack() as stack:
        prefix = stack.enter_context(cluster()) if "postgres" in databases else ""
        for kind in databases:
            for size in sizes:
                with tempfile.TemporaryDirectory() as name:
                    found[f"{kind}, {size:,}"] = run(kind, size, prefix, Path(name), processes)
    print(_report(found))
    return found


def _report(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    names = list(dict.fromkeys(name for figures in found.values() for name in figures))
    rows = [["a second (p50, p99 in ms)", *found]]
    for name in names:
        cells = []
        for figures in found.values():
            one = figures[name]
            times = f" ({one['p50 ms']}, {one['p99 ms']})" if "p50 ms" in one else ""
            cells.append(f"{one['a second']:.0f}{times}")
        rows.append([name, *cells])
    return table(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"], choices=["sqlite", "postgres"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--http-processes", type=int, default=1)
    given = parser.parse_args()
    main(given.databases, given.sizes, given.http_processes)
