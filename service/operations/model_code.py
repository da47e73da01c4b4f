"""Operations on the code that models bring: allow it by its digest, and withdraw that."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from inference import code_permissions
from inference.code_permissions import CodePermission
from inference.folder import BY_CODE, ModelFolder, open_folder
from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy.principal import Principal
from service.operations.context import OperationContext, performer
from service.operations.reason import checked

_SHORTEST_DIGEST: Final = 8
"""Characters: an empty variable of a script names no folder."""


def allow_code(
    context: OperationContext, principal: Principal, folder: Path, reason: str, *, digest: str | None = None
) -> ModelFolder:
    """Allow the code of a sealed folder to run, in a process of its own; nothing of it is run here.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    folder
        The model folder.
    reason
        Why; recorded, no PHI.
    digest
        The digest that was reviewed, or its beginning; None for that of the folder as it is.

    Returns
    -------
    ModelFolder
        The folder as opened: its digest is the one that is allowed.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason, or when the folder is not sealed or brings no code;
        ``conflict`` when it has another digest.
    """
    context.authorize(principal, "model-code-allow")
    stated = checked(reason)
    model = open_folder(folder)
    manifest = model.manifest
    if manifest.runner != BY_CODE:
        raise Problem(Category.INCORRECT, f"the model {manifest.name} {manifest.version} brings no code that needs it")
    if digest is not None and len(digest) < _SHORTEST_DIGEST:
        raise Problem(Category.INCORRECT, f"--digest takes {_SHORTEST_DIGEST} characters of the digest at least")
    if digest is not None and not model.digest.startswith(digest.lower()):
        raise Problem(Category.CONFLICT, f"the folder has the digest {model.digest}, not the one that was reviewed")
    permission = CodePermission(
        digest=model.digest,
        name=manifest.name,
        version=manifest.version,
        reason=stated,
        allowed_at=context.clock.now(),
        allowed_by=performer(principal),
    )

    def work(tx: Transaction) -> None:
        code_permissions.allow(tx, permission)
        context.record(tx, principal, "model-code-allowed", _urn(permission), stated)

    context.database.write(work)
    return model


def withdraw_code(
    context: OperationContext, principal: Principal, name: str, reason: str, *, version: str | None = None
) -> Sequence[CodePermission]:
    """Withdraw the permission of a model's code, from the next prediction on, and return what was withdrawn.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    name
        The model.
    reason
        Why; recorded, no PHI.
    version
        Which version; None for all.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` when nothing is allowed.
    """
    context.authorize(principal, "model-code-withdraw", name)
    stated = checked(reason)

    def work(tx: Transaction) -> Sequence[CodePermission]:
        withdrawn = code_permissions.withdraw(tx, name, version)
        for one in withdrawn:
            context.record(tx, principal, "model-code-withdrawn", _urn(one), stated)
        return withdrawn

    return context.database.write(work)


def allowed_code(context: OperationContext) -> Sequence[CodePermission]:
    """Return what is allowed, the newest first."""
    with context.database.read() as connection:
        return code_permissions.everything(connection)


def _urn(permission: CodePermission) -> str:
    return f"urn:ausculta:model:{permission.name}:{permission.version}:sha256:{permission.digest}"
