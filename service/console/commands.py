"""What a person may command from the console; each act and its audit event are one commit."""

from inference import registry
from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal
from service.application import Application

BY = "console"
"""Who changed a model's row."""

LONGEST_REASON = 500
"""Characters of a reason; it is shown in place of every result."""


def replay_job(application: Application, principal: Principal, job: str) -> None:
    """Make a parked job due again.

    Raises
    ------
    Problem
        ``not-found`` when no parked job has that id.
    """

    def work(tx: Transaction) -> None:
        if not application.jobs.replay(tx, job):
            raise Problem(Category.NOT_FOUND, "no parked job has this id; it may have been replayed already")
        _record(application, tx, principal, "job-replayed", f"urn:uuid:{job}")

    application.database.write(work)


def replay_delivery(application: Application, principal: Principal, delivery: str) -> None:
    """Queue a parked delivery again; raises as :func:`replay_job`."""

    def work(tx: Transaction) -> None:
        if not application.outbox.replay(tx, delivery):
            raise Problem(Category.NOT_FOUND, "no parked delivery has this id; it may have been replayed already")
        _record(application, tx, principal, "delivery-replayed", f"urn:uuid:{delivery}")

    application.database.write(work)


def stop_models(application: Application, principal: Principal, name: str | None, reason: str) -> None:
    """Stop a model, or all of them, from the next prediction on.

    Raises
    ------
    Problem
        ``incorrect`` without a reason; ``not-found`` when there is no such model.
    """
    why = _reason(reason)

    def work(tx: Transaction) -> None:
        registry.stop(tx, name, why, by=BY, at=application.clock.now())
        _record(application, tx, principal, "model-stopped", _urn(name), why)

    application.database.write(work)


def resume_models(application: Application, principal: Principal, name: str | None, reason: str) -> None:
    """Let a model, or all of them, speak again; raises as :func:`stop_models`."""
    why = _reason(reason)

    def work(tx: Transaction) -> None:
        registry.resume(tx, name, by=BY, at=application.clock.now())
        _record(application, tx, principal, "model-resumed", _urn(name), why)

    application.database.write(work)


def _record(
    application: Application, tx: Transaction, principal: Principal, command: str, entity: str, reason: str = ""
) -> None:
    event = balp.administered(principal, command=command, entity=entity, reason=reason, at=application.clock.now())
    application.audit.record(tx, event)


def _reason(given: str) -> str:
    reason = " ".join(given.split())
    if not reason:
        raise Problem(Category.INCORRECT, "a reason is required: it is recorded, and shown in place of every result")
    if len(reason) > LONGEST_REASON:
        raise Problem(Category.INCORRECT, f"the reason is longer than {LONGEST_REASON} characters")
    return reason


def _urn(name: str | None) -> str:
    return f"urn:ausculta:model:{name or 'all'}"
