"""Operations on what is held because the patient's identity is in doubt: open it, accept it, reject it."""

from dataclasses import dataclass

import orjson

from fhir_adapter.same_person import Person, person_of
from fhir_adapter.store.store import Store
from inference.catalogue import Catalogue
from kernel.db import Transaction
from kernel.jobs import Priority
from privacy import balp
from privacy.principal import Principal
from service.flows.hl7_message import CONVERT
from service.flows.read_set import newest_version
from service.identity_holds import IdentityHold
from service.operations.context import OperationContext, performer
from service.operations.reason import checked
from service.triggers import enqueue
from service.triggers.contract import Run


@dataclass(frozen=True, kw_only=True)
class OpenedHold:
    """What is held, and both statements; PHI."""

    hold: IdentityHold
    stated: tuple[Person, ...]
    #: The Patient as it is stored now.
    known: Person


def open_hold(context: OperationContext, principal: Principal, hold: str) -> OpenedHold:
    """Return a hold with what is stated and what is known; the access is recorded before anything is returned.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who asks.
    hold
        Its id.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when there is none of that id.
    """
    context.authorize(principal, "identity-open", hold)
    with context.database.read() as connection:
        found = context.holds.one(connection, hold)
        stored = newest_version(connection, Store(), "Patient", found.patient.removeprefix("Patient/"))
        known = Person() if stored is None else person_of(orjson.loads(stored.content))
        opened = OpenedHold(hold=found, stated=context.holds.stated(connection, hold), known=known)
    event = balp.read(principal, entity=found.source, patient=found.patient, at=context.clock.now())
    context.database.write(lambda tx: context.audit.record(tx, event))
    return opened


def accept(context: OperationContext, principal: Principal, hold: str, reason: str) -> None:
    """Decide that what is held is of the patient: its messages are converted, its study is read.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who decides.
    hold
        Its id.
    reason
        Why; recorded, no PHI.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` when there is none of that id; ``conflict``
        when it was decided already.
    """
    context.authorize(principal, "identity-accept", hold)
    stated = checked(reason)

    def work(tx: Transaction) -> None:
        held = context.holds.decide(tx, hold, "accepted", performer(principal))
        for message in context.holds.messages(tx.connection, hold):
            context.inbox.mark(tx, message, "received")
            context.jobs.enqueue(
                tx, CONVERT, {"message": message, "accepted": hold}, lock=held.subject, priority=Priority.STAT
            )
        if held.kind == "study":
            _read_again(context, tx, held)
        context.record(tx, principal, "identity-accepted", held.source, stated)

    context.database.write(work)


def reject(context: OperationContext, principal: Principal, hold: str, reason: str) -> None:
    """Decide that what is held is not of the patient: its messages are never read, its study gets no score.

    Parameters, and what is raised, as for :func:`accept`.
    """
    context.authorize(principal, "identity-reject", hold)
    stated = checked(reason)

    def work(tx: Transaction) -> None:
        held = context.holds.decide(tx, hold, "rejected", performer(principal))
        for message in context.holds.messages(tx.connection, hold):
            context.inbox.mark(tx, message, "rejected")
        if held.kind == "study":
            _read_again(context, tx, held)
        else:
            _score_again(context, tx, held)
        context.record(tx, principal, "identity-rejected", held.source, stated)

    context.database.write(work)


def _read_again(context: OperationContext, tx: Transaction, held: IdentityHold) -> None:
    """Have the models that have a result about a study read it again."""
    for model in Catalogue().serving(tx.connection):
        name = model.row.name
        if context.results.newest(tx.connection, limit=1, model=name, study=held.subject):
            enqueue.read_again(tx, context.jobs, model.row, held.subject)


def _score_again(context: OperationContext, tx: Transaction, held: IdentityHold) -> None:
    """Have the models whose newest statement is the doubt say again what they say without the held messages.

    About a document that was held there is nothing else to say.
    """
    for model in Catalogue().serving(tx.connection):
        newest = context.results.newest(tx.connection, limit=1, model=model.row.name, subject=held.patient)
        if any(held.source in result.inputs and result.document is None for result in newest):
            enqueue.assess(tx, context.jobs, model.row, Run(patient=held.patient))
