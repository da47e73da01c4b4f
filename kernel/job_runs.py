"""Jobs with one lock that are done together, as if one after the other, in the commit of the first of them.

A step that finds others of its kind waiting behind its job may do them too, when none depends on what those before it
leave: it saves a claim, a commit and most statements for each. Until that commit they wait, and no worker holds them.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Final

from sqlalchemy import Connection, Integer, bindparam, delete, select

from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.job_statements import PROMOTE
from kernel.jobs import Job, job_of
from kernel.lanes import is_background
from kernel.statements import Statement, StatementOfMany
from kernel.tables import jobs

_NEXT: Final = Statement(
    select(jobs)
    .where(jobs.c.lock == bindparam("with_lock"), jobs.c.status == "waiting")
    .order_by(jobs.c.seq)
    .limit(bindparam("most", type_=Integer))
)
_END: Final = StatementOfMany(
    lambda ids: delete(jobs).where(jobs.c.id.in_(ids), jobs.c.status == "waiting").returning(jobs.c.id)
)


def following(connection: Connection, job: Job, most: int, now: datetime) -> list[Job]:
    """Return the jobs that come after a running one with its lock, in their order, up to the first unlike it.

    There are none after a failure: what fails is done alone, so that no other job is held responsible for it.

    Parameters
    ----------
    connection
        A connection that can read.
    job
        As it was claimed.
    most
        How many at most.
    now
        The current time; a job that is due later is unlike it.
    """
    if most < 1 or job.lock is None or is_background(job.lock) or job.attempts > 1:
        return []
    rows = _NEXT.run(connection, {"with_lock": job.lock, "most": most})
    return list(takewhile(lambda it: _is_like(it, job, now), map(job_of, rows)))


def finish_following(tx: Transaction, job: Job, done: Sequence[Job], now: datetime) -> None:
    """Remove jobs that were done with one that the transaction has finished.

    Parameters
    ----------
    tx
        The transaction that holds the results of all of them.
    job
        The finished one.
    done
        The first of :func:`following`.
    now
        The current time.

    Raises
    ------
    Problem
        ``busy`` when they are not the next ones any more: their results must not be saved then.
    """
    rows = _NEXT.run(tx.connection, {"with_lock": job.lock, "most": len(done)})
    ids = [it.id for it in done]
    if [row.id for row in rows] != ids or len(_END.run(tx.connection, ids)) != len(ids):
        raise Problem(Category.BUSY, "the jobs that wait were changed meanwhile")
    tx.send(PROMOTE, {"with_lock": job.lock, "now": now})


def _is_like(other: Job, job: Job, now: datetime) -> bool:
    is_new = other.attempts == 0 and other.scheduled_at <= now
    return is_new and (other.step, other.priority, other.queueing_lock) == (job.step, job.priority, None)
