"""Patients in the shape of a real EHR: imported by ``ausculta send fhir``, then each search against a plain filter.

Run as ``python -m benchmarks.real_patients BUNDLES --patients 1000``; BUNDLES is a folder of Synthea's Bundles of R4,
one patient each, of which :mod:`benchmarks.patients` makes as many as are wanted. It exits with 1 when an answer is
wrong.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import httpx
import orjson

from benchmarks.measure import table
from benchmarks.patient_queries import QUERIES
from benchmarks.patients import patients
from benchmarks.processes import ServerProcess

COUNT: Final = 1000
"""Matches on one page."""


def written(bundles: Path, folder: Path, number: int) -> Counter[str]:
    """Write the resources of patients as NDJSON, one file a type; return how many there are of each.

    Parameters
    ----------
    bundles
        Folder of the patients that are copied.
    folder
        Where the files are written.
    number
        How many patients.
    """
    counts: Counter[str] = Counter()
    with ExitStack() as opened:
        files: dict[str, IO[bytes]] = {}
        for resource in patients(bundles, number):
            kind = resource["resourceType"]
            if kind not in files:
                files[kind] = opened.enter_context((folder / f"{kind}.ndjson").open("wb"))
            files[kind].write(orjson.dumps(resource) + b"\n")
            counts[kind] += 1
    return counts


def expected(folder: Path) -> dict[str, set[str]]:
    """Return the ids that each query must find, read line by line.

    Parameters
    ----------
    folder
        Of the files.
    """
    found: dict[str, set[str]] = {query: set() for query in QUERIES}
    for kind in {query.partition("?")[0] for query in QUERIES}:
        filters = [(query, holds) for query, holds in QUERIES.items() if query.startswith(f"{kind}?")]
        with (folder / f"{kind}.ndjson").open("rb") as lines:
            for line in lines:
                resource = orjson.loads(line)
                for query, holds in filters:
                    if holds(resource):
                        found[query].add(resource["id"])
    return found


def searched(client: httpx.Client, query: str) -> tuple[list[str], list[float]]:
    """Return the ids on all pages of a search, and the seconds that each page took.

    Parameters
    ----------
    client
        Of the API.
    query
        Type and parameters.
    """
    url: str | None = f"{query}&_count={COUNT}&_elements=meta"
    ids, taken = list[str](), list[float]()
    while url is not None:
        begun = time.perf_counter()
        page = client.get(url).raise_for_status().json()
        taken.append(time.perf_counter() - begun)
        ids += [entry["resource"]["id"] for entry in page.get("entry", ())]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return ids, taken


def main(bundles: Path, number: int) -> dict[str, Any]:
    """Import, compare, print and return the figures.

    Parameters
    ----------
    bundles
        Folder of the patients that are copied.
    number
        How many patients.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "patients"
        folder.mkdir()
        counts = written(bundles, folder, number)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{counts.total()} resources of {number} patients, {size / 2**20:.0f} MiB", flush=True)
        with ServerProcess(Path(name), {"WORKER_THREADS": "0"}) as server:
            server.wait_ready()
            begun = time.perf_counter()
            _send(server, folder)
            seconds = time.perf_counter() - begun
            print(f"imported in {seconds:.0f} s: {counts.total() / seconds:.0f} resources a second", flush=True)
            with httpx.Client(base_url=f"{server.url}/fhir/", timeout=120) as client:
                wrong = _compared(client, counts, expected(folder))
            print(f"memory of all processes: {server.memory() / 2**20:.0f} MiB")
    if wrong:
        sys.exit(f"wrong answers: {', '.join(wrong)}")
    return {"resources": counts.total(), "per_second": round(counts.total() / seconds), "queries": len(QUERIES)}


def _send(server: ServerProcess, folder: Path) -> None:
    """Send the files: first what others refer to."""
    first = [folder / f"{kind}.ndjson" for kind in ("Organization", "Practitioner", "Location", "Patient", "Encounter")]
    rest = [file for file in sorted(folder.iterdir()) if file not in first]
    command = [str(Path(sys.executable).parent / "ausculta"), "send", "fhir", "--url", f"{server.url}/fhir"]
    subprocess.run([*command, *(str(it) for it in (*first, *rest) if it.exists())], check=True, cwd=folder)


def _compared(client: httpx.Client, counts: Mapping[str, int], wanted: Mapping[str, set[str]]) -> list[str]:
    """Return what was answered wrongly."""
    wrong = [
        kind
        for kind, number in counts.items()
        if client.get(f"{kind}?_summary=count").raise_for_status().json()["total"] != number
    ]
    firsts, matches = list[float](), 0
    rows = [["search", "matches", "pages", "first page, ms", "all pages, ms a page"]]
    for query, ids in wanted.items():
        found, taken = searched(client, query)
        if len(found) != len(set(found)) or set(found) != ids:
            wrong.append(query)
        firsts.append(taken[0])
        matches += len(found)
        rows.append([query, str(len(found)), str(len(taken)), f"{taken[0] * 1000:.1f}", f"{_each(taken):.1f}"])
    print(table(rows))
    print(f"{len(wanted)} searches with {matches} matches; first page p50 {statistics.median(firsts) * 1000:.1f} ms")
    return wrong


def _each(taken: list[float]) -> float:
    return statistics.fmean(taken) * 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path)
    parser.add_argument("--patients", type=int, default=1000)
    given = parser.parse_args()
    main(given.bundles, given.patients)
