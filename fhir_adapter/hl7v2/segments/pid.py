"""PID to Patient (section 3.4.2; guide: PID[Patient])."""

from collections.abc import Callable, Iterable
from typing import Final

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import cwe, cx, dtm, nm, xad, xpn, xtn
from fhir_adapter.hl7v2.merge import merge_patient
from fhir_adapter.hl7v2.message import Element, Message, Segment
from fhir_adapter.hl7v2.tables import GENDER, TERMINOLOGY
from fhir_adapter.patient_identity import SHARED
from fhir_adapter.same_person import doubts, person_of
from kernel.errors import Category, Problem

_HANDLED: Final = frozenset({0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 14, 15, 16, 24, 25, 29, 30, 40})
_MEMBERS: Final = {5: "name", 7: "birthDate", 8: "gender", 11: "address", 13: "telecom", 16: "maritalStatus"}
"""PID field to the member of Patient that ``""`` in it deletes."""


def patient(state: ConversionState) -> Resource:
    """Return the Patient of the message, merged with the stored one.

    The identifiers of PID-3 name it by the site's rule (:mod:`fhir_adapter.patient_identity`).

    Raises
    ------
    Problem
        ``incorrect`` when PID is missing, occurs more than once, or identifies no patient; ``conflict`` when its
        identifiers name different stored Patients.
    """
    pid = single_pid(state.message)
    identifiers = _identifiers(state, pid)
    resource_id = _resource_id(state, identifiers)
    resource: Resource = {"resourceType": "Patient", "id": resource_id, "identifier": identifiers}
    _person(state, pid, resource)
    _circumstances(pid, resource)
    state.rest(pid, _HANDLED)
    current = state.context.current("Patient", resource_id)
    state.stated.append(person_of(resource))
    if current is not None:
        found = doubts(person_of(resource), person_of(current), source_of_patients=state.authoritative)
        state.contradicts.extend(found)
    deleted = [member for number, member in _MEMBERS.items() if pid.is_null(number)]
    return merge_patient(
        current,
        resource,
        authoritative=state.authoritative,
        accepted=state.context.accepted,
        deleted=deleted,
    )


def _resource_id(state: ConversionState, identifiers: list[Resource]) -> str:
    identities = state.context.identities
    derived = identities.of_identifiers(identifiers).resource_id
    found = identities.among(identifiers, state.context.holders(identities.trusted(identifiers), derived))
    if found.shared:
        state.doubts.append(SHARED)
    return found.resource_id


def single_pid(message: Message) -> Segment:
    """Return the only PID of a message; raises as :func:`patient`."""
    found = list(message.all("PID"))
    if not found:
        raise Problem(Category.INCORRECT, "PID is missing")
    if len(found) > 1:
        raise Problem(Category.INCORRECT, "PID occurs more than once; one message speaks of one patient")
    if not any(found[0].get(number) for number in (3, 2, 4)):
        raise Problem(Category.INCORRECT, "PID-3 identifies no patient")
    return found[0]


def _identifiers(state: ConversionState, pid: Segment) -> list[Resource]:
    elements = [element for number in (3, 2, 4) for element in pid.repetitions(number)]
    found = _distinct(cx.identifier(element, state.context) for element in elements)
    if not found:
        raise Problem(Category.INCORRECT, "PID-3 identifies no patient")
    return found


def _person(state: ConversionState, pid: Segment, resource: Resource) -> None:
    _put(resource, "name", _all(pid, (5, 9), xpn.human_name))
    if sex := pid.get(8):
        resource["gender"] = GENDER.get(sex.upper(), "unknown")
        if sex.upper() not in GENDER:
            state.note("PID-8: not a code of table 0001; kept as unknown")
    if born := pid.get(7):
        if day := dtm.date(born):
            resource["birthDate"] = day
        else:
            state.note("PID-7: not a date of HL7 v2")
    if pid.get(29):
        _put(resource, "deceasedDateTime", state.moment(pid, 29))
    elif pid.get(30) in ("Y", "N"):
        resource["deceasedBoolean"] = pid.get(30) == "Y"
    order = nm.number(pid.get(25))
    if order is not None and order in range(1, 100):
        resource["multipleBirthInteger"] = int(order)
    elif pid.get(24) in ("Y", "N"):
        resource["multipleBirthBoolean"] = pid.get(24) == "Y"


def _circumstances(pid: Segment, resource: Resource) -> None:
    contacts: list[Resource] = []
    for number, use in ((13, "home"), (14, "work"), (40, "")):
        contacts += [xtn.contact_point(element, use) for element in pid.repetitions(number)]
    _put(resource, "telecom", _distinct(contacts))
    _put(resource, "address", _all(pid, (11,), xad.address))
    _put(resource, "maritalStatus", cwe.concept(pid.field(16), system=f"{TERMINOLOGY}v2-0002"))
    if language := cwe.concept(pid.field(15)):
        resource["communication"] = [{"language": language}]


def _all(pid: Segment, numbers: Iterable[int], convert: Callable[[Element], Resource]) -> list[Resource]:
    return _distinct(convert(element) for number in numbers for element in pid.repetitions(number))


def _distinct(found: Iterable[Resource]) -> list[Resource]:
    """Return the non-empty items, each once, in order."""
    kept: list[Resource] = []
    for item in found:
        if item and item not in kept:
            kept.append(item)
    return kept


def _put(resource: Resource, member: str, value: object) -> None:
    if value:
        resource[member] = value
