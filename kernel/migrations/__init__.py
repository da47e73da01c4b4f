"""The schema's history: Alembic revisions, run by :mod:`kernel.migrations.run`."""
