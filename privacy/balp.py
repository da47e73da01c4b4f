"""Audit events in the shape of IHE Basic Audit Log Patterns (BALP 1.1), as FHIR R4 AuditEvent dicts.

One pure function for each kind of action: it takes the :class:`Principal`, the entity and the time, and returns a dict
for :meth:`privacy.audit.AuditLog.record`. Entities are versioned references or URNs, never names, and no free text
comes from a patient's record. An event claims a BALP profile only when all that the profile requires is known: the
network addresses of both sides always, and the patient in the profiles for patients. The profiles describe successful
actions only, so :func:`failed` removes the claim.

IHE ITI BALP: https://profiles.ihe.net/ITI/BALP. FHIR R4: https://hl7.org/fhir/R4/auditevent.html.
"""

from base64 import b64encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from kernel.errors import Category, Problem
from privacy.authorize import Interaction, Request
from privacy.principal import Principal

Event: TypeAlias = dict[str, Any]
"""An AuditEvent as JSON. Events share parts, so copy an event instead of changing it in place."""

_PROFILES: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
_LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
_ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_URI: Final = "urn:ietf:rfc:3986"
COMMAND: Final = "urn:ausculta:command"
"""Code system of :func:`administered`'s subtypes."""

_REST: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "Restful Operation",
}
_EXPORT: Final = {"system": _DCM, "code": "110106", "display": "Export"}
_IMPORT: Final = {"system": _DCM, "code": "110107", "display": "Import"}
_ACTIVITY: Final = {"system": _DCM, "code": "110100", "display": "Application Activity"}
_DISCLOSE: Final = {"system": _LIFECYCLE, "code": "disclose", "display": "Disclose Record Lifecycle Event"}

_SOURCE: Final = {"coding": [{"system": _DCM, "code": "110153", "display": "Source Role ID"}]}
_DESTINATION: Final = {"coding": [{"system": _DCM, "code": "110152", "display": "Destination Role ID"}]}
_APPLICATION: Final = {"coding": [{"system": _DCM, "code": "110150", "display": "Application"}]}
_CUSTODIAN: Final = {"coding": [{"system": _PARTICIPANT, "code": "custodian", "display": "Custodian"}]}
_ROLES: Final = {role["coding"][0]["code"]: role for role in (_SOURCE, _DESTINATION, _APPLICATION, _CUSTODIAN)}
_PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_AUTHOR: Final = {"coding": [{"system": _PARTICIPATION, "code": "AUT", "display": "author (originator)"}]}
_RECIPIENT: Final = {"coding": [{"system": _PARTICIPATION, "code": "IRCP", "display": "information recipient"}]}

_PERSON: Final = {"system": _ENTITY_TYPE, "code": "1", "display": "Person"}
_OBJECT: Final = {"system": _ENTITY_TYPE, "code": "2", "display": "System Object"}
_REQUEST: Final = {
    "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType",
    "code": "XrequestId",
}
_PATIENT: Final = {"system": _ROLE, "code": "1", "display": "Patient"}
_REPORT: Final = {"system": _ROLE, "code": "3", "display": "Report"}
_DOMAIN_RESOURCE: Final = {"system": _ROLE, "code": "4", "display": "Domain Resource"}
_QUERY: Final = {"system": _ROLE, "code": "24", "display": "Query"}

_ACTIONS: Final = {
    Interaction.CREATE: "C",
    Interaction.READ: "R",
    Interaction.VREAD: "R",
    Interaction.HISTORY: "R",
    Interaction.HISTORY_OF_TYPE: "R",
    Interaction.HISTORY_OF_SYSTEM: "R",
    Interaction.UPDATE: "U",
    Interaction.PATCH: "U",
    Interaction.DELETE: "D",
}
"""AuditEvent.action of an interaction; any other one is an execution (E)."""
_CODES: Final = {Interaction.EXPORT: "operation"}
"""Codes of interactions that FHIR knows as operations only."""


def created(principal: Principal, *, entity: str | None, patient: str | None, at: datetime) -> Event:
    """Build the event of a created resource (BALP Create, PatientCreate).

    Parameters
    ----------
    principal
        Who performed the action.
    entity
        Versioned reference (``Observation/1/_history/1``), or a URN for what is not a FHIR resource; None when the
        action failed before there was one.
    patient
        Reference of the patient concerned (``Patient/…``), where there is one.
    at
        Time of the action; aware.

    Returns
    -------
    Event
        An AuditEvent without ``id``, which the log assigns.
    """
    event = _rest(_interaction("create"), "C", at)
    return _finish(event, principal, _written(principal), _data(entity, patient), _name("Create", entity, patient))


def updated(
    principal: Principal,
    *,
    entity: str | None,
    patient: str | None,
    at: datetime,
    interaction: Literal["update", "patch"] = "update",
) -> Event:
    """Build the event of a changed resource (BALP Update, PatientUpdate); parameters as for :func:`created`."""
    event = _rest(_interaction(interaction), "U", at)
    return _finish(event, principal, _written(principal), _data(entity, patient), _name("Update", entity, patient))


def deleted(principal: Principal, *, entity: str | None, patient: str | None, at: datetime) -> Event:
    """Build the event of a deleted resource (BALP Delete, PatientDelete); parameters as for :func:`created`."""
    agents = [_client(principal, _APPLICATION), _server(principal, _CUSTODIAN)]
    event = _rest(_interaction("delete"), "D", at)
    return _finish(event, principal, agents, _data(entity, patient), _name("Delete", entity, patient))


def read(
    principal: Principal,
    *,
    entity: str | None,
    patient: str | None,
    at: datetime,
    interaction: Literal["read", "vread", "history-instance"] = "read",
) -> Event:
    """Build the event of a read resource (BALP Read, PatientRead); parameters as for :func:`created`.

    The data flow from the server to the client, so here the server is the source.
    """
    agents = [_client(principal, _DESTINATION), _server(principal, _SOURCE)]
    event = _rest(_interaction(interaction), "R", at)
    return _finish(event, principal, agents, _data(entity, patient), _name("Read", entity, patient))


def queried(
    principal: Principal,
    *,
    query: str,
    patient: str | None,
    at: datetime,
    interaction: Literal["search-type", "history-type", "history-system"] = "search-type",
) -> Event:
    """Build the event of a search (BALP Query, PatientQuery): one event for each patient among the results.

    Parameters
    ----------
    principal
        Who searched.
    query
        The request as it was received; stored in base64, so that malformed input is preserved exactly.
    patient
        Reference of one patient found; None when the results concern no patient.
    at
        Time of the search; aware.
    interaction
        What was requested.
    """
    encoded = b64encode(query.encode("utf-8", "surrogateescape")).decode()
    entities = _with_patient([{"type": _OBJECT, "role": _QUERY, "query": encoded}], patient)
    event = _rest(_interaction(interaction), "E", at)
    return _finish(event, principal, _written(principal), entities, _name("Query", query, patient))


def validated(principal: Principal, *, entity: str | None, patient: str | None, at: datetime) -> Event:
    """Build the event of a resource that was validated (``$validate``); parameters as for :func:`created`.

    BALP has no profile for an operation.
    """
    event = _rest(_interaction("operation"), "E", at)
    return _finish(event, principal, _written(principal), _data(entity, patient), "")


def received(principal: Principal, *, entity: str | None, patient: str | None, at: datetime, what: str) -> Event:
    """Build the event of a received message or study (BALP PrivacyDisclosure.Recipient).

    Parameters
    ----------
    principal
        Who sent it.
    entity
        URN of the message or study (``urn:uuid:…``, ``urn:oid:…``), or a versioned reference.
    patient
        Reference of the patient concerned, where known.
    at
        Time of receipt; aware.
    what
        Its kind, a constant text such as ``HL7 v2 message`` or ``DICOM study``.
    """
    event = _event(_IMPORT, _DISCLOSE, "C", at)
    entities = _data(entity, patient, role=_REPORT, description=what)
    profile = "PrivacyDisclosure.Recipient" if entity and patient else ""
    return _finish(event, principal, _written(principal), entities, profile)


def disclosed(
    principal: Principal,
    *,
    destination: str,
    destination_address: str,
    entity: str | None,
    patient: str | None,
    at: datetime,
) -> Event:
    """Build the event of a result sent to another system (BALP PrivacyDisclosure.Source).

    Parameters
    ----------
    principal
        This server's side; ``client`` is what requested the delivery and may be the server itself.
    destination
        Name of the system that received it.
    destination_address
        Where it was sent: a URL, a host, or ``host:port``.
    entity
        Versioned reference, or URN, of what was sent.
    patient
        Reference of the patient concerned.
    at
        Time of the delivery; aware.
    """
    recipient = _agent(destination, destination_address, _DESTINATION, requestor=False)
    agents = [_server(principal, _SOURCE), recipient]
    if principal.client and principal.client != principal.server:
        agents.append(_client(principal, _APPLICATION))
    event = _event(_EXPORT, _DISCLOSE, "R", at)
    profile = "PrivacyDisclosure.Source" if entity and patient and destination_address else ""
    return _finish(event, principal, agents, _data(entity, patient, role=_REPORT), profile)


def administered(principal: Principal, *, command: str, entity: str | None, at: datetime, reason: str = "") -> Event:
    """Build the event of an administrative command: a model stopped, a job replayed, a round recorded.

    Parameters
    ----------
    principal
        The person or program that gave the command.
    command
        A constant code, such as ``model-stopped``.
    entity
        What it concerned: a reference, or a URN such as ``urn:ausculta:model:news2:1.0.0``.
    at
        Time of the command; aware.
    reason
        The reason that the principal gave; no PHI.
    """
    event = _event(_ACTIVITY, {"system": COMMAND, "code": command}, "E", at)
    if reason:
        event["outcomeDesc"] = reason
    agents = [_client(principal, _APPLICATION), _server(principal, _CUSTODIAN)]
    return _finish(event, principal, agents, _data(entity, None), "")


def failed(event: Event, problem: Problem) -> Event:
    """Turn the event of an action into the event of its failure.

    Parameters
    ----------
    event
        The event of the successful action, from one of the functions above.
    problem
        Why the action failed; only its ``detail`` is recorded.

    Returns
    -------
    Event
        A copy without a profile. Outcome 8 (serious failure) for ``fault``, ``unavailable`` and ``interrupted``, 4
        (minor failure) otherwise.
    """
    serious = problem.category in {Category.FAULT, Category.UNAVAILABLE, Category.INTERRUPTED}
    kept = {key: value for key, value in event.items() if key != "meta"}
    return kept | {"outcome": "8" if serious else "4", "outcomeDesc": problem.detail}


def refused(principal: Principal, request: Request, problem: Problem, *, at: datetime) -> Event:
    """Return the event of a FHIR interaction that the principal was not allowed to carry out.

    Parameters
    ----------
    principal
        Who tried.
    request
        What was refused.
    problem
        Why; only its ``detail`` is recorded.
    at
        When; aware.
    """
    event = _rest(
        _interaction(_CODES.get(request.interaction, request.interaction.value)),
        _ACTIONS.get(request.interaction, "E"),
        at,
    )
    entity = f"{request.target}/{request.target_id}" if request.target and request.target_id else None
    return failed(
        _finish(event, principal, _written(principal), _data(entity, request.compartment or None), ""), problem
    )


def _interaction(code: str) -> dict[str, str]:
    return {"system": _INTERACTION, "code": code, "display": code}


def _rest(interaction: dict[str, str], action: str, at: datetime) -> Event:
    return _event(_REST, interaction, action, at)


def _event(kind: dict[str, str], subtype: dict[str, str], action: str, at: datetime) -> Event:
    recorded = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "resourceType": "AuditEvent",
        "type": kind,
        "subtype": [subtype],
        "action": action,
        "recorded": recorded,
        "outcome": "0",
    }


def _finish(
    event: Event, principal: Principal, agents: list[dict[str, Any]], entities: list[dict[str, Any]], profile: str
) -> Event:
    if profile and all("network" in agent for agent in agents):
        event["meta"] = {"profile": [_PROFILES + profile]}
    if principal.user:
        role = _RECIPIENT if event["action"] == "R" else _AUTHOR
        agents = [*agents, {"type": role, "who": _who(principal.user), "requestor": True}]
    event["agent"] = agents
    event["source"] = {"observer": _who(principal.server)}
    if principal.request_id:
        entities.append({"what": {"identifier": {"value": principal.request_id}}, "type": _REQUEST})
    if entities:
        event["entity"] = entities
    return event


def _name(base: str, entity: str | None, patient: str | None) -> str:
    """Choose the profile: the variant for patients where a patient is known, none without an entity."""
    if entity is None:
        return ""
    return f"Patient{base}" if patient else base


def _written(principal: Principal) -> list[dict[str, Any]]:
    """Return the two agents of an action in which the data flow from the client to the server."""
    return [_client(principal, _SOURCE), _server(principal, _DESTINATION)]


def _client(principal: Principal, role: dict[str, Any]) -> dict[str, Any]:
    return _agent(principal.client, principal.client_address, role, requestor=True)


def _server(principal: Principal, role: dict[str, Any]) -> dict[str, Any]:
    return _agent(principal.server, principal.server_address, role, requestor=False)


def _agent(name: str, address: str, role: dict[str, Any], *, requestor: bool) -> dict[str, Any]:
    return _known_agent(name, address, role["coding"][0]["code"], requestor)


@lru_cache(maxsize=256)
def _known_agent(name: str, address: str, role: str, requestor: bool) -> dict[str, Any]:  # noqa: FBT001 - of a cache
    """Make an agent; events share it, because few clients make most requests."""
    agent: dict[str, Any] = {"type": _ROLES[role], "who": _who(name or "unknown"), "requestor": requestor}
    if address:
        agent["network"] = {"address": address, "type": _network_type(address)}
    return agent


def _who(name: str) -> dict[str, Any]:
    return {"identifier": {"value": name}}


def _network_type(address: str) -> str:
    """Return the code of FHIR value set network-type: URI (5), IP address (2) or machine name (1)."""
    if "://" in address:
        return "5"
    host = address.rpartition(":")[0] or address
    return "2" if ":" in host or host.replace(".", "").isdigit() else "1"


def _data(
    entity: str | None, patient: str | None, *, role: dict[str, str] = _DOMAIN_RESOURCE, description: str = ""
) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = []
    if entity is not None:
        what = {"identifier": {"system": _URI, "value": entity}} if entity.startswith("urn:") else {"reference": entity}
        data: dict[str, Any] = {"what": what, "type": _OBJECT, "role": role}
        if description:
            data["description"] = description
        entities.append(data)
    return _with_patient(entities, patient)


def _with_patient(entities: list[dict[str, Any]], patient: str | None) -> list[dict[str, Any]]:
    if patient:
        entities.append({"what": {"reference": patient}, "type": _PERSON, "role": _PATIENT})
    return entities
