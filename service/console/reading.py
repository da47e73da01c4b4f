"""The content of stored resources as text for people: pure functions from FHIR R4 JSON to records.

Values are shown as they were written, digit for digit. A missing element is left out: the content of
a peer's resource must never break a page.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from inference.contract import REVIEW
from service.console.records import AuditRow, InputShown, OutputShown, ProvenanceShown

Json: TypeAlias = Mapping[str, Any]

_POINTS: Final = "{score}"
"""UCUM annotation of a number of points; it is shown without a unit."""


def words(concept: Json | None) -> str:
    """Return a CodeableConcept's text, or the display or code of its first coding that has one."""
    if not concept:
        return ""
    if concept.get("text"):
        return str(concept["text"])
    for coding in concept.get("coding", ()):
        if coding.get("display") or coding.get("code"):
            return str(coding.get("display") or coding.get("code"))
    return ""


def value_of(holder: Json) -> tuple[str, str]:
    """Return the value[x] of an Observation or of a component as (value, unit); empty when there is none."""
    if quantity := holder.get("valueQuantity"):
        value = f"{quantity.get('comparator', '')}{_plain(quantity.get('value', ''))}"
        is_points = quantity.get("code") == _POINTS
        return value, "" if is_points else str(quantity.get("unit") or quantity.get("code") or "")
    if concept := holder.get("valueCodeableConcept"):
        return words(concept), ""
    if limits := holder.get("valueRange"):
        low, high = (limits.get(end, {}) for end in ("low", "high"))
        unit = str(low.get("unit") or high.get("unit") or "")
        return f"{_plain(low.get('value', ''))} to {_plain(high.get('value', ''))}", unit
    if sampled := holder.get("valueSampledData"):
        return str(sampled.get("data", "")), str(sampled.get("origin", {}).get("unit") or "")
    for name in ("valueString", "valueInteger", "valueBoolean", "valueDateTime", "valueTime"):
        if name in holder:
            return _plain(holder[name]), ""
    if absent := holder.get("dataAbsentReason"):
        return f"absent: {words(absent)}", ""
    return "", ""


def findings(resources: Iterable[Json]) -> tuple[OutputShown, ...]:
    """Return the findings of a result: its Observations, or its RiskAssessments where there is no Observation.

    Parameters
    ----------
    resources
        Everything that was written for one result.
    """
    written = list(resources)
    risks = [resource for resource in written if resource.get("resourceType") == "RiskAssessment"]
    risk_texts = _risk_texts(risks)
    found = [
        _finding(resource, risk_texts)
        for resource in written
        if resource.get("resourceType") == "Observation" and "dataAbsentReason" not in resource
    ]
    return tuple(found) or tuple(_risk(risk, prediction) for risk in risks for prediction in risk.get("prediction", ()))


def codes(resource: Json) -> set[tuple[str, str]]:
    """Return the (system, code) pairs of a resource's ``code``."""
    return {
        (str(coding.get("system")), str(coding.get("code"))) for coding in resource.get("code", {}).get("coding", ())
    }


def inputs(reference: str, resource: Json | None) -> Iterator[InputShown]:
    """Yield the values of one input of a result; a panel has several.

    Parameters
    ----------
    reference
        The input's versioned reference or URN.
    resource
        Its content; none when it is not a FHIR resource of this server.
    """
    if resource is None:
        yield _foreign(reference)
        return
    name, time = words(resource.get("code")) or reference.partition("/")[0], _time(resource)
    parts = [
        (name, resource),
        *((f"{name}: {words(part.get('code'))}", part) for part in resource.get("component", ())),
    ]
    valued = [(title, value_of(part)) for title, part in parts]
    for title, (value, unit) in [entry for entry in valued if entry[1][0]] or valued[:1]:
        yield InputShown(name=title, value=value, unit=unit, time=time, source=reference, link=f"/fhir/{reference}")


def provenance(reference: str, resource: Json) -> ProvenanceShown:
    """Summarise a Provenance.

    Parameters
    ----------
    reference
        Its versioned reference.
    resource
        Its content: a FHIR R4 Provenance as JSON.
    """
    return ProvenanceShown(
        reference=reference,
        recorded=str(resource.get("recorded", "")),
        activity=words(resource.get("activity")),
        agents=tuple((words(agent.get("type")), _named(agent.get("who", {}))) for agent in resource.get("agent", ())),
        entities=tuple(
            (str(entity.get("role", "")), _named(entity.get("what", {}))) for entity in resource.get("entity", ())
        ),
        signed=bool(resource.get("signature")),
    )


def audit_row(row: Any, event: Json) -> AuditRow:
    """Return the row of the audit page for an event.

    Parameters
    ----------
    row
        Row of the table ``audit_log``; gives the columns that are indexed there.
    event
        The row's AuditEvent as JSON; gives the agents, the outcome and its reason.
    """
    agents: Sequence[Json] = event.get("agent", ())
    requestors = [agent for agent in agents if agent.get("requestor")] or list(agents[:1])
    asker = requestors[0] if requestors else {}
    subtype: Json = next(iter(event.get("subtype", ())), {})
    return AuditRow(
        seq=row.seq,
        id=row.id,
        recorded=row.recorded,
        who=", ".join(_named(agent.get("who", {})) for agent in requestors),
        address=str(asker.get("network", {}).get("address", "")),
        act=str(subtype.get("code") or row.action),
        outcome=str(event.get("outcome", "")),
        reason=str(event.get("outcomeDesc", "")),
        entity=row.entity,
        patient=row.patient,
    )


def _finding(resource: Json, risk_texts: Sequence[str]) -> OutputShown:
    value, unit = value_of(resource)
    bands = [words(concept) for concept in resource.get("interpretation", ())]
    texts = [str(note["text"]) for note in resource.get("note", ()) if note.get("text")]
    return OutputShown(
        title=words(resource.get("code")) or "OutputShown",
        value=value or None,
        unit=unit,
        band=", ".join(band for band in bands if band),
        texts=_sentences([*texts, *risk_texts]),
        parts=tuple(
            (words(part.get("code")), " ".join(value_of(part)).strip()) for part in resource.get("component", ())
        ),
    )


def _risk(risk: Json, prediction: Json) -> OutputShown:
    probability = prediction.get("probabilityDecimal")
    return OutputShown(
        title=words(prediction.get("outcome")) or words(risk.get("code")) or "Risk",
        value=None if probability is None else _plain(probability),
        unit="" if probability is None else "%",
        band=words(prediction.get("qualitativeRisk")),
        texts=_sentences(_risk_texts([risk])),
    )


def _risk_texts(risks: Iterable[Json]) -> list[str]:
    texts: list[str] = []
    for risk in risks:
        texts += [str(note["text"]) for note in risk.get("note", ()) if note.get("text")]
        texts += [
            str(prediction["rationale"]) for prediction in risk.get("prediction", ()) if prediction.get("rationale")
        ]
    return texts


def _sentences(texts: Iterable[str]) -> tuple[str, ...]:
    """Remove repetitions, and the label that the page already shows."""
    bare = (text.removeprefix(REVIEW).strip() for text in texts)
    return tuple(dict.fromkeys(text for text in bare if text))


def _foreign(reference: str) -> InputShown:
    name = "DICOM instance" if reference.startswith("urn:oid:") else reference.partition("/")[0]
    return InputShown(name=name, value="", unit="", time="", source=reference, link=None)


def _time(resource: Json) -> str:
    for name in ("effectiveDateTime", "effectiveInstant", "issued", "birthDate"):
        if resource.get(name):
            return str(resource[name])
    period = resource.get("effectivePeriod", {})
    return str(period.get("end") or period.get("start") or "")


def _named(reference: Json) -> str:
    """Return a Reference as text: display and identifier, or else the first of display, reference and identifier."""
    identifier = str(reference.get("identifier", {}).get("value", ""))
    display, target = str(reference.get("display", "")), str(reference.get("reference", ""))
    if display and identifier:
        return f"{display} {identifier}"
    return display or target or identifier


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
