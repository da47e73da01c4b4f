"""Bring a database to the newest schema, from within the program: there is no alembic.ini to find or forget."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

_LOCK: Final = 4_711_2575
"""PostgreSQL advisory lock: of several servers that start at once, one migrates and the others wait."""


def configuration() -> Config:
    """Return Alembic's configuration for this package's revisions."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Apply every revision that the database does not have yet.

    Parameters
    ----------
    engine
        Connected to the database that is to be changed.
    """
    config = configuration()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        if connection.dialect.name != "postgresql":
            _upgrade_sqlite(config, connection)
            return
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        try:
            connection.commit()
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
            connection.commit()


def _upgrade_sqlite(config: Config, connection: Connection) -> None:
    """Apply the revisions in one transaction, so that a process that is killed meanwhile leaves no half of them.

    Alembic takes SQLite for a database without transactional DDL and opens none of its own. The lock also makes a
    second process wait, which then finds nothing left to do.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        command.upgrade(config, "head")
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
