"""PostgreSQL: durable FHIR creates, and ORU^R01 of thirty OBX from the socket to committed FHIR.

The database server, ``ausculta serve`` without a worker, one ``ausculta worker`` and the sender share this machine. Run
as ``python -m benchmarks.postgres``; with ``--other CHECKOUT`` that checkout runs too, in turns with this one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.cluster import cluster, new_database
from benchmarks.fhir_creates import request
from benchmarks.load import Load, Loader
from benchmarks.measure import in_turns, table
from benchmarks.mllp_messages import message
from benchmarks.processes import ServerProcess

ROUNDS: Final = 5
CREATES: Final = 1500
MESSAGES: Final = 150
CONNECTIONS: Final = 16
LONGEST_S: Final = 60.0

_BUSY: Final = "SELECT count(*) FROM inbox WHERE state IS DISTINCT FROM 'done'"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A server, and the worker beside it on the same database."""

    server: ServerProcess
    database: str


@contextmanager
def pair(program: Path, folder: Path, database: str) -> Iterator[Pair]:
    """Run a server without a worker, and a worker.

    Parameters
    ----------
    program
        The ``ausculta`` command to run.
    folder
        Folder of their data.
    database
        URL of an empty database.
    """
    folder.mkdir()
    settings = {"DATABASE_URL": database, "WORKER_THREADS": "0", "WORKER_PROCESSES": "0"}
    with ServerProcess(folder, settings, program=program) as server, (folder / "worker.log").open("wb") as log:
        server.wait_ready()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AUSCULTA_")}
        own = {"DATA_DIR": str(server.data), "DATABASE_URL": database, "LOG_LEVEL": "WARNING"}
        worker = subprocess.Popen(
            [str(program), "worker"],
            env=environment | {f"AUSCULTA_{name}": value for name, value in own.items()},
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            yield Pair(server=server, database=database.replace("+psycopg", ""))
        finally:
            worker.kill()
            worker.wait()


def creates_per_second(loader: Loader, one: Pair) -> float:
    """Return the creates that were answered per second.

    Parameters
    ----------
    loader
        The sending process.
    one
        The server.
    """
    requests = [request(number) for number in range(CREATES)]
    load = Load(port=one.server.ports.http, protocol="http", connections=CONNECTIONS, requests=requests)
    return loader.run(load).per_second


def messages_per_second(loader: Loader, one: Pair) -> float:
    """Return the messages that were accepted and converted per second, until the last one is stored.

    Parameters
    ----------
    loader
        The sending process.
    one
        The server and its worker.
    """
    requests = [message() for _ in range(MESSAGES)]
    load = Load(port=one.server.ports.mllp, protocol="mllp", connections=CONNECTIONS, requests=requests)
    begun = time.perf_counter()
    loader.run(load)
    with psycopg.connect(one.database, autocommit=True) as connection:
        while (left := connection.execute(_BUSY).fetchone()) != (0,):
            if time.perf_counter() > begun + LONGEST_S:
                raise TimeoutError(f"messages that were not converted: {left}")
            time.sleep(0.02)
    return MESSAGES / (time.perf_counter() - begun)


def main(other: Path | None = None) -> dict[str, Any]:
    """Measure, print a table and return its figures.

    Parameters
    ----------
    other
        Another checkout with its own virtual environment, which is measured in turns with this one.
    """
    programs = {"this": Path(sys.executable).parent / "ausculta"}
    if other is not None:
        programs["other"] = other / ".venv" / "bin" / "ausculta"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loader = stack.enter_context(Loader())
        prefix = stack.enter_context(cluster())
        pairs = {
            name: stack.enter_context(pair(program, folder / name, new_database(prefix, f"bench_{name}")))
            for name, program in programs.items()
        }
        time.sleep(8)  # the models are loaded in the background
        found = {
            "creates": _rounds(creates_per_second, loader, pairs),
            "messages": _rounds(messages_per_second, loader, pairs),
        }
    print(_report(found))
    return found


def _rounds(measure: Any, loader: Loader, pairs: Mapping[str, Pair]) -> dict[str, float]:
    variants = {name: lambda one=one: measure(loader, one) for name, one in pairs.items()}
    for warm_up in variants.values():
        warm_up()
    for one in pairs.values():  # PostgreSQL does so by itself, a minute later
        with psycopg.connect(one.database, autocommit=True) as connection:
            connection.execute("ANALYZE")
    return {name: round(statistics.median(rates), 1) for name, rates in in_turns(variants, ROUNDS).items()}


def _report(found: Mapping[str, Mapping[str, float]]) -> str:
    titles = {"creates": "durable creates/s, 16 connections", "messages": "30-OBX ORU from MLLP to FHIR/s"}
    names = list(found["creates"])
    rows = [["", *names]]
    rows += [[titles[what], *(str(rates[name]) for name in names)] for what, rates in found.items()]
    return table(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="another checkout with its own .venv")
    chosen = parser.parse_args().other
    main(None if chosen is None else chosen.resolve())
