"""Operations on results: run a model again where it gave no prediction."""

from collections.abc import Iterator

from sqlalchemy import Connection

from inference import registry
from inference.registry import ModelRow
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.jobs import Priority
from privacy.principal import Principal
from service.flows.imaging_study import READ
from service.flows.lanes import lane_of
from service.operations.context import OperationContext
from service.results import LIVE, StoredResult
from service.triggers import ASSESS

_PAGE = 500


def ask_again(context: OperationContext, principal: Principal, result: str) -> None:
    """Run a model again on what is known now of the patient or study of a result that is not available.

    What the model says now replaces the result, at every destination. When it says the same, nothing changes.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    result
        Id of a result without a prediction.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when there is no such result; ``conflict`` when it is a prediction, was replaced or
        taken back, or no version of its model runs.
    """
    context.authorize(principal, "result-ask-again", result)

    def work(tx: Transaction) -> None:
        stored = context.results.one(tx.connection, result)
        if stored is None:
            raise Problem(Category.NOT_FOUND, "there is no such result")
        if stored.kind == "prediction":
            raise Problem(Category.CONFLICT, "the model has answered: only a result that is not available is asked for")
        if stored.state not in LIVE:
            raise Problem(Category.CONFLICT, f"this result is {stored.state} already")
        model = _runs(tx.connection, stored)
        if model is None:
            raise Problem(Category.CONFLICT, f"no version of {stored.model} runs")
        _enqueue(context, tx, model, stored)
        context.record(tx, principal, "result-asked-again", f"urn:ausculta:result:{result}")

    context.database.write(work)


def ask_all_again(context: OperationContext, principal: Principal, name: str) -> int:
    """Run a model again for every patient and study whose newest result of it failed, or was stopped.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    name
        The model.

    Returns
    -------
    int
        How many runs were queued.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when there is no such model.
    """
    context.authorize(principal, "result-ask-again", name)

    def work(tx: Transaction) -> int:
        if registry.get(tx.connection, name) is None:
            raise Problem(Category.NOT_FOUND, f"there is no model {name}")
        asked = 0
        for stored in _unanswered(context, tx.connection, name):
            model = _runs(tx.connection, stored)
            if model is not None:
                _enqueue(context, tx, model, stored)
                asked += 1
        context.record(tx, principal, "results-asked-again", f"urn:ausculta:model:{name}")
        return asked

    return context.database.write(work)


def _unanswered(context: OperationContext, connection: Connection, name: str) -> Iterator[StoredResult]:
    """Yield, for each version, patient and study or document, the newest result if it failed or was stopped."""
    seen: set[tuple[str | None, ...]] = set()
    before: int | None = None
    while page := context.results.newest(connection, limit=_PAGE, model=name, before=before):
        for stored in page:
            about = (stored.version, stored.subject, stored.study, stored.document)
            if about not in seen and stored.kind in {"failed", "stopped"} and stored.state in LIVE:
                yield stored
            seen.add(about)
        before = page[-1].seq


def _runs(connection: Connection, stored: StoredResult) -> ModelRow | None:
    """Return the version that made a result, if it still runs, or else the active one."""
    versions = [row for row in registry.serving(connection) if row.name == stored.model]
    same = [row for row in versions if row.version == stored.version]
    return next(iter(same), next((row for row in versions if row.status == "active"), None))


def _enqueue(context: OperationContext, tx: Transaction, model: ModelRow, stored: StoredResult) -> None:
    about = {"study": stored.study} if stored.study is not None else {"patient": stored.subject}
    if stored.document is not None:
        about["document"] = stored.document
    step = ASSESS if stored.study is None else READ
    payload = {"model": model.name, "version": model.version, "again": stored.id} | about
    lane = lane_of(model, f"{step}:{model.name}:{model.version}:{':'.join(about.values())}")
    lane["queueing_lock"] += f":{stored.id}"
    context.jobs.enqueue(tx, step, payload, **lane, priority=Priority.STAT)
