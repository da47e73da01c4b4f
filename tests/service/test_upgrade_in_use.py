"""A command does not upgrade the schema beneath a server of an earlier release."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import text

from kernel.clock import SystemClock
from kernel.errors import Problem
from service.application import Application, build
from service.commands.command_context import command_context
from service.settings import load

NEWEST = max(path.name[1:5] for path in files("kernel.migrations.versions").iterdir() if path.name.startswith("r"))

LATER = (
    *(
        f"TABLE {name}"
        for name in (
            "small_blobs",
            "resource_measures",
            "subscription_events",
            "subscriptions",
            "exports",
            "code_permissions",
        )
    ),
    "INDEX resource_index_of_resource",
)
"""What the revisions after the earlier one made."""


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """A running server whose database has an older schema."""
    monkeypatch.setenv("AUSCULTA_DATA_DIR", str(tmp_path / "data"))
    application = build(load({}, None, data_dir=tmp_path / "data"), clock=SystemClock())
    application.worker.register()

    def as_before(tx: object) -> None:
        tx.execute(text("UPDATE alembic_version SET version_num = '0014'"))  # type: ignore[attr-defined]
        tx.execute(text("ALTER TABLE workers DROP COLUMN threads"))  # type: ignore[attr-defined]
        for later in LATER:
            tx.execute(text(f"DROP {later}"))  # type: ignore[attr-defined]

    application.database.write(as_before)
    yield application
    application.close()


def test_a_command_refuses_while_a_server_uses_the_database(earlier: Application) -> None:
    with pytest.raises(Problem, match="is in use"), command_context(None):
        pass
    with earlier.database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0014"


def test_it_upgrades_once_the_server_has_stopped(earlier: Application) -> None:
    earlier.worker.stop()
    with command_context(None) as context, context.database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == NEWEST
