"""What a message says, laid over what is stored (section 2.5.3).

A field that is not valued leaves the receiver's content as it is; ``""`` deletes it; anything else replaces it. Results
identify a patient, often by less than admission knows: what they say replaces what is stored only where it contradicts
it, so that a short PID takes neither an address nor a middle name away.
"""

from collections.abc import Collection, Mapping
from typing import Any

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import dtm

_STORES_OWN = ("versionId", "lastUpdated")


def merge_resource(
    current: Mapping[str, Any] | None, new: Resource, *, authoritative: bool, deleted: Collection[str] = ()
) -> Resource:
    """Return the resource to store.

    Parameters
    ----------
    current
        The resource as it is stored, if it is.
    new
        What the message says; has ``resourceType`` and ``id``.
    authoritative
        Whether the sender keeps this kind of data (ADT), rather than quoting it (ORU).
    deleted
        Members whose content the sender asked to delete.
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
    return merged


def _within(said: Any, stored: Any) -> bool:
    """Say whether what is stored says all of it already."""
    if isinstance(said, dict) and isinstance(stored, Mapping):
        return all(_within(value, stored.get(key)) for key, value in said.items())
    if isinstance(said, list) and isinstance(stored, list):
        return all(any(_within(one, other) for other in stored) for one in said)
    return bool(said == stored)


def _identifiers(current: list[Resource], new: list[Resource]) -> list[Resource]:
    """Join two lists of identifiers; the newer form of one that is in both stands in the older one's place."""
    joined = {(one.get("system"), one.get("value")): one for one in current}
    joined |= {(one.get("system"), one.get("value")): one for one in new}
    return list(joined.values())


def _one_choice(merged: Resource, new: Resource, choice: str) -> Resource:
    """Keep one member of a choice ``choice[x]``, the message's own."""
    stated = [key for key in new if key.startswith(choice)]
    return {key: value for key, value in merged.items() if not stated or not key.startswith(choice) or key in stated}
