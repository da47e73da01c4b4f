"""What every process does with a database before it uses it."""

from fhir_adapter.store.search.rebuild import rebuild_index
from kernel.db import Database


def prepare_database(database: Database) -> None:
    """Bring the schema and the search index to this release.

    Several processes may do so at once: one does the work, and the others wait for it.

    Raises
    ------
    Problem
        ``conflict`` when the database is of a newer release; ``unavailable`` when its disk is full.
    """
    database.migrate()
    rebuild_index(database)
