"""Bring a database to the newest schema, from within the program: there is no alembic.ini to find or forget."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from kernel.errors import Category, Problem
from kernel.migrations.sqlite import Pending, upgrade_file
from kernel.one_process import one_process_of_server

_SPACE: Final = 2
"""Free space for a revision that does not state its own ``SPACE``: for the copy, and for the journal of the changes."""


def configuration() -> Config:
    """Return Alembic's configuration for this package's revisions."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def newest_revision() -> str:
    """Return the revision of this release."""
    return str(ScriptDirectory.from_config(configuration()).get_current_head())


def upgrade(engine: Engine) -> None:
    """Apply every revision that the database does not have yet, all in one transaction.

    Of several processes that call this at once, one does the work and the others wait for it.

    Parameters
    ----------
    engine
        Connected to the database that is to be changed.

    Raises
    ------
    Problem
        ``conflict`` when the database is of a newer release; ``unavailable`` when its disk is full. In both cases
        nothing is changed.
    """
    if engine.dialect.name == "sqlite":
        upgrade_file(engine, pending=_pending, apply=_apply)
        return
    with one_process_of_server(engine) as connection:
        if _pending(connection):
            _apply(connection)


def is_older(engine: Engine) -> bool:
    """Return whether the database has the schema of an earlier release; one without a schema has not.

    Parameters
    ----------
    engine
        Connected to the database.

    Raises
    ------
    Problem
        ``conflict`` when it is of a newer release.
    """
    with engine.connect() as connection:
        pending = _pending(connection)
    return pending is not None and pending.stored is not None


def _pending(connection: Connection) -> Pending | None:
    """Return what is to be done; None when the schema is the newest.

    Raises
    ------
    Problem
        ``conflict``.
    """
    scripts = ScriptDirectory.from_config(configuration())
    stored, newest = MigrationContext.configure(connection).get_current_revision(), str(scripts.get_current_head())
    if stored == newest:
        return None
    if stored is not None and stored not in {revision.revision for revision in scripts.walk_revisions()}:
        detail = f"the database is of a newer release (schema {stored}); this release knows the schema up to {newest}"
        raise Problem(Category.CONFLICT, detail)
    revisions = scripts.iterate_revisions(newest, stored or "base")
    space = max(getattr(revision.module, "SPACE", _SPACE) for revision in revisions)
    return Pending(stored=stored, newest=newest, space=space)


def _apply(connection: Connection) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
