"""The connection to PostgreSQL is lost after a COMMIT was sent: it is stored, and nobody reads that it was not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
from sqlalchemy import func, insert, make_url, select, text

from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.tables import index_state

pytestmark = pytest.mark.postgres


class Proxy:
    """Forwards connections to PostgreSQL; when it is to, it swallows the reply to the next COMMIT and hangs up."""

    def __init__(self, host: str, port: int) -> None:
        self._to = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.swallows = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            while sent := client.recv(65536):
                server.sendall(sent)

    def _copy(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while received := server.recv(65536):
                if self.swallows.is_set() and b"COMMIT\0" in received:
                    self.swallows.clear()
                    break
                client.sendall(received)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def through(new_postgres_url: Callable[[], str]) -> Iterator[tuple[Proxy, Database, Database]]:
    """A proxy, the database through it, and the database itself."""
    url = make_url(new_postgres_url())
    proxy = Proxy(url.host or "127.0.0.1", url.port or 5432)
    direct = Database.open(url.render_as_string(hide_password=False))
    direct.migrate()
    by_proxy = Database.open(url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False))
    with closing(proxy), closing(direct), closing(by_proxy):
        by_proxy.write(lambda tx: tx.execute(select(1)).all())
        yield proxy, by_proxy, direct


def stored(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(index_state)).scalar_one()


def test_what_was_committed_without_a_reply_is_not_said_to_be_lost(through: tuple[Proxy, Database, Database]) -> None:
    proxy, database, direct = through
    proxy.swallows.set()
    with pytest.raises(Problem) as raised:
        database.write(lambda tx: tx.execute(insert(index_state), {"fingerprint": "first"}))
    assert raised.value.category is Category.INTERRUPTED
    assert "not known" in raised.value.detail
    assert stored(direct) == 1

    def second(tx: Transaction) -> None:
        tx.execute(insert(index_state), {"fingerprint": "second"})

    database.write(second)  # on a new connection
    assert stored(direct) == 2


def test_what_failed_before_the_commit_is_not_said_to_be_unknown(through: tuple[Proxy, Database, Database]) -> None:
    _, database, direct = through

    def hang_up(tx: Transaction) -> None:
        tx.execute(insert(index_state), {"fingerprint": "first"})
        tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Problem) as raised:
        database.write(hang_up)
    assert raised.value.category is Category.UNAVAILABLE
    assert stored(direct) == 0
