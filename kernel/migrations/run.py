"""Bring a database to the newest schema, from within the program: there is no alembic.ini to find or forget."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from kernel.errors import Category, Problem
from kernel.migrations.sqlite import upgrade_file
from kernel.one_process import one_process_of_server


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


def _pending(connection: Connection) -> tuple[str | None, str] | None:
    """Return the revision of the database, if it has one, and the newest; None when they are the same."""
    stored, newest = MigrationContext.configure(connection).get_current_revision(), newest_revision()
    if stored == newest:
        return None
    known = {revision.revision for revision in ScriptDirectory.from_config(configuration()).walk_revisions()}
    if stored is not None and stored not in known:
        detail = f"the database is of a newer release (schema {stored}); this release knows the schema up to {newest}"
        raise Problem(Category.CONFLICT, detail)
    return stored, newest


def _apply(connection: Connection) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
