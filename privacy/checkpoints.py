"""Signs the audit log's head at intervals and appends the signature to a file beside the database.

A compliance officer copies the file ``audit-checkpoints.jsonl`` to another host. With that copy, a removal of the last
events is detected even when somebody had both the database and the key file.
"""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kernel.db import Database
from kernel.errors import Problem
from kernel.log import get_logger
from privacy.audit import AuditLog, append_checkpoint

INTERVAL_S: Final = 60.0
"""Seconds between two checkpoints; later events are not signed yet."""

FILE: Final = "audit-checkpoints.jsonl"

_log = get_logger(__name__)


class Checkpoints:
    """Signs the audit log.

    Parameters
    ----------
    database, audit
        The application's database and audit log.
    file
        Where signed checkpoints are appended.
    """

    def __init__(self, database: Database, audit: AuditLog, file: Path) -> None:
        self._database = database
        self._audit = audit
        self.file = file
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-checkpoints", daemon=True)

    def start(self) -> None:
        """Start the thread that signs."""
        self._thread.start()

    def stop(self) -> None:
        """Sign the last events and stop the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sign()

    def sign(self) -> None:
        """Sign the head now, if anything was recorded since the last time."""
        try:
            with self._alone():
                checkpoint = self._database.write(self._audit.checkpoint)
                if checkpoint is not None:
                    append_checkpoint(self.file, checkpoint)
        except (Problem, OSError) as failure:
            _log.error("checkpoint_not_saved", failure=failure)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other processes of this server from signing: the file has the checkpoints in their order."""
        with self.file.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            self.sign()
