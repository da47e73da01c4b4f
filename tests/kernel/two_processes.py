"""What the second process of a test does with a database: ``python two_processes.py WHAT URL [SECONDS]``."""

import sys
import time

from sqlalchemy import text

from kernel.clock import RandomIds, SystemClock
from kernel.db import Database
from kernel.jobs import Jobs
from kernel.testing import PlainCipher


def enqueue(database: Database) -> None:
    """Add a job."""
    jobs = Jobs(SystemClock(), RandomIds(), PlainCipher())
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))


def write_without_pause(database: Database, seconds: float) -> None:
    """Commit as fast as possible; print the number of commits and the longest wait in seconds."""
    commits, longest = 0, 0.0
    print("begun", flush=True)
    until = time.monotonic() + seconds
    while (started := time.monotonic()) < until:
        database.write(lambda tx: tx.execute(text("INSERT INTO turns DEFAULT VALUES")))
        longest = max(longest, time.monotonic() - started)
        commits += 1
    print(commits, longest, flush=True)


def hold(database: Database) -> None:
    """Keep the right to write until the process is killed."""

    def forever(_tx: object) -> None:
        print("holding", flush=True)
        time.sleep(600)

    database.write(forever)


def main(what: str, url: str, seconds: str = "0") -> None:
    """Do it and end."""
    database = Database.open(url)
    if what == "enqueue":
        enqueue(database)
    elif what == "hold":
        hold(database)
    else:
        write_without_pause(database, float(seconds))
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
