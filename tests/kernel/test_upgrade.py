"""An upgrade of the schema on SQLite: whole or not at all, by one process, with a copy, and when the disk is full."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import event, text

from kernel import one_process
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.migrations import sqlite as sqlite_upgrade
from kernel.migrations.run import configuration, newest_revision

OLDER = "0011"
"""The revision from which the tests upgrade; 0012 writes every resource again."""

RESOURCES = 3000
NEWEST = newest_revision()


def older(file: Path, resources: int = RESOURCES) -> Path:
    """Make a database of an earlier release that holds resources of 1 KB."""
    database = Database.open(f"sqlite:///{file}")
    with database._engine.connect() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
    database.close()
    content = b'{"resourceType": "Basic", "text": "' + b"x" * 1000 + b'"}'
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "INSERT INTO resource_heads (type, id, version, deleted, last_updated) VALUES ('Basic', ?, 1, 0, 1)",
            [(f"{number:05}",) for number in range(resources)],
        )
        connection.executemany(
            "INSERT INTO resource_versions (type, id, version, last_updated, method, content)"
            " VALUES ('Basic', ?, 1, 1, 'POST', ?)",
            [(f"{number:05}", content) for number in range(resources)],
        )
    return file


def migrate(file: Path) -> None:
    database = Database.open(f"sqlite:///{file}")
    try:
        database.migrate()
    finally:
        database.close()


def revision(file: Path) -> str | None:
    with closing(sqlite3.connect(file)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def content(file: Path) -> list[str]:
    """Return the whole database as statements."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return list(connection.iterdump())


def versions(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM resource_versions").fetchone()[0])


def copies(file: Path) -> list[str]:
    return sorted(path.name for path in (file.parent / "before-upgrade").glob("*"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return older(tmp_path_factory.mktemp("older") / "a.db")


@pytest.fixture
def file(tmp_path: Path, template: Path) -> Path:
    shutil.copy(template, tmp_path / "a.db")
    return tmp_path / "a.db"


def test_the_copy_holds_what_was_there_before_the_upgrade(file: Path) -> None:
    before = content(file)
    migrate(file)
    assert (revision(file), versions(file)) == (NEWEST, RESOURCES)
    folder = file.parent / "before-upgrade"
    copy = folder / f"a-{OLDER}.db"
    assert copies(file) == [copy.name]
    assert content(copy) == before
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(copy.stat().st_mode)) == (0o700, 0o600)


def test_the_copy_can_take_the_place_of_the_database(file: Path) -> None:
    migrate(file)
    copy = file.parent / "before-upgrade" / f"a-{OLDER}.db"
    shutil.copy(copy, file)
    migrate(file)
    assert (revision(file), versions(file)) == (NEWEST, RESOURCES)


def test_the_copy_is_made_and_durable_before_anything_is_changed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(Path(f"/proc/self/fd/{handle}").readlink().name), real(handle))[1]
    )
    seen: list[list[str]] = []
    database = Database.open(f"sqlite:///{file}")

    def look(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")):
            seen.append(copies(file))

    event.listen(database._engine, "before_cursor_execute", look)
    database.migrate()
    database.close()
    assert {tuple(names) for names in seen} == {(f"a-{OLDER}.db",)}
    assert synced == [f"a-{OLDER}.db.part", "before-upgrade", file.parent.name]


def test_the_copy_of_the_newest_upgrade_is_kept_and_those_of_others_are_not(file: Path) -> None:
    folder = file.parent / "before-upgrade"
    folder.mkdir(mode=0o700)
    for name in (
        "a-0003.db",
        f"a-{OLDER}.db",
        f"a-{OLDER}.db.part",
        f"a-{OLDER}.db.part-journal",
        "b-0003.db",
        "notes.txt",
    ):
        (folder / name).write_bytes(b"earlier")
    before = content(file)
    migrate(file)
    assert copies(file) == [f"a-{OLDER}.db", "b-0003.db", "notes.txt"]
    assert content(folder / f"a-{OLDER}.db") == before


def test_a_new_database_and_one_with_the_newest_schema_are_not_copied(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    migrate(file)
    migrate(file)
    assert revision(file) == NEWEST
    assert not (tmp_path / "before-upgrade").exists()


def test_the_newest_schema_is_recognised_while_another_process_writes(tmp_path: Path) -> None:
    """A command that finds nothing to upgrade waits for no writer."""
    file = tmp_path / "new.db"
    migrate(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        migrate(file)
        other.execute("ROLLBACK")


def test_a_database_of_a_newer_release_is_refused(database: Database) -> None:
    database.write(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(
        Problem, match=f"newer release .schema 9999.; this release knows the schema up to {NEWEST}"
    ) as it:
        database.migrate()
    assert it.value.category is Category.CONFLICT


class Waits:
    """A log that tells when a process begins to wait for another one."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def info(self, name: str) -> None:
        assert name == "waiting_for_another_process"
        self.begun.set()


def test_a_migration_waits_for_the_process_that_works_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that makes the search index again."""
    waits = Waits()
    monkeypatch.setattr(one_process, "_log", waits)
    other = Database.open(database.url.render_as_string(hide_password=False))
    with ThreadPoolExecutor(1) as pool:
        with database.one_process():
            migration = pool.submit(other.migrate)
            assert waits.begun.wait(60)
            assert not migration.done()
        migration.result(60)
    other.close()


def test_a_revision_that_fails_undoes_the_whole_upgrade(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revision 0012 has written every resource again when 0013 fails."""
    before = content(file)
    database = Database.open(f"sqlite:///{file}")

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "priority" in statement:
            raise RuntimeError(statement)

    event.listen(database._engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="priority"):
        database.migrate()
    database.close()
    assert content(file) == before
    assert copies(file) == []
    migrate(file)
    assert (revision(file), versions(file)) == (NEWEST, RESOURCES)


@pytest.mark.parametrize("statements", [0, 1, 3, 10, 20])
def test_a_process_killed_in_the_middle_leaves_the_database_as_it_was(file: Path, statements: int) -> None:
    before = content(file)

    def kill_in_the_middle(database: Database) -> None:
        executed: list[str] = []

        def count_changes(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.lstrip().upper().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")):
                executed.append(statement)
            if len(executed) > statements:
                os.kill(os.getpid(), 9)

        event.listen(database._engine, "before_cursor_execute", count_changes)
        database.migrate()

    killed(file, kill_in_the_middle)
    assert content(file) == before
    migrate(file)
    assert (revision(file), versions(file)) == (NEWEST, RESOURCES)
    assert copies(file) == [f"a-{OLDER}.db"]
    assert content(file.parent / "before-upgrade" / f"a-{OLDER}.db") == before


def test_a_process_killed_while_it_copies_leaves_nothing_that_looks_like_a_copy(file: Path) -> None:
    before = content(file)

    def kill_before_the_name(database: Database) -> None:
        Path.replace = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment,method-assign]
        database.migrate()

    killed(file, kill_before_the_name)
    assert copies(file) == [f"a-{OLDER}.db.part"]
    assert content(file) == before
    migrate(file)
    assert copies(file) == [f"a-{OLDER}.db"]


def killed(file: Path, work: Callable[[Database], None]) -> None:
    """Run the work in a process that kills itself in the middle of it."""
    child = os.fork()
    if child == 0:
        try:
            work(Database.open(f"sqlite:///{file}"))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


@pytest.fixture(scope="module")
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    started = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("upgrading.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(4)
    ]
    yield started
    for process in started:
        process.communicate()


def at_once(processes: list["subprocess.Popen[str]"], url: str) -> list[str]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{url}\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes if process.stdout is not None]


def test_of_processes_that_start_at_once_one_makes_the_schema(
    tmp_path: Path, processes: list["subprocess.Popen[str]"]
) -> None:
    for number in range(30):
        file = tmp_path / f"{number}.db"
        assert at_once(processes, f"sqlite:///{file}") == ["done"] * 4, f"round {number}"
        assert revision(file) == NEWEST


def test_of_processes_that_start_at_once_one_upgrades_the_schema(
    tmp_path: Path, processes: list["subprocess.Popen[str]"], tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = older(tmp_path_factory.mktemp("small") / "a.db", resources=20)
    for number in range(15):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = Path(shutil.copy(small, folder / "a.db"))
        assert at_once(processes, f"sqlite:///{file}") == ["done"] * 4, f"round {number}"
        assert (revision(file), versions(file), copies(file)) == (NEWEST, 20, [f"a-{OLDER}.db"])


@pytest.mark.postgres
def test_of_processes_that_start_at_once_on_postgresql_one_makes_the_schema(
    new_postgres_url: Callable[[], str], processes: list["subprocess.Popen[str]"]
) -> None:
    for number in range(3):
        assert at_once(processes, new_postgres_url()) == ["done"] * 4, f"round {number}"


class SmallDisk:
    """A file system in memory of a few megabytes."""

    def __init__(self, folder: Path, size_kb: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size_kb}k,mode=0700", "tmpfs")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(self.folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small file system needs the right to mount one: {done.stderr.strip()}")

    def leave_free(self, size_kb: int) -> None:
        """Fill the disk but for so much."""
        (self.folder / "other-data").unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free - size_kb * 1024
        (self.folder / "other-data").write_bytes(bytes(free))

    def make_room(self) -> None:
        (self.folder / "other-data").unlink(missing_ok=True)
        self._mount("-o", "remount,size=64m")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    made: list[SmallDisk] = []

    def make(size_kb: int) -> SmallDisk:
        made.append(SmallDisk(tmp_path / f"disk-{len(made)}", size_kb))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


def test_an_upgrade_for_which_the_disk_is_too_small_is_refused_before_it_begins(
    small_disk: Callable[[int], SmallDisk], template: Path
) -> None:
    disk = small_disk(9000)
    file = Path(shutil.copy(template, disk.folder / "a.db"))
    before = content(file)
    with pytest.raises(Problem) as refused:
        migrate(file)
    assert refused.value.category is Category.UNAVAILABLE
    assert refused.value.detail == (
        "the disk of the database is full: the upgrade of its schema needs 32 MB of free space and finds 4 MB;"
        " nothing was changed"
    )
    assert (content(file), copies(file)) == (before, [])
    disk.make_room()
    migrate(file)
    assert (revision(file), versions(file), copies(file)) == (NEWEST, RESOURCES, [f"a-{OLDER}.db"])


def test_an_upgrade_that_finds_the_space_that_it_asks_for_has_enough(
    small_disk: Callable[[int], SmallDisk], template: Path
) -> None:
    disk = small_disk(60_000)
    file = Path(shutil.copy(template, disk.folder / "a.db"))
    disk.leave_free(1000)
    with pytest.raises(Problem) as refused:
        migrate(file)
    needed = re.search(r"needs (\d+) MB", refused.value.detail)
    assert needed is not None
    disk.leave_free(int(needed[1]) * 1_000_000 // 1024 + 8)
    migrate(file)
    assert (revision(file), versions(file)) == (NEWEST, RESOURCES)


@pytest.mark.parametrize("free_kb", [0, 4, 40, 400, 2000, 3900, 4200, 5000, 7000, 9000])
def test_a_disk_that_becomes_full_during_an_upgrade_changes_nothing(
    small_disk: Callable[[int], SmallDisk], template: Path, monkeypatch: pytest.MonkeyPatch, free_kb: int
) -> None:
    """Others write to the disk too, so that the space that was there at the start may be gone."""
    monkeypatch.setattr(sqlite_upgrade, "_require_space", lambda *_: None)
    disk = small_disk(16_000)
    file = Path(shutil.copy(template, disk.folder / "a.db"))
    before = content(file)
    disk.leave_free(free_kb)
    with pytest.raises(Problem, match="the disk of the database is full") as refused:
        migrate(file)
    assert refused.value.category is Category.UNAVAILABLE
    assert copies(file) == []
    disk.make_room()
    assert content(file) == before
    migrate(file)
    assert (revision(file), versions(file), copies(file)) == (NEWEST, RESOURCES, [f"a-{OLDER}.db"])


@pytest.mark.parametrize("size_kb", [4, 40, 100, 200])
def test_a_disk_on_which_a_new_database_does_not_fit_leaves_nothing_in_the_way(
    small_disk: Callable[[int], SmallDisk], size_kb: int
) -> None:
    disk = small_disk(size_kb)
    with pytest.raises(Problem, match="the disk of the database is full"):
        migrate(disk.folder / "a.db")
    disk.make_room()
    migrate(disk.folder / "a.db")
    assert revision(disk.folder / "a.db") == NEWEST
