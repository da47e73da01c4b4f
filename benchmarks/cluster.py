"""A PostgreSQL server of our own, on loopback, which is removed at the end; for tests and benchmarks."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text


def programs() -> Path | None:
    """Return the folder of PostgreSQL's server programs, None when they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def cluster() -> Iterator[str]:
    """Run a server with PostgreSQL's own settings, all commits synchronous, and yield the prefix of its URLs.

    Raises
    ------
    FileNotFoundError
        PostgreSQL's server programs are not installed.
    """
    found = programs()
    if found is None:
        raise FileNotFoundError("PostgreSQL's server programs are not installed (Debian package: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="ausculta-pg-", dir="/tmp"))
    data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run(_as_server_user(folder, list(command)), check=True, capture_output=True, cwd=folder)

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=200"
    try:
        run(str(found / "initdb"), "-D", str(data), "-U", "ausculta", "-A", "trust", "-E", "UTF8", "--no-locale")
        run(str(found / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql+psycopg://ausculta@127.0.0.1:{port}"
        finally:
            run(str(found / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(cluster_url: str, name: str) -> str:
    """Make an empty database and return its URL.

    Parameters
    ----------
    cluster_url
        What :func:`cluster` yielded.
    name
        Name of the database; one that exists is removed first.
    """
    engine = create_engine(f"{cluster_url}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{cluster_url}/{name}"


def _as_server_user(folder: Path, command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    shutil.chown(folder, "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
