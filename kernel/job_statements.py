"""The statements of the job queue, compiled once: add, claim, finish, and who comes next with a lock.

Of the jobs with one lock one is marked ready, the oldest; so a claim is one look-up for each priority, however many
jobs wait behind it.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final

from sqlalchemy import bindparam, column, delete, insert, select, text, update

from kernel.statements import Statement
from kernel.tables import Instant, jobs

IN_BACKGROUND: Final = 9
"""The priority of jobs that nobody waits for."""
NONE: Final = 0
"""The priority of no job: SQL's coalesce takes two at least."""


class Priority(IntEnum):
    """Which of the jobs that are due runs first, whatever the order in which they became due."""

    #: A person waits for it.
    STAT = 1
    #: A result that is there; it does not wait for a backlog of what is to be read.
    DELIVERY = 2
    #: Everything else.
    ROUTINE = 4


INSERT: Final = Statement(insert(jobs))
WAITING_WITH: Final = Statement(
    select(jobs.c.seq, jobs.c.scheduled_at).where(
        jobs.c.queueing_lock == bindparam("with_lock"), jobs.c.status == "waiting"
    )
)
FINISH: Final = Statement(
    delete(jobs).where(
        jobs.c.seq == bindparam("this"),
        jobs.c.id == bindparam("id_is"),
        jobs.c.status == "running",
        jobs.c.worker == bindparam("of"),
        jobs.c.attempts == bindparam("attempt"),
    )
)
RESCHEDULE: Final = Statement(update(jobs).where(jobs.c.seq == bindparam("which")))

LOCKED: Final = Statement(
    select(jobs.c.seq).where(jobs.c.lock == bindparam("with_lock"), jobs.c.status != "parked").limit(1)
)
PROMOTE: Final = Statement(
    text(
        "UPDATE jobs SET ready = 1, changed_at = :now,"
        " scheduled_at = CASE WHEN scheduled_at < :now THEN :now ELSE scheduled_at END"
        " WHERE seq = (SELECT min(seq) FROM jobs WHERE lock = :with_lock AND status = 'waiting')"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE lock = :with_lock AND status = 'running')"
    ).bindparams(bindparam("now", type_=Instant))
)
"""It is due from now on: the backlog of one lock lets the jobs of other locks run between its own."""

DEMOTE: Final = Statement(
    text("UPDATE jobs SET ready = 0 WHERE lock = :with_lock AND status = 'waiting' AND ready = 1")
)

CLAIM: Final = """
UPDATE jobs SET status = 'running', worker = :worker, attempts = attempts + 1, changed_at = :now
WHERE seq = coalesce({each})
RETURNING {columns}
"""
FIRST_OF_PRIORITY: Final = """(
  SELECT seq FROM jobs WHERE status = 'waiting' AND ready = 1 AND priority = {priority} AND scheduled_at <= :now
  ORDER BY scheduled_at, seq LIMIT 1 {skip_locked})"""
"""Of the jobs that are due and whose lock is free the one that has been so for longest."""

NEXT_DUE: Final = "SELECT min(due) FROM ({each}) AS next"
NEXT_OF_PRIORITY: Final = (
    "SELECT min(scheduled_at) AS due FROM jobs WHERE status = 'waiting' AND ready = 1 AND priority = {priority}"
)

LANES: Final[Mapping[bool, Sequence[int]]] = {False: tuple(Priority), True: (IN_BACKGROUND,)}
"""Whether in the background -> the priorities of that lane."""


def _claim_statements(*, skip_locked: str) -> Mapping[bool, Statement]:
    return {
        background: Statement(
            text(
                CLAIM.format(
                    columns=", ".join(column.name for column in jobs.c),
                    each=", ".join(
                        FIRST_OF_PRIORITY.format(priority=int(priority), skip_locked=skip_locked)
                        for priority in (*priorities, NONE)
                    ),
                )
            )
            .bindparams(bindparam("now", type_=Instant))
            .columns(*jobs.c)
        )
        for background, priorities in LANES.items()
    }


def _next_statement(priorities: Sequence[int]) -> Statement:
    each = " UNION ALL ".join(NEXT_OF_PRIORITY.format(priority=int(priority)) for priority in priorities)
    return Statement(text(NEXT_DUE.format(each=each)).columns(column("due", Instant)))


NEXT: Final = {background: _next_statement(priorities) for background, priorities in LANES.items()}
CLAIM_SQLITE: Final = _claim_statements(skip_locked="")
CLAIM_POSTGRESQL: Final = _claim_statements(skip_locked="FOR UPDATE SKIP LOCKED")
