"""The invariants of R4 4.0.1 for the structures that are served, each with HL7's key and meaning.

They are listed by structure (:data:`INVARIANTS`), so each is checked only where it applies. Sources: the ``constraint``
elements of the R4 StructureDefinitions; the narrative rules are FHIR R4, narrative.html (txt-1, txt-2).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fhir_adapter.store.document import Json
from fhir_adapter.store.narrative import is_safe
from fhir_adapter.store.times import span

_UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One rule of the standard."""

    #: HL7's key, such as ``obs-6``.
    key: str
    #: The rule in words, for the sender of the resource.
    text: str
    #: Returns whether a structure obeys it.
    holds: Callable[[Json], bool]


def _has_choice(value: Json, stem: str) -> bool:
    return any(name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper() for name in value)


def _codings(concept: Json) -> set[tuple[str, str]]:
    return {(coding.get("system", ""), coding.get("code", "")) for coding in concept.get("coding", ())}


def _obs_7(observation: Json) -> bool:
    if not _has_choice(observation, "value") or "component" not in observation:
        return True
    own = _codings(observation.get("code", {}))
    return not any(own & _codings(component.get("code", {})) for component in observation["component"])


def _ras_1(prediction: Json) -> bool:
    ends = [prediction.get("probabilityRange", {}).get(end) for end in ("low", "high")]
    return all(end is None or (end.get("code") == "%" and end.get("system") == _UCUM) for end in ends)


def _per_1(period: Json) -> bool:
    start, end = period.get("start"), period.get("end")
    return start is None or end is None or span(start)[0] < span(end)[1]


def _inv_1(task: Json) -> bool:
    changed, authored = task.get("lastModified"), task.get("authoredOn")
    return changed is None or authored is None or span(changed)[1] > span(authored)[0]


def _dom_2(resource: Json) -> bool:
    return not any("contained" in inner for inner in resource.get("contained", ()))


def _dom_4(resource: Json) -> bool:
    metas = [inner.get("meta", {}) for inner in resource.get("contained", ())]
    return not any("versionId" in meta or "lastUpdated" in meta for meta in metas)


def _ext_1(extension: Json) -> bool:
    return ("extension" in extension) != (_has_choice(extension, "value") or _has_choice(extension, "_value"))


RESOURCE_INVARIANTS: Final = (
    Invariant(key="dom-2", text="a contained resource contains no other", holds=_dom_2),
    Invariant(key="dom-4", text="a contained resource has no version of its own", holds=_dom_4),
)
"""Checked for every resource."""

INVARIANTS: Final[Mapping[str, tuple[Invariant, ...]]] = {
    "Attachment": (
        Invariant(
            key="att-1", text="data needs a contentType", holds=lambda it: "data" not in it or "contentType" in it
        ),
    ),
    "AuditEvent.entity": (
        Invariant(key="sev-1", text="either a name or a query", holds=lambda it: "name" not in it or "query" not in it),
    ),
    "ContactPoint": (
        Invariant(key="cpt-2", text="a value needs a system", holds=lambda it: "value" not in it or "system" in it),
    ),
    "Extension": (Invariant(key="ext-1", text="either a value or extensions", holds=_ext_1),),
    "Narrative": (
        Invariant(
            key="txt-1", text="the narrative is not plain, safe XHTML", holds=lambda it: is_safe(it.get("div", ""))
        ),
    ),
    "Observation": (
        Invariant(
            key="obs-6",
            text="dataAbsentReason only where there is no value",
            holds=lambda it: "dataAbsentReason" not in it or not _has_choice(it, "value"),
        ),
        Invariant(key="obs-7", text="no value beside a component with the same code", holds=_obs_7),
    ),
    "Observation.referenceRange": (
        Invariant(
            key="obs-3",
            text="a reference range has a low, a high or a text",
            holds=lambda it: bool({"low", "high", "text"} & it.keys()),
        ),
    ),
    "Patient.contact": (
        Invariant(
            key="pat-1",
            text="a contact has details or an organization",
            holds=lambda it: bool({"name", "telecom", "address", "organization"} & it.keys()),
        ),
    ),
    "Period": (Invariant(key="per-1", text="a period does not end before it starts", holds=_per_1),),
    "Quantity": (
        Invariant(
            key="qty-3", text="a unit's code needs its system", holds=lambda it: "code" not in it or "system" in it
        ),
    ),
    "RiskAssessment.prediction": (
        Invariant(key="ras-1", text="a probability range is in percent", holds=_ras_1),
        Invariant(
            key="ras-2",
            text="a probability is a percentage, at most 100",
            holds=lambda it: it.get("probabilityDecimal", 0) <= 100,
        ),
    ),
    "ServiceRequest": (
        Invariant(
            key="prr-1", text="orderDetail needs a code", holds=lambda it: "orderDetail" not in it or "code" in it
        ),
    ),
    "Task": (Invariant(key="inv-1", text="not modified before it was authored", holds=_inv_1),),
}
