"""``ausculta demo``: a complete server, stand-ins for the hospital, and a scenario sent through real listeners.

Nothing leaves the machine: the ports are free loopback ports, the data are in a folder that is deleted afterwards,
and the inputs are synthetic.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from kernel.log import configure_logging
from service.commands.output import console
from service.demo.server import Server, server, settings_for
from service.demo.stand_ins import StandIns, stand_ins
from service.demo.story import Step, story
from service.demo.story_run import StepReport, StoryRunner
from service.demo.table import line, listing, table
from service.settings import load

LOG_LEVEL: Final = "AUSCULTA_LOG_LEVEL"
"""The one setting that users can set for the demonstration; the others are fixed."""

_TORCH_CACHE: Final = "TORCHINDUCTOR_CACHE_DIR"
DEADLINE_S: Final = 45.0
"""Seconds for the whole scenario, the first import of a neural network's library included."""


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """A running server and the stand-ins of the systems around it."""

    server: Server
    stand_ins: StandIns


def run(*, once: bool) -> int:
    """Run the scenario and show its results.

    Parameters
    ----------
    once
        Exit after the scenario; otherwise keep the server and its console running until Ctrl-C or SIGTERM.

    Returns
    -------
    int
        0 when every expected result has been received by the three stand-ins; else 1, and the reason has been printed.

    Raises
    ------
    Problem
        When the server cannot start.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM too deletes the folder
    logged = load({LOG_LEVEL: os.environ.get(LOG_LEVEL, "ERROR")}).log_level
    configure_logging(level=logged, json=False)
    screen, status = console(), None
    with suppress(KeyboardInterrupt), hospital() as opened:
        status = run_story(opened, story(datetime.now(UTC)), screen, deadline_s=DEADLINE_S)
        if not once:
            screen.print(f"\nThe server stays up until Ctrl-C. Console: {opened.server.url}/console")
            threading.Event().wait()
    if status is None:
        screen.print("The story was interrupted.")
        return 1
    return status


@contextmanager
def hospital() -> Iterator[Hospital]:
    """Run the stand-ins and a server that delivers to them, in a folder that is deleted when the block ends."""
    with tempfile.TemporaryDirectory(prefix="ausculta-demo-") as name:
        folder = Path(name)
        with (
            _torch_cache_in(folder / "torch"),
            stand_ins(folder / "hospital") as receivers,
            server(settings_for(folder / "ausculta", receivers)) as running,
        ):
            yield Hospital(server=running, stand_ins=receivers)


@contextmanager
def _torch_cache_in(folder: Path) -> Iterator[None]:
    """Let PyTorch make the folder of its compiler there; where transformers is installed, importing MONAI makes it."""
    before = os.environ.get(_TORCH_CACHE)
    os.environ[_TORCH_CACHE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_TORCH_CACHE)
        if before is not None:
            os.environ[_TORCH_CACHE] = before


def run_story(opened: Hospital, steps: Sequence[Step], screen: Console, *, deadline_s: float) -> int:
    """Send every step, wait for the expected results, and print the table.

    Parameters
    ----------
    opened
        The server to send to, and the stand-ins that must receive the results.
    steps
        The steps of the scenario.
    screen
        Where to print.
    deadline_s
        Longest time for the whole scenario, in seconds.

    Returns
    -------
    int
        As :func:`run`.
    """
    began = time.monotonic()
    url = opened.server.url
    screen.print(f"Server   {url}/fhir\nConsole  {url}/console\nEHR      {opened.stand_ins.ehr.url}\n")
    runner = StoryRunner(opened.server, opened.stand_ins, lambda report: screen.print(line(report)), began + deadline_s)
    with screen.status("sending the story"):
        reports = runner.run(steps)
    screen.print()
    screen.print(table(reports, screen.width))
    for entry in listing(reports, url, screen.width):
        screen.print(entry, soft_wrap=True)
    return _print_verdict(reports, screen, time.monotonic() - began)


def _print_verdict(reports: Sequence[StepReport], screen: Console, seconds: float) -> int:
    """Print whether every result was received, or which ones were not; return the exit status."""
    lacking = [report.missing for report in reports if report.missing]
    if not lacking:
        expected = sum(one.step.expected is not None for one in reports)
        screen.print(f"\n[green]The stand-ins have received all {expected} expected results[/] after {seconds:.1f} s.")
        return 0
    screen.print(f"\n[red]Not everything has arrived[/] after {seconds:.1f} s:")
    for reason in lacking:
        screen.print(f"  {reason}", markup=False, soft_wrap=True)
    return 1
