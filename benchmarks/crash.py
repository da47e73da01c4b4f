"""Nothing lost, nothing twice: the real server is killed at random moments while three listeners are fed.

Senders keep at each item until they hold a receipt. At the end everything comes to rest, and every item that was
acknowledged must be stored and have exactly one result at each stand-in that it concerns (:mod:`benchmarks.verdict`).
Run as ``python -m benchmarks.crash --kills 20 --seed 1``.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.hospital import Hospital, drain, gather
from benchmarks.items import Interface
from benchmarks.processes import ServerProcess
from benchmarks.senders import Ledger, Sender
from benchmarks.verdict import Evidence, Verdict, check
from kernel.log import configure_logging

SENDERS: Final[Mapping[Interface, int]] = {Interface.HL7: 2, Interface.FHIR: 2, Interface.DICOM: 2}

KILLED_AT_BIRTH: Final = 2
"""The first kills, which hit a server that makes its database and its keys."""
KILLED_EARLY: Final = 0.2
"""Share of the kills that hit the server while it starts."""
KILLED_AT_ONCE: Final = 0.25
"""Share of the kills that hit it within a moment of its being ready, when it takes up what it had left."""
_A_MOMENT_S: Final = 0.3

PATIENCE_S: Final = 60.0
"""How long there may be no progress at the end before the run gives up."""
LONGEST_S: Final = 3600.0
"""How long a run waits at the end altogether."""

RESTS_EVERY: Final = 50
REST_S: Final = 120.0
"""Kills after which a long run lets the queue become shorter, and for how long: it ends in hours and not in days."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    kills: int
    seed: int
    longest_life_s: float = 4.0
    """How long the server lives at the most between being ready and being killed."""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run showed."""

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


def run(plan: Plan, folder: Path, tell: Callable[[str], None] = lambda _line: None) -> Outcome:
    """Feed, kill and restart as planned, then look everywhere.

    Parameters
    ----------
    plan
        How often and how long.
    folder
        Empty; the server's data, its log and the EHR's database lie here afterwards.
    tell
        Called with one line of text for each step of the run.
    """
    started = time.monotonic()
    chance, ledger = random.Random(plan.seed), Ledger()
    with Hospital(folder) as hospital:
        server = ServerProcess(folder, hospital.settings | dict(plan.settings))
        with server:
            starts: list[float] = []
            senders = _senders(server, ledger, hospital, plan.seed)
            for sender in senders:
                sender.start()
            for number in range(1, plan.kills + 1):
                how = 0.0 if number <= KILLED_AT_BIRTH else chance.random()
                starts += _live_and_die(server, chance, how, plan.longest_life_s)
                if number % 10 == 0:
                    tell(f"{number} kills, {sum(ledger.counts().values())} acknowledged")
                if number % RESTS_EVERY == 0:
                    _rest(server, hospital, starts)
            starts.append(server.wait_ready())
            _finish(senders)
            unfinished = drain(server, hospital.received, patience_s=PATIENCE_S, longest_s=LONGEST_S)
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


def _live_and_die(server: ServerProcess, chance: random.Random, how: float, longest_s: float) -> list[float]:
    """Let the server live for a while, kill it, and start it again; return how long it took to be ready, if it was."""
    if how < KILLED_EARLY:
        time.sleep(chance.uniform(0.0, 3.0))
        took = []
    else:
        took = [server.wait_ready()]
        time.sleep(chance.uniform(0.0, _A_MOMENT_S if how < KILLED_EARLY + KILLED_AT_ONCE else longest_s))
    server.kill()
    server.start()
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
    """Say what a run showed, for a person."""
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
    """Run and print; the exit code is 1 when anything was lost, is not delivered or came twice."""
    parser = argparse.ArgumentParser(description="Kill the server at random moments and count what is lost.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--life", type=float, default=4.0, help="longest life between ready and killed, in seconds")
    parser.add_argument("--folder", type=Path, help="keep everything here, to look at afterwards")
    wanted = parser.parse_args(arguments)
    plan = Plan(kills=wanted.kills, seed=wanted.seed, longest_life_s=wanted.life)

    configure_logging(level="ERROR")

    def tell(line: str) -> None:
        print(line, flush=True)

    if wanted.folder is not None:
        wanted.folder.mkdir(parents=True)
        outcome = run(plan, wanted.folder.resolve(), tell)
    else:
        with tempfile.TemporaryDirectory(prefix="ausculta-crash-") as folder:
            outcome = run(plan, Path(folder), tell)
    print(report(outcome))
    return {
        "kills": outcome.kills,
        "seed": plan.seed,
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
