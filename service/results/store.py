"""The table ``results``: every read and write of it is here."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, Text, and_, bindparam, func, insert, or_, select, update

from inference.contract import Outcome, statement_id
from inference.registry import ModelRow
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.statements import Statement, StatementOfMany
from kernel.tables import outbox, results
from service.results.records import LIVE, TRANSITIONS, NewResult, Place, State, StoredResult

_MODELS_OF: Final = Statement(select(results.c.model).where(results.c.subject == bindparam("of_subject")).distinct())
_STUDIES_OF: Final = Statement(
    select(results.c.study)
    .where(
        results.c.model == bindparam("of_model"),
        results.c.subject == bindparam("of_subject"),
        results.c.study.is_not(None),
    )
    .distinct()
    .order_by(results.c.study)
)
_ADD: Final = Statement(insert(results))
_SUPERSEDE: Final = StatementOfMany(
    lambda ids: (
        update(results)
        .where(results.c.id.in_(ids), or_(*(results.c.state == state for state in LIVE)))
        .values(state="superseded", superseded_by=bindparam("by"))
        .returning(results.c.id)
    )
)
_ABOUT: Final = (
    select(results.c.id, results.c.statement, results.c.kind, results.c.resources, results.c.outputs)
    .where(
        results.c.model == bindparam("of_model"),
        results.c.subject == bindparam("of_subject"),
        results.c.study.is_not_distinct_from(bindparam("of_study", type_=Text)),
        results.c.document.is_not_distinct_from(bindparam("of_document", type_=Text)),
    )
    .order_by(results.c.seq.desc())
    .limit(1)
)
_NEWEST: Final = Statement(_ABOUT.where(results.c.version == bindparam("of_version")))
_DELIVERED: Final = Statement(_ABOUT.where(results.c.status == "active"))
_STATED: Final = Statement(select(results.c.id).where(results.c.statement == bindparam("this")).limit(1))
_LISTS: Final = ("inputs", "outputs", "features", "artefacts", "resources")
"""Columns that hold a JSON list."""


class Results:
    """The results that this server has published; it keeps nothing in memory."""

    def add(self, tx: Transaction, result: NewResult, *, resources: Iterable[str], supersedes: Iterable[str]) -> None:
        """Store a result, ``preliminary``, and mark what it replaces.

        Parameters
        ----------
        tx
            The commit that also writes its resources and deliveries.
        result
            What to store.
        resources
            Versioned references of the resources that were written.
        supersedes
            Ids of earlier results; those that are withdrawn or superseded already stay as they are.
        """
        row = asdict(result) | {"resources": list(resources), "state": "preliminary"}
        tx.send(_ADD, row | {name: json.dumps(row[name]) for name in _LISTS})
        _SUPERSEDE.run(tx.connection, list(supersedes), {"by": result.id})

    def place_of(self, connection: Connection, outcome: Outcome, *, study: str | None, document: str | None) -> Place:
        """Return the place of an outcome among the results of its model version about its patient, study or document.

        Parameters
        ----------
        connection
            Where to read.
        outcome
            What the model says.
        study
            StudyInstanceUID of an imaging result.
        document
            Reference of the document that made the model run.
        """
        statement = statement_id(outcome)
        about: dict[str, str | None] = {"of_model": outcome.model.name, "of_subject": outcome.subject.reference}
        about |= {"of_study": study, "of_document": document}
        newest = _NEWEST.run(connection, about | {"of_version": outcome.model.version}).first()
        delivered = _DELIVERED.run(connection, about).first()
        last = delivered if outcome.model.status == "active" else newest
        place = Place(
            said=False,
            after_prediction=delivered is not None and delivered.kind == "prediction",
            before=() if last is None else tuple(json.loads(last.resources)),
            outputs=() if last is None else tuple(json.loads(last.outputs)),
        )
        if _STATED.run(connection, {"this": statement}).first() is None:
            return place
        if newest is None or newest.statement == statement:
            return replace(place, said=True)
        return replace(place, follows=newest.id)

    def one(self, connection: Connection, identifier: str) -> StoredResult | None:
        """Return the result of this id; None when there is none.

        Parameters
        ----------
        connection
            Where to read.
        identifier
            Id of the result.
        """
        row = connection.execute(select(results).where(results.c.id == identifier)).first()
        return None if row is None else _stored(row)

    def newest(
        self,
        connection: Connection,
        *,
        limit: int,
        model: str | None = None,
        subject: str | None = None,
        study: str | None = None,
        before: int | None = None,
    ) -> list[StoredResult]:
        """Return the newest results, newest first.

        Parameters
        ----------
        connection
            Where to read.
        limit
            How many at most.
        model, subject, study
            Only those of this model's name, of this patient's reference, of this StudyInstanceUID.
        before
            Only those with a smaller sequence number.
        """
        wanted = select(results).order_by(results.c.seq.desc()).limit(limit)
        for column, value in ((results.c.model, model), (results.c.subject, subject), (results.c.study, study)):
            wanted = wanted if value is None else wanted.where(column == value)
        if before is not None:
            wanted = wanted.where(results.c.seq < before)
        return [_stored(row) for row in connection.execute(wanted)]

    def nth(self, connection: Connection, model: str, subject: str, number: int) -> StoredResult | None:
        """Return a model's result about a patient by its place in time; None when there are not so many.

        Parameters
        ----------
        connection
            Where to read.
        model
            Name of the model.
        subject
            Reference of the patient.
        number
            Place of the result in the order of storage, from 0.
        """
        about = select(results).where(results.c.model == model, results.c.subject == subject)
        row = connection.execute(about.order_by(results.c.seq).offset(number).limit(1)).first()
        return None if row is None else _stored(row)

    def ids_of_study(self, connection: Connection, study: str) -> tuple[str, ...]:
        """Return the ids of every result about a study.

        Parameters
        ----------
        connection
            Where to read.
        study
            StudyInstanceUID.
        """
        return tuple(connection.execute(select(results.c.id).where(results.c.study == study)).scalars())

    def replaced_by(self, connection: Connection, model: ModelRow, study: str) -> tuple[str, ...]:
        """Return the ids of the results about a study that a new one of this model version replaces, oldest first.

        A delivered result is replaced by a delivered one, of whatever version; a shadow result only by one of its own
        version, so that what is not delivered never supersedes what a clinician has.

        Parameters
        ----------
        connection
            Where to read.
        model
            The version that makes the new result.
        study
            StudyInstanceUID.
        """
        wanted = select(results.c.id).where(
            results.c.study == study, results.c.model == model.name, results.c.status == model.status
        )
        if model.status != "active":
            wanted = wanted.where(results.c.version == model.version)
        return tuple(connection.execute(wanted.order_by(results.c.seq)).scalars())

    def has_newer(
        self, connection: Connection, identifier: str, destination: str, status: Literal["delivered", "pending"]
    ) -> bool:
        """Return whether a destination has got, or will get, a newer result of the same model, patient and study.

        Parameters
        ----------
        connection
            Where to read.
        identifier
            Id of a result; of anything else there is no newer one.
        destination
            Name of the destination.
        status
            Of the newer one's delivery: the destination has accepted it, or it waits.
        """
        newer = results.alias("newer")
        same = (
            newer.c.model == results.c.model,
            newer.c.study.is_not_distinct_from(results.c.study),
            newer.c.document.is_not_distinct_from(results.c.document),
        )
        about = newer.c.subject == results.c.subject, newer.c.seq > results.c.seq, *same
        sent = outbox.c.subject == newer.c.id, outbox.c.destination == destination, outbox.c.status == status
        found = select(newer.c.id).select_from(results.join(newer, and_(*about)).join(outbox, and_(*sent)))
        return connection.execute(found.where(results.c.id == identifier).limit(1)).first() is not None

    def models_of(self, connection: Connection, subject: str) -> frozenset[str]:
        """Return the names of the models that have a result about a patient.

        Parameters
        ----------
        connection
            Where to read.
        subject
            Reference of the patient.
        """
        return frozenset(row.model for row in _MODELS_OF.run(connection, {"of_subject": subject}))

    def studies_of(self, connection: Connection, model: str, subject: str) -> tuple[str, ...]:
        """Return the StudyInstanceUIDs of a patient about which a model has a result.

        Parameters
        ----------
        connection
            Where to read.
        model
            Name of the model.
        subject
            Reference of the patient.
        """
        return tuple(row.study for row in _STUDIES_OF.run(connection, {"of_model": model, "of_subject": subject}))

    def counts(self, connection: Connection) -> dict[tuple[str, str, str], int]:
        """Return how many results there are per model, version and kind."""
        columns = results.c.model, results.c.version, results.c.kind
        grouped = select(*columns, func.count()).group_by(*columns).order_by(*columns)
        return {(row[0], row[1], row[2]): row[3] for row in connection.execute(grouped)}

    def change_state(self, tx: Transaction, identifier: str, state: State) -> None:
        """Change a result's state; a result becomes ``superseded`` only by :meth:`add`.

        Parameters
        ----------
        tx
            The transaction that changes it.
        identifier
            Id of the result.
        state
            The new state; ``TRANSITIONS`` lists those that may follow the present one.

        Raises
        ------
        Problem
            ``not-found`` when there is no such result; ``conflict`` when that state may not follow the present one.
        """
        tx.lock(f"result:{identifier}")
        stored = self.one(tx.connection, identifier)
        if stored is None:
            raise Problem(Category.NOT_FOUND, "there is no such result")
        if state == "superseded" or state not in TRANSITIONS[stored.state]:
            raise Problem(Category.CONFLICT, f"a result that is {stored.state} cannot become {state}")
        tx.execute(update(results).where(results.c.id == identifier).values(state=state))


def _stored(row: Row[Any]) -> StoredResult:
    fields = row._asdict()
    return StoredResult(**(fields | {name: tuple(json.loads(fields[name])) for name in _LISTS}))
