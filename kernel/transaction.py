"""One unit of work in the database: its statements, and what happens at its commit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, overload

from sqlalchemy import Connection, CursorResult, Executable, text

from kernel.statements import Parameters, Rows, Statement

AtCommit: TypeAlias = Callable[["Transaction", Sequence[Any]], None]
"""Is called once before a commit, with the items of all transactions that commit together, in their order."""


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """The interface of a unit of work: statements, signals that are sent after the commit, work before it."""

    #: Returns the connection; the first call begins the unit of work there, so that one without statements costs none.
    enter: Callable[[], Connection]
    channels: set[str] = field(default_factory=set)
    at_commit: dict[AtCommit, list[Any]] = field(default_factory=dict)
    urgent: set[str] = field(default_factory=set)
    """Ids of the jobs that end in this transaction and that a person waits for: what follows from them is as urgent."""
    #: The names that it has locked.
    locked: set[str] = field(default_factory=set)
    #: What the units of work that commit together have read and need not read again; emptied when one is undone.
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def connection(self) -> Connection:
        """The connection, on which everything is part of this unit of work."""
        return self.enter()

    @overload
    def execute(self, statement: Statement, parameters: Parameters = None) -> Rows: ...

    @overload
    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]: ...

    def execute(self, statement: Statement | Executable, parameters: Parameters = None) -> Rows | CursorResult[Any]:
        """Run one statement inside the transaction.

        Parameters
        ----------
        statement
            A statement, compiled already or of SQLAlchemy Core.
        parameters
            Values of its bind parameters; a sequence of mappings runs the statement once for each (``executemany``).
        """
        if isinstance(statement, Statement):
            return statement.run(self.connection, parameters)
        return self.connection.execute(statement, parameters)

    def send(self, statement: Statement, parameters: Parameters = None) -> None:
        """Run a statement whose result nobody needs: on PostgreSQL without waiting for its end.

        Parameters
        ----------
        statement, parameters
            As for :meth:`execute`. When the statement fails, the unit of work is run again, each statement by itself.
        """
        statement.send(self.connection, parameters)

    def send_rows(self, statement: Statement, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement once for each row, if there is one; otherwise as :meth:`send`.

        Parameters
        ----------
        statement
            A statement that returns nothing.
        names, rows
            As for :meth:`kernel.statements.Statement.send_rows`.
        """
        if rows:
            statement.send_rows(self.connection, names, rows)

    def wake(self, channel: str) -> None:
        """Wake the threads that wait for ``channel``, once the transaction is durable."""
        self.channels.add(channel)

    def before_commit(self, work: AtCommit, items: Sequence[Any]) -> None:
        """Have ``work`` done once before the commit, for all transactions that commit together.

        Parameters
        ----------
        work
            The same function for all of them. When it raises, none of them is committed.
        items
            What this transaction adds; nothing of it is left when the transaction is undone.
        """
        self.at_commit.setdefault(work, []).extend(items)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block did, and nothing else of this transaction, when it raises."""
        before = {work: len(items) for work, items in self.at_commit.items()}
        locked = set(self.locked)
        self.send(_SAVEPOINT)
        try:
            yield
        except BaseException:
            self.send(_BACK_TO_SAVEPOINT)
            self.shared.clear()
            for work, items in self.at_commit.items():
                del items[before.get(work, 0) :]
            self.locked.intersection_update(locked)
            raise
        finally:
            self.send(_RELEASE_SAVEPOINT)

    def lock(self, *names: str) -> None:
        """Lock names, in this order, against other transactions until this one ends; SQLite has one writer."""
        if names and self.connection.dialect.name == "postgresql":
            wanted = [name for name in dict.fromkeys(names) if name not in self.locked]
            if wanted:
                self.send(_LOCK, {"names": wanted})
                self.locked.update(wanted)


_SAVEPOINT = Statement(text("SAVEPOINT inner_savepoint"))
_BACK_TO_SAVEPOINT = Statement(text("ROLLBACK TO SAVEPOINT inner_savepoint"))
_RELEASE_SAVEPOINT = Statement(text("RELEASE SAVEPOINT inner_savepoint"))
_LOCK = Statement(
    text("SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(CAST(:names AS text[])) AS wanted(name)")
)
"""The names of an array are locked in its order."""
