"""From time to time the audit log's head is signed and the signature laid beside the database.

The file ``audit-checkpoints.jsonl`` is what a compliance officer copies elsewhere: against a copy, not even somebody
with the database and the key file can cut the log short unseen.
"""

import threading
from pathlib import Path
from typing import Final

from kernel.db import Database
from kernel.errors import Problem
from kernel.log import get_logger
from privacy.audit import AuditLog, append_checkpoint

INTERVAL_S: Final = 60.0
"""At most this much of the log is not covered by a signature yet."""

FILE: Final = "audit-checkpoints.jsonl"

_log = get_logger(__name__)


class Checkpoints:
    """Signs the audit log.

    Parameters
    ----------
    database, audit
        The application's.
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
        """Sign from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Sign what is not signed yet, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sign()

    def sign(self) -> None:
        """Sign the head now, if anything was recorded since the last time."""
        try:
            checkpoint = self._database.write(self._audit.checkpoint)
            if checkpoint is not None:
                append_checkpoint(self.file, checkpoint)
        except (Problem, OSError) as failure:
            _log.error("checkpoint_not_saved", failure=failure)

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            self.sign()
