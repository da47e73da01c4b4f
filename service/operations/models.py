"""Operations on models: stop, resume, activate, retire, rollback, register and verify."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from inference import registry
from inference.code_permissions import require_code_allowed
from inference.digest import check_sealed
from inference.folder import ModelFolder, open_folder
from inference.registry import ModelRow, Status
from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal
from service.operations.context import OperationContext, performer
from service.triggers.enqueue import start_cadences

LONGEST_REASON: Final = 500
"""Characters of a reason; it is shown in place of every result."""


def stop(context: OperationContext, principal: Principal, name: str | None, reason: str) -> int:
    """Stop a model, or all of them, from the next prediction on.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    name
        The model; None for all.
    reason
        Shown in place of every result; at most :data:`LONGEST_REASON` characters, no PHI.

    Returns
    -------
    int
        Versions stopped.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` when there is no such model.
    """
    context.authorize(principal, "model-stop", name or "")
    stated = _checked(reason)

    def work(tx: Transaction) -> int:
        stopped = registry.stop(tx, name, stated, by=performer(principal), at=context.clock.now())
        context.record(tx, principal, "model-stopped", _urn(name), stated)
        return stopped

    return context.database.write(work)


def resume(context: OperationContext, principal: Principal, name: str | None, reason: str) -> int:
    """Take back the stop of a model, or of all of them; return how many versions run again.

    Parameters, and what is raised, as for :func:`stop`; the reason is recorded.
    """
    context.authorize(principal, "model-resume", name or "")
    stated = _checked(reason)

    def work(tx: Transaction) -> int:
        resumed = registry.resume(tx, name, by=performer(principal), at=context.clock.now())
        context.record(tx, principal, "model-resumed", _urn(name), stated)
        start_cadences(tx, context.jobs)
        return resumed

    return context.database.write(work)


def activate(context: OperationContext, principal: Principal, name: str, version: str | None = None) -> ModelRow:
    """Have a model's results delivered from now on; retires the version that was active. A stop stays as it is.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    name, version
        The model; without a version the one in shadow, or else the active one, or else the newest.

    Returns
    -------
    ModelRow
        The row as it was before.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when it is not registered; ``conflict`` when no version is named and several are
        in shadow; whatever ``ModelFiles.open`` raises when its files are not those registered.
    """
    context.authorize(principal, "model-activate", name)
    row = find(context, name, version) if version is not None else _meant(context, name)
    context.model_files.open(row)
    _set_status(context, principal, row, "active", "model-activated")
    return row


def retire(context: OperationContext, principal: Principal, name: str, version: str | None = None) -> ModelRow:
    """Take a model version out of service and return its row as it was before.

    Parameters as for :func:`activate`.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when it is not registered.
    """
    context.authorize(principal, "model-retire", name)
    row = find(context, name, version)
    _set_status(context, principal, row, "retired", "model-retired")
    return row


def rollback(context: OperationContext, principal: Principal, name: str) -> ModelRow:
    """Activate the version before the active one: the newest retired version that was registered earlier.

    Parameters, and the row that is returned, as for :func:`activate`.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when the model is not registered; ``conflict`` when no version is active or none
        before it is retired; whatever :meth:`inference.model_files.ModelFiles.open` raises.
    """
    context.authorize(principal, "model-rollback", name)
    with context.database.read() as connection:
        versions = [row for row in registry.everything(connection) if row.name == name]
    row = _earlier(name, versions)
    context.model_files.open(row)
    _set_status(context, principal, row, "active", "model-rolled-back")
    return row


def register(context: OperationContext, principal: Principal, folder: Path) -> ModelFolder:
    """Register a checked model folder as shadow, keep its files, and return it as opened.

    Parameters as for :func:`stop`; ``folder`` is a sealed model folder.

    Raises
    ------
    Problem
        ``forbidden``, also when it brings code that no operator allows; ``conflict`` when this version is registered
        with other content or the name belongs to another owner; whatever :func:`inference.loading.load_model` raises
        when the folder does not pass its checks.
    """
    context.authorize(principal, "model-register")
    check_sealed(folder)
    model = open_folder(folder)
    with context.database.read() as connection:
        require_code_allowed(connection, model)
    _check(context, replace(model, code_allowed=True))
    context.model_files.keep(model)

    def work(tx: Transaction) -> None:
        registry.register(tx, model, "shadow", by=performer(principal), at=context.clock.now())
        context.record(tx, principal, "model-added", _urn(model.manifest.name, model.manifest.version))
        start_cadences(tx, context.jobs)

    context.database.write(work)
    return model


def verify(context: OperationContext, principal: Principal, name: str, version: str | None = None) -> ModelRow:
    """Check a model's files against their sums, and its outputs against its golden cases; return its row.

    The check is recorded whether it passes or not. Parameters as for :func:`activate`.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when it is not registered; whatever ``ModelFiles.open`` and
        :func:`inference.loading.set_up` raise when its files are not those registered, or do not pass.
    """
    context.authorize(principal, "model-verify", name)
    row = find(context, name, version)
    event = balp.administered(
        principal, command="model-verified", entity=_urn(row.name, row.version), at=context.clock.now()
    )
    try:
        _check(context, context.model_files.open(row))
    except Problem as problem:
        failure = balp.failed(event, problem)
        context.database.write(lambda tx: context.audit.record(tx, failure))
        raise
    context.database.write(lambda tx: context.audit.record(tx, event))
    return row


def find(context: OperationContext, name: str, version: str | None) -> ModelRow:
    """Return the row of a model version; without a version the active one, or else the newest.

    Parameters
    ----------
    context
        What operations use.
    name
        Name of the model.
    version
        Its version; None for the active one, or else the newest.

    Raises
    ------
    Problem
        ``not-found`` when it is not registered.
    """
    with context.database.read() as connection:
        row = registry.get(connection, name, version)
    if row is None:
        raise Problem(Category.NOT_FOUND, f"there is no model {name}" + (f" {version}" if version else ""))
    return row


def _set_status(context: OperationContext, principal: Principal, row: ModelRow, status: Status, command: str) -> None:
    def work(tx: Transaction) -> None:
        by, at = performer(principal), context.clock.now()
        registry.set_status(tx, row.name, row.version, status, by=by, at=at)
        if status == "active":
            start_cadences(tx, context.jobs)
        context.record(tx, principal, command, _urn(row.name, row.version))

    context.database.write(work)


def _earlier(name: str, versions: list[ModelRow]) -> ModelRow:
    """Choose the version to roll back to among the rows of a model, which are in order of registration."""
    if not versions:
        raise Problem(Category.NOT_FOUND, f"there is no model {name}")
    position = next((place for place, row in enumerate(versions) if row.status == "active"), None)
    if position is None:
        raise Problem(Category.CONFLICT, f"no version of {name} is active")
    earlier = [row for row in versions[:position] if row.status == "retired"]
    if not earlier:
        raise Problem(Category.CONFLICT, f"no earlier version of {name} can be activated again")
    return earlier[-1]


def _meant(context: OperationContext, name: str) -> ModelRow:
    """Return the version that "activate NAME" means: the one that waits in shadow."""
    with context.database.read() as connection:
        waiting = [row for row in registry.everything(connection) if (row.name, row.status) == (name, "shadow")]
    if len(waiting) > 1:
        versions = ", ".join(row.version for row in waiting)
        raise Problem(Category.CONFLICT, f"several versions of {name} are in shadow ({versions}): name one")
    return waiting[0] if waiting else find(context, name, None)


def _check(context: OperationContext, model: ModelFolder) -> None:
    from inference.loading import set_up  # noqa: PLC0415 - brings torch; stopping a model must not wait for it

    set_up(model, remote_hosts=context.remote_hosts).close()


def _checked(reason: str) -> str:
    stated = " ".join(reason.split())
    if not stated:
        raise Problem(Category.INCORRECT, "a reason is required: it is recorded, and shown in place of every result")
    if len(stated) > LONGEST_REASON:
        raise Problem(Category.INCORRECT, f"the reason is longer than {LONGEST_REASON} characters")
    return stated


def _urn(name: str | None, version: str = "") -> str:
    return f"urn:ausculta:model:{name or 'all'}" + (f":{version}" if version else "")
