"""Upgrades the databases that are named on its standard input, one a line: run as several processes at once."""

import sys

from kernel.db import Database
from kernel.log import configure_logging

configure_logging(level="ERROR")
for line in sys.stdin:
    database = Database.open(line.strip())
    try:
        database.migrate()
        print("done", flush=True)
    except Exception as failure:  # noqa: BLE001 - the test reads what it was
        print(type(failure).__name__, " ".join(str(failure).split()), flush=True)
    database.close()
