"""Refusals in a row: for how many patients a destination said the same since it last accepted anything."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, func, or_, select, update

from kernel import together
from kernel.db import Transaction
from kernel.tables import destination_states, outbox


def refused_patients(connection: Connection, destination: str, detail: str, besides: str | None) -> int:
    """Return for how many other patients the destination said the same since it last accepted anything.

    Parameters
    ----------
    connection
        A connection to read from.
    destination
        Name of the destination.
    detail
        What it said, as the detail of a problem.
    besides
        The patient who is not counted.
    """
    patient = func.coalesce(outbox.c.patient, "")
    count = select(func.count(func.distinct(patient))).where(*_refused(destination, detail), patient != (besides or ""))
    return int(connection.execute(count).scalar_one())


def wait_again(tx: Transaction, destination: str, detail: str, *, at: datetime, until: datetime) -> None:
    """Queue what was parked for the same refusal, because the destination is at fault; each delivery once.

    Parameters
    ----------
    tx
        The transaction to write in.
    destination
        Name of the destination.
    detail
        What it said, as the detail of a problem.
    at
        The current time.
    until
        Until when the deliveries are held.
    """
    once = *_refused(destination, detail), outbox.c.status == "parked", outbox.c.refusals <= 1
    for identifier in tx.execute(select(outbox.c.id).where(*once)).scalars().all():
        values = {"status": "pending", "next_at": until, "changed_at": at}
        tx.execute(update(outbox).where(outbox.c.id == identifier).values(**values))
        together.replay_rest(tx, identifier, at=at)


def _refused(destination: str, detail: str) -> list[ColumnElement[bool]]:
    accepted: ScalarSelect[Any] = (
        select(destination_states.c.accepted_at).where(destination_states.c.name == destination).scalar_subquery()
    )
    return [
        outbox.c.destination == destination,
        outbox.c.status.in_(("parked", "pending")),
        outbox.c.problem_detail == detail,
        outbox.c.next_at >= outbox.c.changed_at,  # since then no person has decided about it
        or_(accepted.is_(None), outbox.c.changed_at > accepted),
    ]
