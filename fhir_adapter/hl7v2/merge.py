"""Merging the content of a message into the stored resource (section 2.5.3).

An empty field leaves the stored content unchanged; ``""`` deletes it; any other value replaces it. Result messages
often carry less demographic data than admission messages: their values replace stored values only where the two differ,
so that a short PID removes neither an address nor a middle name.

Who a patient is (name, birth date, sex) is stated by the source of patients, or by a person who accepts a message. A
result message quotes it: it fills what is not known and changes nothing else, so that small differences, each of which
is tolerated, cannot add up to another person. A birth date that is less precise than the stored one and agrees with it
changes nothing, whoever sends it.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import dtm
from fhir_adapter.same_person import Attribute, missing, person_of
from fhir_adapter.validation.contained import unreferenced

_STORES_OWN = ("versionId", "lastUpdated")
_WHO: Final[Mapping[str, Attribute]] = {"name": "name", "birthDate": "birth-date", "gender": "sex"}
"""Member of Patient -> the attribute that says who the patient is."""


def merge_patient(
    current: Mapping[str, Any] | None,
    new: Resource,
    *,
    authoritative: bool,
    accepted: bool = False,
    deleted: Collection[str] = (),
) -> Resource:
    """Return the Patient to store.

    Parameters
    ----------
    current, new, authoritative, deleted
        As for :func:`merge_resource`.
    accepted
        Whether a person has decided that the message is of this patient; it then states who the patient is.
    """
    if current is None:
        return new
    kept = set()
    if not authoritative and not accepted:
        not_known = missing(person_of(current))
        kept = {member for member, attribute in _WHO.items() if attribute not in not_known}
    known, born = current.get("birthDate", ""), new.get("birthDate", "")
    if born and len(born) != len(known):  # the more precise one of two that agree
        kept -= {"birthDate"} if born.startswith(known) else set()
        kept |= {"birthDate"} if known.startswith(born) else set()
    said = {member: value for member, value in new.items() if member not in kept}
    gone = [member for member in deleted if member not in kept]
    return merge_resource(current, said, authoritative=authoritative, deleted=gone)


def merge_resource(
    current: Mapping[str, Any] | None, new: Resource, *, authoritative: bool, deleted: Collection[str] = ()
) -> Resource:
    """Return the resource to store.

    Parameters
    ----------
    current
        The stored resource, or None.
    new
        The resource made from the message; has ``resourceType`` and ``id``.
    authoritative
        Whether the sender is the source of this kind of data (ADT) rather than quoting it (ORU).
    deleted
        Members that the sender deletes (``""`` in the message).
    """
    if current is None:
        return new
    kept = {key: value for key, value in current.items() if key not in deleted and key != "meta"}
    if not authoritative:
        new = {key: value for key, value in new.items() if not _within(value, kept.get(key))}
    meta = {key: value for key, value in current.get("meta", {}).items() if key not in _STORES_OWN}
    merged: Resource = ({"meta": meta} if meta else {}) | kept | new
    if "identifier" in kept and "identifier" in new:
        merged["identifier"] = _identifiers(kept["identifier"], new["identifier"])
    if "hospitalization" in kept and "hospitalization" in new:
        merged["hospitalization"] = kept["hospitalization"] | new["hospitalization"]
    if "period" in kept and "period" in new:
        joined = kept["period"] | new["period"]
        merged["period"] = dtm.period(joined.get("start", ""), joined.get("end", ""))
    for choice in ("deceased", "multipleBirth"):
        merged = _one_choice(merged, new, choice)
    return _without_unreferenced(merged)


def _without_unreferenced(resource: Resource) -> Resource:
    """Leave out the contained resources that nothing refers to any more (R4, dom-3)."""
    while positions := unreferenced(resource):
        kept = [inner for index, inner in enumerate(resource["contained"]) if index not in positions]
        resource = {key: value for key, value in resource.items() if key != "contained"}
        resource |= {"contained": kept} if kept else {}
    return resource


def _within(new: Any, stored: Any) -> bool:
    """Return whether ``stored`` already contains everything in ``new``."""
    if isinstance(new, dict) and isinstance(stored, Mapping):
        return all(_within(value, stored.get(key)) for key, value in new.items())
    if isinstance(new, list) and isinstance(stored, list):
        return all(any(_within(new_item, stored_item) for stored_item in stored) for new_item in new)
    return bool(new == stored)


def _identifiers(current: list[Resource], new: list[Resource]) -> list[Resource]:
    """Merge two lists of identifiers; an identifier in both keeps its position and takes the new form."""
    merged = {(identifier.get("system"), identifier.get("value")): identifier for identifier in current}
    merged |= {(identifier.get("system"), identifier.get("value")): identifier for identifier in new}
    return list(merged.values())


def _one_choice(merged: Resource, new: Resource, choice: str) -> Resource:
    """Keep one member of a choice ``choice[x]``: that of the message, where it has one."""
    chosen = [key for key in new if key.startswith(choice)]
    return {key: value for key, value in merged.items() if not chosen or not key.startswith(choice) or key in chosen}
