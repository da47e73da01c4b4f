"""The registered models and their status: rows of the ``models`` table.

A model version is ``shadow`` (runs, is stored, is not delivered), ``active`` (at most one version of a name) or
``retired``. Apart from that a person may stop a model: its rows say so, the next prediction reads the row. A stop holds
for versions that are registered later, too, and a stop of all models for models that are registered later.

A name has one owner: a version is registered only by the owner of the versions before it, and the name of a model that
came with the software only by the software.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Insert, Row, Update, delete, insert, select, update

from inference.code_permissions import require_code_allowed
from inference.contract import ModelIdentity
from inference.features.spec import FeatureSpec, parse_features
from inference.folder import BY_CODE, ModelFolder
from inference.manifest import Manifest, parse_manifest
from inference.models import MODELS
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.statements import Statement
from kernel.tables import code_permissions, model_stops, models

Status: TypeAlias = Literal["shadow", "active", "retired"]
Origin: TypeAlias = Literal["bundled", "folder"]

_log = get_logger(__name__)

ALL: Final = "all"
"""Scope of a stop of all models."""


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One version of one model, as it is registered."""

    name: str
    version: str
    digest: str
    status: Status
    stopped: bool
    stop_reason: str | None
    #: Where it was registered from; what runs is kept by digest (:class:`inference.model_files.ModelFiles`).
    folder: Path
    #: Whether it came with the software; only then it may run code of its own in this process.
    origin: Origin
    title: str
    owner: str
    intended_use: str
    declaration: str
    #: JSON of ``model.yaml``, ``features.yaml`` and the card as registered: available even when the folder is broken.
    added_at: datetime
    changed_at: datetime
    changed_by: str
    #: Whether an operator allows the code of this digest to run in a process of its own.
    code_allowed: bool = False

    @property
    def brings_code(self) -> bool:
        """Whether it runs code of its own in a process of its own."""
        return _brings_code(self.declaration)

    @property
    def may_run(self) -> bool:
        """Whether it is in service, nobody has stopped it, and its code, where it brings some, is allowed."""
        return self.status != "retired" and not self.stopped and (self.code_allowed or not self.brings_code)

    def identity(self) -> ModelIdentity:
        """Return who the model is, as registered: its folder may be broken since."""
        content = json.loads(self.declaration)
        return ModelIdentity(
            name=self.name,
            version=self.version,
            digest=self.digest,
            title=self.title,
            intended_use=self.intended_use,
            owner=self.owner,
            demonstration=bool(content["model"]["demonstration"]),
            card=content["card"],
            status=self.status,
        )


def register(
    tx: Transaction, model: ModelFolder, status: Status, *, by: str, at: datetime, origin: Origin = "folder"
) -> None:
    """Add a model version; the same folder again changes nothing.

    Parameters
    ----------
    tx
        The transaction to write in.
    model
        An opened folder; load it first, so that its golden cases are checked.
    status
        What the version may do. ``active`` retires the version that was active.
    by, at
        Who decided, and when.
    origin
        Whether it came with the software.

    Raises
    ------
    Problem
        ``conflict`` when this version is registered with other content, or the name belongs to another owner;
        ``forbidden`` when it brings code that no operator allows.
    """
    manifest = model.manifest
    require_code_allowed(tx.connection, model)
    registered = get(tx.connection, manifest.name, manifest.version)
    if registered is not None:
        if registered.digest != model.digest:
            detail = f"version {manifest.version} of {manifest.name} is registered with other content"
            raise Problem(Category.CONFLICT, f"{detail}: give the changed folder a new version")
        return
    if origin != "bundled":
        _require_own_name(tx.connection, manifest)
    reason = _standing_stop(tx.connection, manifest.name)
    values = {
        "name": manifest.name,
        "version": manifest.version,
        "digest": model.digest,
        "status": "shadow",
        "stopped": reason is not None,
        "stop_reason": reason,
        "folder": str(model.path),
        "origin": origin,
        "title": manifest.title,
        "owner": manifest.owner,
        "intended_use": manifest.intended_use,
        "declaration": model.declaration,
        "added_at": at,
        "changed_at": at,
        "changed_by": by,
    }
    _change(tx, insert(models).values(values))
    if status != "shadow":
        set_status(tx, manifest.name, manifest.version, status, by=by, at=at)


def register_bundled(tx: Transaction, model: ModelFolder, *, by: str, at: datetime) -> None:
    """Register a model that came with the software; a newer build of the same version updates its row.

    It becomes active. A demonstration becomes shadow, and an earlier version of it that no person changed is retired.
    What a person decided about the row (its status, a stop) stays.

    Parameters
    ----------
    tx
        The transaction to write in.
    model
        The opened folder.
    by, at
        Who registers it, and when.
    """
    manifest = model.manifest
    registered = get(tx.connection, manifest.name, manifest.version)
    if registered is None:
        register(tx, model, "shadow" if manifest.demonstration else "active", by=by, at=at, origin="bundled")
        for row in everything(tx.connection) if manifest.demonstration else ():
            if (row.name, row.status, row.changed_by) == (manifest.name, "active", by):
                set_status(tx, row.name, row.version, "retired", by=by, at=at)
                _log.warning("demonstration_retired", model=row.name, version=row.version)
    elif (registered.digest, registered.folder, registered.origin) != (model.digest, model.path, "bundled"):
        change = _one(manifest.name, manifest.version).values(
            digest=model.digest,
            folder=str(model.path),
            origin="bundled",
            title=manifest.title,
            owner=manifest.owner,
            intended_use=manifest.intended_use,
            declaration=model.declaration,
            changed_at=at,
            changed_by=by,
        )
        _change(tx, change)


_EVERYTHING: Final = Statement(
    select(models, code_permissions.c.digest.is_not(None).label("code_allowed"))
    .select_from(models.outerjoin(code_permissions, models.c.digest == code_permissions.c.digest))
    .order_by(models.c.name, models.c.added_at, models.c.version)
)


def everything(conn: Connection) -> Sequence[ModelRow]:
    """Return every version of every model, in order of name and age."""
    return [_row(row) for row in _EVERYTHING.run(conn)]


_STATE = Statement(
    select(models.c.name, models.c.version, models.c.digest, models.c.status).order_by(
        models.c.name, models.c.added_at, models.c.version
    )
)


_SHARED_STATE: Final = "registry.state"


def state(conn: Connection) -> object:
    """Return a value that changes whenever the answer of :func:`serving` changes; cheaper than reading the rows."""
    return _STATE.run(conn).all()


def state_in(tx: Transaction) -> object:
    """Return :func:`state`, read once for the transactions that commit together."""
    found = tx.shared.get(_SHARED_STATE)
    if found is None:
        found = tx.shared[_SHARED_STATE] = state(tx.connection)
    return found


def active(conn: Connection) -> Sequence[ModelRow]:
    """Return the versions whose results are delivered, stopped ones included: a reason replaces their results."""
    return [row for row in everything(conn) if row.status == "active"]


def serving(conn: Connection) -> Sequence[ModelRow]:
    """Return the versions that run: active and shadow."""
    return [row for row in everything(conn) if row.status != "retired"]


def get(conn: Connection, name: str, version: str | None = None) -> ModelRow | None:
    """Return one version of a model, or None when there is none.

    Parameters
    ----------
    conn
        A connection to read from.
    name
        The model.
    version
        One of its versions; None for the active one, or else the newest.
    """
    versions = [row for row in everything(conn) if row.name == name]
    if version is not None:
        return next((row for row in versions if row.version == version), None)
    return next((row for row in versions if row.status == "active"), versions[-1] if versions else None)


def set_status(tx: Transaction, name: str, version: str, status: Status, *, by: str, at: datetime) -> None:
    """Change what a version may do; making it active retires the version that was.

    Parameters
    ----------
    tx
        The transaction to write in.
    name, version
        The model, as in its manifest.
    status
        ``shadow``, ``active`` or ``retired``.
    by, at
        Who decided, and when.

    Raises
    ------
    Problem
        ``not-found`` when there is no such version.
    """
    if status == "active":
        others = update(models).where(models.c.name == name, models.c.version != version, models.c.status == "active")
        _change(tx, others.values(status="retired", changed_at=at, changed_by=by))
    changed = _change(tx, _one(name, version).values(status=status, changed_at=at, changed_by=by))
    if not changed:
        raise Problem(Category.NOT_FOUND, f"there is no model {name} {version}")


def stop(tx: Transaction, name: str | None, reason: str, *, by: str, at: datetime) -> int:
    """Stop all versions of a model, or of all models, from the next prediction on; versions to come are included.

    Parameters
    ----------
    tx
        The transaction to write in.
    name
        The model; ``None`` for all.
    reason
        Shown in place of every result until the model is resumed.
    by, at
        Who decided, and when.

    Returns
    -------
    int
        Versions stopped.
    """
    if name is None:
        tx.execute(delete(model_stops))
        tx.execute(insert(model_stops), {"scope": ALL, "reason": reason, "stopped_at": at, "stopped_by": by})
    return _switch(tx, name, {"stopped": True, "stop_reason": reason, "changed_at": at, "changed_by": by})


def resume(tx: Transaction, name: str | None, *, by: str, at: datetime) -> int:
    """Let a model, or all models, predict again; return how many versions do.

    Of a stop of all models, one model may be let go on; models that are registered later stay stopped until all are
    resumed.

    Parameters
    ----------
    tx
        The transaction to write in.
    name
        The model; ``None`` for all.
    by, at
        Who decided, and when.
    """
    if name is None:
        tx.execute(delete(model_stops))
    return _switch(tx, name, {"stopped": False, "stop_reason": None, "changed_at": at, "changed_by": by})


def _switch(tx: Transaction, name: str | None, values: dict[str, Any]) -> int:
    change = update(models) if name is None else update(models).where(models.c.name == name)
    changed = _change(tx, change.values(values))
    if name is not None and not changed:
        raise Problem(Category.NOT_FOUND, f"there is no model {name}")
    return changed


def _change(tx: Transaction, statement: Insert | Update) -> int:
    """Change rows of the registry and return how many; what was read of it in this commit is read again."""
    tx.shared.pop(_SHARED_STATE, None)
    return int(tx.execute(statement).rowcount)


def declared(row: ModelRow) -> tuple[Manifest, tuple[FeatureSpec, ...]]:
    """Return what a registered version has declared, without opening its folder."""
    content = json.loads(row.declaration)
    features = parse_features(content["features"]) if content["features"] is not None else ()
    return parse_manifest(content["model"]), features


def _require_own_name(conn: Connection, manifest: Manifest) -> None:
    if manifest.name in MODELS:
        raise Problem(Category.CONFLICT, f"{manifest.name} is the name of a bundled model: give yours another name")
    owners = conn.execute(select(models.c.owner).where(models.c.name == manifest.name)).scalars().all()
    if any(owner != manifest.owner for owner in owners):
        detail = f"{manifest.name} is registered with another owner"
        raise Problem(Category.CONFLICT, f"{detail}: give the model another name")


def _standing_stop(conn: Connection, name: str) -> str | None:
    """Return the reason of a stop that holds for a version that is registered now."""
    of_name = select(models.c.stop_reason).where(models.c.name == name, models.c.stopped.is_(True))
    reasons = conn.execute(of_name.order_by(models.c.changed_at.desc())).scalars().all()
    known = conn.execute(select(models.c.name).where(models.c.name == name)).first() is not None
    if reasons or known:
        return next(iter(reasons), None)
    return conn.execute(select(model_stops.c.reason).where(model_stops.c.scope == ALL)).scalar()


def _one(name: str, version: str) -> Update:
    return update(models).where(models.c.name == name, models.c.version == version)


def _row(row: Row[Any]) -> ModelRow:
    values = row._asdict()
    return ModelRow(**values | {"folder": Path(values["folder"]), "code_allowed": bool(values["code_allowed"])})


@lru_cache(maxsize=256)
def _brings_code(declaration: str) -> bool:
    stated = json.loads(declaration)["model"]["runner"]
    return (stated.get("kind") if isinstance(stated, dict) else stated) == BY_CODE
