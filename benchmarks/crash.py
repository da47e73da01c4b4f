"""Kills the real server, or one of its processes, at random moments while three listeners receive data.

Nothing may be lost or duplicated.

Senders repeat each item until they get a receipt. At the end the harness waits until no work is left; every item that
was acknowledged must be stored and have exactly one result at each stand-in that it concerns
(:mod:`benchmarks.verdict`).
Run as ``python -m benchmarks.crash --kills 20 --seed 1``, on PostgreSQL with ``--postgres``.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import cluster, new_database
from benchmarks.hospital import Hospital, drain, gather
from benchmarks.items import Interface
from benchmarks.processes import ServerProcess
from benchmarks.senders import Ledger, Sender
from benchmarks.verdict import Evidence, Verdict, check
from kernel.log import configure_logging

SENDERS: Final[Mapping[Interface, int]] = {Interface.HL7: 2, Interface.FHIR: 2, Interface.DICOM: 2}

IMAGING_MODEL: Final = "cxr-pneumonia"
"""Comes as shadow, because it is a demonstration; its results are delivered only when it is active."""

KILLED_AT_FIRST_START: Final = 2
"""Number of first kills, during the creation of the database and the keys."""
KILLED_EARLY: Final = 0.2
"""Share of the kills during the start of the server."""
KILLED_WHEN_READY: Final = 0.25
"""Share of the kills immediately after the server is ready, when it resumes unfinished work."""
_AFTER_READY_S: Final = 0.3
ONE_PROCESS: Final = 0.5
"""Share of the kills of a running server that kill one of its processes, which the supervisor starts again."""
PROCESSES: Final = ("listeners", "worker-1", "worker-2")

PATIENCE_S: Final = 60.0
"""Longest time without progress at the end before the run gives up."""
LONGEST_S: Final = 3600.0
"""Longest wait at the end of a run."""

RESTS_EVERY: Final = 50
REST_S: Final = 120.0
"""Kills between two pauses of a long run, and the length of a pause, in which the queue becomes shorter."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    kills: int
    seed: int
    longest_uptime_s: float = 4.0
    """Longest time between readiness and the kill."""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a run."""

    kills: int
    acknowledged: Mapping[Interface, int]
    retries: Mapping[Interface, int]
    refused: tuple[str, ...]
    redeliveries: Mapping[str, int]
    verdict: Verdict
    evidence: Evidence
    starting_s: float
    """Median time from the start of the process to being ready."""
    seconds: float


def run(plan: Plan, folder: Path, progress: Callable[[str], None] = lambda _line: None) -> Outcome:
    """Send, kill and restart as planned, then gather the evidence.

    Parameters
    ----------
    plan
        Number of kills, seed and times.
    folder
        An empty folder; afterwards it holds the server's data, its log and the EHR's database.
    progress
        Called with one line of text for each step of the run.
    """
    started = time.monotonic()
    chance, ledger = random.Random(plan.seed), Ledger()
    with Hospital(folder) as hospital:
        server = ServerProcess(folder, hospital.settings | {"WORKER_PROCESSES": "2"} | dict(plan.settings))
        with server:
            starts: list[float] = []
            senders = _senders(server, ledger, hospital, plan.seed)
            for sender in senders:
                sender.start()
            for number in range(1, plan.kills + 1):
                how = 0.0 if number <= KILLED_AT_FIRST_START else chance.random()
                starts += _run_and_kill(server, chance, how, plan.longest_uptime_s)
                if number == min(KILLED_AT_FIRST_START, plan.kills):
                    server.command("models", "activate", IMAGING_MODEL)
                if not server.alive:
                    server.start()
                if number % 10 == 0:
                    progress(f"{number} kills, {sum(ledger.counts().values())} acknowledged")
                if number % RESTS_EVERY == 0:
                    _rest(server, hospital, starts)
            starts.append(server.wait_ready())
            _finish(senders)
            unfinished = drain(server, hospital.received, patience_s=PATIENCE_S, longest_s=LONGEST_S)
            progress(f"all senders have ended; {unfinished} jobs and deliveries are left")
            evidence = gather(hospital, server, unfinished=unfinished)
            server.stop()
        redeliveries = hospital.repeats()
    acknowledged = ledger.counts()
    return Outcome(
        kills=plan.kills,
        acknowledged=acknowledged,
        retries={interface: ledger.tries[interface] - count for interface, count in acknowledged.items()},
        refused=tuple(ledger.refused),
        redeliveries=redeliveries,
        verdict=check(ledger.items(), evidence),
        evidence=evidence,
        starting_s=sorted(starts)[len(starts) // 2],
        seconds=time.monotonic() - started,
    )


def _senders(server: ServerProcess, ledger: Ledger, hospital: Hospital, seed: int) -> Sequence[Sender]:
    return [
        Sender(interface, chr(ord("A") + number), server.ports, ledger, seed=seed * 100 + number, admit=hospital.admit)
        for interface, count in SENDERS.items()
        for number in range(count)
    ]


def _run_and_kill(server: ServerProcess, chance: random.Random, how: float, longest_s: float) -> list[float]:
    """Let the server run for some time and kill it; return its start time if it became ready."""
    if how < KILLED_EARLY:
        time.sleep(chance.uniform(0.0, 3.0))
        took = []
    else:
        took = [server.wait_ready()]
        time.sleep(chance.uniform(0.0, _AFTER_READY_S if how < KILLED_EARLY + KILLED_WHEN_READY else longest_s))
        if chance.random() < ONE_PROCESS:
            server.kill_one(chance.choice(PROCESSES))
            return took
    server.kill()
    return took


def _rest(server: ServerProcess, hospital: Hospital, starts: list[float]) -> None:
    starts.append(server.wait_ready())
    drain(server, hospital.received, patience_s=PATIENCE_S, longest_s=REST_S)


def _finish(senders: Sequence[Sender]) -> None:
    for sender in senders:
        sender.stop()
    for sender in senders:
        if not sender.join(60.0):
            msg = "a sender is still without a receipt"
            raise TimeoutError(msg)


def report(outcome: Outcome) -> str:
    """Return the result of a run as text for people."""
    rows = [f"{'interface':<10}{'acknowledged':>14}{'tries without receipt':>24}"]
    rows += [
        f"{interface:<10}{outcome.acknowledged[interface]:>14}{outcome.retries[interface]:>24}"
        for interface in outcome.acknowledged
    ]
    counts = {
        "kills": outcome.kills,
        "acknowledged": sum(outcome.acknowledged.values()),
        "lost": len(outcome.verdict.lost),
        "not yet delivered": len(outcome.verdict.undelivered),
        "duplicated": len(outcome.verdict.duplicated),
        "refused": len(outcome.refused),
    }
    repeats = ", ".join(f"{place} {count}" for place, count in outcome.redeliveries.items())
    rows += [
        "",
        ", ".join(f"{what} {count}" for what, count in counts.items()),
        f"deliveries that came again and converged: {repeats}",
        f"ready after {outcome.starting_s:.1f} s (median); {outcome.seconds:.0f} s in all",
    ]
    found = (
        *outcome.verdict.lost,
        *outcome.verdict.undelivered,
        *outcome.verdict.duplicated,
        *outcome.verdict.faults,
        *outcome.refused,
    )
    return "\n".join([*rows, *found[:40]])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run and print; the exit code is 1 when anything was lost, not delivered or duplicated."""
    parser = argparse.ArgumentParser(description="Kill the server at random moments and count what is lost.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--life", type=float, default=4.0, help="longest life between ready and killed, in seconds")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server of its own, not on SQLite")
    parser.add_argument("--folder", type=Path, help="keep everything here, to look at afterwards")
    wanted = parser.parse_args(arguments)
    configure_logging(level="ERROR")
    with ExitStack() as stack:
        settings = {}
        if wanted.postgres:
            settings["DATABASE_URL"] = new_database(stack.enter_context(cluster()), "crash")
        plan = Plan(kills=wanted.kills, seed=wanted.seed, longest_uptime_s=wanted.life, settings=settings)
        return _main(plan, wanted.folder)


def _main(plan: Plan, folder: Path | None) -> dict[str, Any]:

    def progress(line: str) -> None:
        print(line, flush=True)

    if folder is not None:
        folder.mkdir(parents=True)
        outcome = run(plan, folder.resolve(), progress)
    else:
        with tempfile.TemporaryDirectory(prefix="ausculta-crash-") as made:
            outcome = run(plan, Path(made), progress)
    print(report(outcome))
    return {
        "kills": outcome.kills,
        "seed": plan.seed,
        "database": "PostgreSQL" if plan.settings else "SQLite",
        "acknowledged": {str(interface): count for interface, count in outcome.acknowledged.items()},
        "lost": len(outcome.verdict.lost),
        "undelivered": len(outcome.verdict.undelivered),
        "duplicated": len(outcome.verdict.duplicated),
        "faults": list(outcome.verdict.faults),
        "refused": len(outcome.refused),
        "redeliveries": dict(outcome.redeliveries),
        "starting_s": outcome.starting_s,
        "seconds": outcome.seconds,
        "clean": outcome.verdict.is_clean and not outcome.refused,
    }


if __name__ == "__main__":
    sys.exit(0 if main()["clean"] else 1)
