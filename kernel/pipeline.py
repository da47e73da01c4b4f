"""Statements of PostgreSQL that are sent without waiting for their results (libpq's pipeline mode).

The writer puts a :class:`Pipeline` beside its connection for the time of one transaction. A statement whose result
nobody needs is sent; one whose rows are needed waits for them, and for all before it. When one fails the server skips
what follows, so the failure may come to light at a later statement, of another request: the transaction then counts for
nothing, and is run again without a pipeline (:mod:`kernel.group_commit`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

_KEY: Final = "pipeline"


class Pipeline:
    """The pipeline of one transaction.

    Parameters
    ----------
    driver
        The driver's connection.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._context: Any = None
        self._entered: Any = None
        #: The first failure of a statement; what was done after it was done in vain.
        self.failure: BaseException | None = None
        #: The COMMIT is sent: only what the server says is certain.
        self.is_ending = False

    @property
    def undone(self) -> bool:
        """Whether a statement failed, and nothing can have been committed."""
        if self.failure is None:
            return False
        return not self.is_ending or getattr(self.failure, "sqlstate", None) is not None

    def enter(self) -> None:
        """Send from now on without waiting."""
        if self._entered is None:
            context = self._driver.pipeline()
            self._entered = context.__enter__()
            self._context = context

    def sync(self) -> None:
        """Wait for everything that was sent; raises what the driver raises."""
        if self._entered is not None:
            self._entered.sync()

    def leave(self) -> None:
        """Wait for everything that was sent, and wait for each statement from now on; raises what the driver raises."""
        context, self._context, self._entered = self._context, None, None
        if context is not None:
            try:
                context.__exit__(None, None, None)
            except BaseException as failure:
                self.failed(failure)
                raise

    def forget_prepared(self) -> None:
        """Have the driver prepare its statements again: after a failure it believes some to be prepared that are not.

        The driver forgets them itself at a ROLLBACK, but not when it has counted one before.
        """
        self._driver._prepared.clear()  # noqa: SLF001 - the driver has no public name for it

    def failed(self, failure: BaseException) -> None:
        """Record that a statement failed."""
        self.failure = self.failure or failure


def pipeline_of(connection: Connection) -> Pipeline | None:
    """Return the pipeline beside a connection, None when each statement is waited for."""
    if connection.dialect.name == "sqlite":  # to look beside the connection costs as much as to bind a statement
        return None
    found: Pipeline | None = connection.info.get(_KEY)
    return found


@contextmanager
def pipelined(connection: Connection) -> Iterator[Pipeline]:
    """Put a pipeline beside a connection of PostgreSQL within the block; its end waits for nothing."""
    pipeline = Pipeline(connection.connection.dbapi_connection)
    connection.info[_KEY] = pipeline
    try:
        yield pipeline
    finally:
        del connection.info[_KEY]
        with suppress(Exception):
            pipeline.leave()


def leave_for_others(engine: Engine) -> None:
    """Have the statements that SQLAlchemy itself runs on an engine's connections leave the pipeline first."""

    def leave(connection: Connection, *_: Any) -> None:
        if (pipeline := pipeline_of(connection)) is not None:
            pipeline.leave()

    event.listen(engine, "before_cursor_execute", leave)
