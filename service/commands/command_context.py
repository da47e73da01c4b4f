"""What a command on the command line works with: the settings, the database, the audit log; no models, no listeners."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import click
import typer

from fhir_adapter.store.upgrade import prepare_database
from inference.model_files import MODEL_FILES, ModelFiles
from kernel.blobs import Blobs
from kernel.clock import RandomIds, SystemClock
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.inbox import Inbox
from kernel.jobs import Jobs
from kernel.log import configure_logging
from kernel.outbox import Outbox
from kernel.worker import processes
from privacy.audit import AuditLog
from privacy.authorize import Authorizer, Interaction, LoopbackAuthorizer, Request
from privacy.keys import KeyRing
from privacy.principal import Principal
from service.addresses import remote_hosts
from service.identity_holds import IdentityHolds
from service.operations import OperationContext
from service.settings import Settings, load

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", dir_okay=False)]


CLIENT: Final = "command line"
"""What the audit calls the program by which a command was given."""


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
    principal: Principal
    """The person at the terminal, as the operating system names them."""
    operations: OperationContext


def read_settings(config: Path | None, **overrides: Any) -> Settings:
    """Read the settings of this process and set up its log.

    Parameters
    ----------
    config
        File with settings; None for the environment and the defaults alone.
    **overrides
        Values that take precedence over the environment and the file, by field name.
    """
    settings = load(os.environ, config, **overrides)
    configure_logging(level=settings.log_level, json=settings.log_format == "json")
    return settings


@contextmanager
def command_context(config: Path | None) -> Iterator[CommandContext]:
    """Open the database that the settings name, for one command.

    Parameters
    ----------
    config
        File with settings.

    Raises
    ------
    Problem
        ``forbidden``, before anything is opened; otherwise when the data folder or the database cannot be used.
    """
    settings = read_settings(config)
    authorizer, principal = require_command(Interaction.VIEW)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock, ids = SystemClock(), RandomIds()
    keys = KeyRing.open_or_create(settings.data_dir / "keys.json")
    cipher = keys.cipher()
    jobs = Jobs(clock, ids, cipher)
    database = Database.open(settings.database)
    audit, outbox = (
        AuditLog(keys, clock, ids),
        Outbox(clock, ids, cipher, jobs, Blobs(settings.data_dir / "blobs", cipher, database)),
    )
    try:
        _require_no_other_release(database, clock)
        prepare_database(database)
        yield CommandContext(
            settings=settings,
            clock=clock,
            ids=ids,
            database=database,
            keys=keys,
            audit=audit,
            jobs=jobs,
            outbox=outbox,
            principal=principal,
            operations=OperationContext(
                clock=clock,
                database=database,
                audit=audit,
                jobs=jobs,
                outbox=outbox,
                model_files=ModelFiles(settings.data_dir / MODEL_FILES),
                authorizer=authorizer,
                inbox=Inbox(clock, ids, cipher),
                holds=IdentityHolds(clock, ids, cipher),
                remote_hosts=remote_hosts(settings),
            ),
        )
    finally:
        database.close()


def _require_no_other_release(database: Database, clock: SystemClock) -> None:
    """Refuse to upgrade the schema beneath a server or worker of an earlier release, which could not go on."""
    if not database.is_older():
        return
    with database.read() as connection:
        users = processes(connection, clock.now())
    if users:
        named = ", ".join(f"{row.pid} on {row.host}" for row in users)
        detail = f"the database has an older schema and is in use (process {named}): stop that first, then upgrade"
        raise Problem(Category.CONFLICT, detail)


def require_command(interaction: Interaction) -> tuple[Authorizer, Principal]:
    """Return the policy and the person at the terminal, when they may give the command that runs.

    Every command asks this before it opens stored data (``view``) or starts a process on them (``operate``).

    Raises
    ------
    Problem
        ``forbidden``.
    """
    authorizer = build_authorizer()
    principal = Principal(client=CLIENT, client_address="", user=getpass.getuser())
    authorizer.require(principal, Request(interaction=interaction, target=_command()))
    return authorizer, principal


def build_authorizer() -> Authorizer:
    """Return the policy of ``AUTH=open``, the one there is: whoever runs a command is on this machine."""
    return LoopbackAuthorizer()


def _command() -> str:
    """Name the command that runs, such as ``models stop``."""
    running = click.get_current_context(silent=True)
    return "" if running is None else running.command_path.partition(" ")[2]
