"""The stored Patients who have one of some identifiers, found in the search index."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection, and_, bindparam, select

from fhir_adapter.store.search.parameters import numbers_of
from fhir_adapter.store.search.values import key_of
from fhir_adapter.store.versions import CURRENT
from kernel.statements import Statement, StatementOfMany
from kernel.tables import resource_heads, resource_index, resource_versions

Token: TypeAlias = tuple[str, str]
"""System and value of an identifier."""

DICOM_UID: Final = "urn:dicom:uid"
"""Identifier system of UIDs; such an identifier names a study, also where it stands at the Patient of that study."""

_HEADS: Final = resource_heads.c
_MOST: Final = 100
"""Patients that are looked at; more share no identifier that names a person."""

_FIRST: Final = resource_versions.alias()
_SELECTED: Final = StatementOfMany(
    lambda ids: (
        CURRENT.join(_FIRST, and_(_FIRST.c.key == _HEADS.key, _FIRST.c.version == 1))
        .where(_HEADS.type == "Patient", _HEADS.deleted.is_(False), _HEADS.id.in_(ids))
        .order_by(_FIRST.c.last_updated, _HEADS.id)
        .limit(_MOST)
    )
)
_OF_IDENTIFIER: Final = Statement(
    select(_HEADS.id)
    .join(resource_index, resource_index.c.key == _HEADS.key)
    .where(
        resource_index.c.param == numbers_of("Patient", "identifier")[0],
        resource_index.c.value == bindparam("of_value"),
        resource_index.c.system == bindparam("of_system"),
    )
    .limit(_MOST)
)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A stored Patient who may be the one that a message or a study is about."""

    id: str
    version: int
    #: The current identifiers.
    identifiers: tuple[Token, ...]
    #: Not out of use, and not replaced by another Patient.
    active: bool


def current_identifiers(identifiers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the identifiers with system and value that are not out of use and name a person, not a study."""
    return [
        it
        for it in identifiers
        if it.get("system", DICOM_UID) != DICOM_UID and "value" in it and it.get("use") != "old"
    ]


def tokens_of(patient: Mapping[str, Any]) -> tuple[Token, ...]:
    """Return the current identifiers of a Patient."""
    return tuple(
        dict.fromkeys((it["system"], it["value"]) for it in current_identifiers(patient.get("identifier", ())))
    )


def holders(connection: Connection, tokens: Sequence[Token], resource_id: str) -> tuple[Holder, ...]:
    """Return the stored Patients who have one of the identifiers or the id; the one that was stored first comes first.

    Parameters
    ----------
    connection
        Where to read.
    tokens
        System and value of each identifier.
    resource_id
        Logical id of a Patient who counts too.
    """
    found: set[str] = set()
    for system, value in tokens:
        token = {"of_value": key_of(value), "of_system": key_of(system)}
        found.update(row.id for row in _OF_IDENTIFIER.run(connection, token))
    ids = [*sorted(found)[:_MOST], resource_id]
    rows = _SELECTED.run(connection, ids)
    patients = [(row.id, row.version, orjson.loads(row.content)) for row in rows]
    return tuple(
        Holder(id=name, version=version, identifiers=tokens_of(patient), active=_is_active(patient))
        for name, version, patient in patients
    )


def lock_names(tokens: Iterable[Token]) -> list[str]:
    """Return the locks to take before a Patient with these identifiers is written, in the order to take them."""
    return sorted({f"Patient?identifier={system}|{value}" for system, value in tokens})


def _is_active(patient: Mapping[str, Any]) -> bool:
    replaced = any(link.get("type") == "replaced-by" for link in patient.get("link", ()))
    return patient.get("active") is not False and not replaced
