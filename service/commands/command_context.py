"""What a command on the command line works with: the settings, the database, the audit log; no models, no listeners."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kernel.blobs import Blobs
from kernel.clock import RandomIds, SystemClock
from kernel.db import Database, Transaction
from kernel.jobs import Jobs
from kernel.log import configure_logging
from kernel.outbox import Outbox
from privacy import balp
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import Principal
from service.settings import Settings, load

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", dir_okay=False)]


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """The part of the application that a command needs."""

    settings: Settings
    clock: SystemClock
    ids: RandomIds
    database: Database
    keys: KeyRing
    audit: AuditLog
    jobs: Jobs
    outbox: Outbox
    who: str

    @property
    def principal(self) -> Principal:
        """Who acts, for the audit."""
        return Principal(client=self.who, client_address="")

    def command(self, tx: Transaction, command: str, entity: str, reason: str = "") -> None:
        """Record, in the transaction that does it, that a person commanded something."""
        event = balp.administered(self.principal, command=command, entity=entity, reason=reason, at=self.clock.now())
        self.audit.record(tx, event)


def read_settings(config: Path | None, **overrides: Any) -> Settings:
    """Read the settings of this process and set up its log."""
    settings = load(os.environ, config, **overrides)
    configure_logging(level=settings.log_level, json=settings.log_format == "json")
    return settings


@contextmanager
def command_context(config: Path | None) -> Iterator[CommandContext]:
    """Open the database that the settings name, for one command."""
    settings = read_settings(config)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock, ids = SystemClock(), RandomIds()
    keys = KeyRing.open_or_create(settings.data_dir / "keys.json")
    cipher = keys.cipher()
    jobs = Jobs(clock, ids, cipher)
    database = Database.open(settings.database)
    try:
        database.migrate()
        yield CommandContext(
            settings=settings,
            clock=clock,
            ids=ids,
            database=database,
            keys=keys,
            audit=AuditLog(keys, clock, ids),
            jobs=jobs,
            outbox=Outbox(clock, ids, cipher, jobs, Blobs(settings.data_dir / "blobs", cipher)),
            who=f"{getpass.getuser()} (command line)",
        )
    finally:
        database.close()
