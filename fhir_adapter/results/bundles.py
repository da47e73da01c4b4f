"""Results as a transaction for the hospital's EHR (FHIR R4, http.html#transaction).

An EHR assigns ids of its own, so every resource is created on the condition that none has its identifier yet; sending
the same transaction twice changes nothing.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from fhir_adapter.store.document import Json, encode
from inference.contract import Subject
from kernel.errors import Category, Problem

_NAMESPACE: Final = uuid.UUID("6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a11")
"""Namespace (RFC 9562 section 5.5) of the names that resources have within a Bundle."""

UNIDENTIFIED: Final = "Patient?identifier="
"""Reference to a patient who has no identifier; :func:`identified` completes it when there is one."""

NO_IDENTIFIER: Final = (
    "the patient has no identifier by which another system could know them; add one to the Patient and replay"
)
"""Why a result about such a patient cannot be delivered."""

_UNIDENTIFIED: Final = re.compile(rb'"reference":"Patient(?:\?identifier=|/[A-Za-z0-9.-]{1,64})"')
"""That reference as it is encoded, or our own id in what an earlier release has rendered."""


def for_ehr(
    resources: Iterable[Json], subject: Subject, public_base_url: str, *, unidentified: str = UNIDENTIFIED
) -> Json:
    """Return a transaction that a strict EHR can accept: it holds no reference that the EHR could not resolve.

    Parameters
    ----------
    resources
        From :func:`fhir_adapter.results.resources_for`.
    subject
        Whom they are about; named by a conditional reference. Our own id is never sent: it may be another patient's
        at the EHR.
    public_base_url
        Base of our FHIR API as the EHR sees it; inputs are referred to there.
    unidentified
        The reference to a patient who has no identifier.

    Returns
    -------
    dict
        Conditional creates (R4, http.html#ccreate) that name each other by ``urn:uuid``.
    """
    given = list(resources)
    names = {f"{it['resourceType']}/{it['id']}": _full_url(it) for it in given}
    names[subject.reference] = unidentified if subject.identifier is None else _conditional(*subject.identifier)
    base = public_base_url.rstrip("/")
    entries = [_conditional_create(it, names, base) for it in given]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def identified(payload: bytes, identifier: Callable[[], tuple[str, str] | None]) -> bytes:
    """Return an encoded transaction that names its patient.

    Parameters
    ----------
    payload
        What :func:`for_ehr` returned, encoded.
    identifier
        Returns system and value of the patient's identifier now; asked when the payload has none.

    Raises
    ------
    Problem
        ``incorrect`` when the patient still has no identifier.
    """
    if _UNIDENTIFIED.search(payload) is None:
        return payload
    found = identifier()
    if found is None:
        raise Problem(Category.INCORRECT, NO_IDENTIFIER)
    member = encode({"reference": _conditional(*found)})[1:-1]
    return _UNIDENTIFIED.sub(lambda _: member, payload)


def _full_url(resource: Json) -> str:
    name = f"{resource['resourceType']}/{resource['id']}"
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, name)}"


def _conditional(system: str, value: str) -> str:
    return f"{UNIDENTIFIED}{_token(system, value)}"


def _conditional_create(resource: Json, names: Mapping[str, str], base: str) -> Json:
    kind = resource["resourceType"]
    if "identifier" in resource:
        identifier = resource["identifier"][0]
        condition = f"identifier={_token(identifier['system'], identifier['value'])}"
    else:
        tag = resource["meta"]["tag"][0]
        condition = f"_tag={_token(tag['system'], tag['code'])}"
    content = {key: _rewritten(value, names, base) for key, value in resource.items() if key != "id"}
    request = {"method": "POST", "url": kind, "ifNoneExist": condition}
    return {"fullUrl": _full_url(resource), "resource": content, "request": request}


def _token(system: str, value: str) -> str:
    """Write a token as it stands in a query: what search gives a meaning is escaped, the bar in the middle is not."""
    escaped = [
        part.replace("\\", "\\\\").replace("|", "\\|").replace(",", "\\,").replace("$", "\\$")
        for part in (system, value)
    ]
    return "|".join(quote(part, safe=":/.-") for part in escaped)


def _rewritten(value: Any, names: Mapping[str, str], base: str) -> Any:
    if isinstance(value, dict):
        return {
            key: _resolvable(item, names, base) if key == "reference" else _rewritten(item, names, base)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_rewritten(item, names, base) for item in value]
    return value


def _resolvable(reference: str, names: Mapping[str, str], base: str) -> str:
    if reference in names:
        return names[reference]
    return reference if ":" in reference else f"{base}/{reference}"
