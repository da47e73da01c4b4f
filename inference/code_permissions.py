"""Which code of models may run, in a process of its own: rows of the ``code_permissions`` table, one for each digest.

A digest covers every file of a folder, its declared limits among them. A folder that is changed has another digest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from inference.folder import BY_CODE, ModelFolder
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import code_permissions


@dataclass(frozen=True, kw_only=True)
class CodePermission:
    """One digest that an operator allows."""

    digest: str
    name: str
    version: str
    reason: str
    allowed_at: datetime
    allowed_by: str


def everything(conn: Connection) -> Sequence[CodePermission]:
    """Return all of them, the newest first."""
    found = conn.execute(select(code_permissions).order_by(code_permissions.c.allowed_at.desc()))
    return [CodePermission(**row._asdict()) for row in found]


def allow(tx: Transaction, permission: CodePermission) -> None:
    """Allow a digest; a permission that it has already is replaced.

    Parameters
    ----------
    tx
        The transaction to write in.
    permission
        What is allowed, by whom and why.
    """
    tx.execute(delete(code_permissions).where(code_permissions.c.digest == permission.digest))
    tx.execute(insert(code_permissions), vars(permission))


def withdraw(tx: Transaction, name: str, version: str | None) -> Sequence[CodePermission]:
    """Withdraw the permissions of a model, of one of its versions or of all, and return them.

    Parameters
    ----------
    tx
        The transaction to write in.
    name, version
        The model; None for all versions.

    Raises
    ------
    Problem
        ``not-found`` when there is none.
    """
    found = [one for one in everything(tx.connection) if one.name == name and version in (None, one.version)]
    if not found:
        detail = f"no code of {name}" + (f" {version}" if version else "") + " is allowed"
        raise Problem(Category.NOT_FOUND, detail)
    for one in found:
        tx.execute(delete(code_permissions).where(code_permissions.c.digest == one.digest))
    return found


def require_code_allowed(conn: Connection, model: ModelFolder) -> None:
    """Return when a folder brings no code for a process of its own, or an operator allows its digest.

    Parameters
    ----------
    conn
        A connection to read from.
    model
        The opened folder.

    Raises
    ------
    Problem
        ``forbidden``, with the command that allows it.
    """
    if model.manifest.runner != BY_CODE:
        return
    allowed = select(code_permissions.c.digest).where(code_permissions.c.digest == model.digest)
    if conn.execute(allowed).first() is None:
        raise not_allowed(model.manifest.name, model.manifest.version)


def not_allowed(name: str, version: str) -> Problem:
    """Return the refusal of code that no operator allows.

    Parameters
    ----------
    name, version
        Of the model.
    """
    detail = f"the model {name} {version} brings code, and no operator has allowed its digest"
    todo = "read the code, then run: ausculta models allow-code FOLDER --reason WHY"
    return Problem(Category.FORBIDDEN, f"{detail}; {todo}")
