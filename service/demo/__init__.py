"""``ausculta demo``: a complete server, stand-ins for the hospital, and a story sent through the real listeners.

Nothing leaves the machine: every port is a free one of the loopback, the data lies in a folder that is gone afterwards,
and the inputs are synthesised.
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
from service.demo.server import Server, server, settings_for
from service.demo.stand_ins import StandIns, stand_ins
from service.demo.story import Step, story
from service.demo.story_run import StepReport, StoryRunner
from service.demo.table import line, listing, table, terminal
from service.settings import load

LOG_LEVEL: Final = "AUSCULTA_LOG_LEVEL"
"""The one setting that can be chosen; the demonstration shows the rest as it is."""

DEADLINE_S: Final = 45.0
"""For the whole story, the first import of a neural network's library included."""


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """A running server and those around it."""

    server: Server
    around: StandIns


def run(*, once: bool) -> int:
    """Tell the story and show what came of it.

    Parameters
    ----------
    once
        End then; otherwise stay up, with the console, until Ctrl-C or SIGTERM.

    Returns
    -------
    int
        0 when every expected result has been received by the three stand-ins; else 1, and the reason has been printed.

    Raises
    ------
    Problem
        When the server cannot start.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM, too, leaves no folder behind
    logged = load({LOG_LEVEL: os.environ.get(LOG_LEVEL, "ERROR")}).log_level
    configure_logging(level=logged, json=False)
    screen, status = terminal(), None
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
    """Run the stand-ins and a server that delivers to them, in a folder that is gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="ausculta-demo-") as name:
        folder = Path(name)
        with (
            stand_ins(folder / "hospital") as around,
            server(settings_for(folder / "ausculta", around)) as running,
        ):
            yield Hospital(server=running, around=around)


def run_story(opened: Hospital, steps: Sequence[Step], screen: Console, *, deadline_s: float) -> int:
    """Send every step, wait for what must come of it, and print the table.

    Parameters
    ----------
    opened
        Where to send, and where results must arrive.
    steps
        The story.
    screen
        Where to print.
    deadline_s
        How long to wait for everything together.

    Returns
    -------
    int
        As :func:`run`.
    """
    began = time.monotonic()
    url = opened.server.url
    screen.print(f"Server   {url}/fhir\nConsole  {url}/console\nEHR      {opened.around.ehr.url}\n")
    runner = StoryRunner(opened.server, opened.around, lambda report: screen.print(line(report)), began + deadline_s)
    with screen.status("sending the story"):
        reports = runner.run(steps)
    screen.print()
    screen.print(table(reports, screen.width))
    for entry in listing(reports, url, screen.width):
        screen.print(entry, soft_wrap=True)
    return _conclude(reports, screen, time.monotonic() - began)


def _conclude(reports: Sequence[StepReport], screen: Console, seconds: float) -> int:
    """Say whether everything has arrived, and what has not; return the exit status."""
    lacking = [one.lacks for one in reports if one.lacks]
    if not lacking:
        expected = sum(one.step.expected is not None for one in reports)
        screen.print(f"\n[green]The stand-ins have received all {expected} expected results[/] after {seconds:.1f} s.")
        return 0
    screen.print(f"\n[red]Not everything has arrived[/] after {seconds:.1f} s:")
    for reason in lacking:
        screen.print(f"  {reason}", markup=False, soft_wrap=True)
    return 1
