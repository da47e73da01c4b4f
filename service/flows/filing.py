"""Where a result is to be filed: what the stored inputs say of the visit, the order and the time that it concerns."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from dicom_node.demographics import name_of
from dicom_node.study import Study
from dicom_node.times import started
from fhir_adapter.patient_identity import type_of
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.search.query import LARGEST_COUNT
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import point
from inference.contract import NotAvailable, Outcome
from kernel.errors import Category, Problem
from service.destinations.contract import Filing, Identifier, ModelResult, PersonName, Visit

MOST_READ: Final = 24
"""Inputs that are read for their visit and their order, the newest first."""

_KINDS: Final = ("Observation", "DocumentReference", "DiagnosticReport", "QuestionnaireResponse")
_REFERENCE: Final = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/(\d{1,9}))?")
_LONGEST: Final = 194
"""Characters of a name (HL7 v2.5.1 section 2.A.30, FN) or of a number that are sent; a longer number is none."""
_PLACER, _FILLER = "PLAC", "FILL"

_Json = Mapping[str, Any]


def filing_of(
    connection: Connection, store: Store, model_result: ModelResult, zone: tzinfo, before: Sequence[str] = ()
) -> Filing:
    """Return where a result is to be filed.

    The visit is that of the newest input that names one. An order counts only when all inputs that name one name the
    same: a result that rests on several orders belongs to none of them.

    Parameters
    ----------
    connection
        Where to read.
    store
        Where the patient and the inputs are.
    model_result
        The result.
    zone
        Time zone of the site: of a study that states no offset.
    before
        Versioned references of the resources of the result before it.
    """
    outcome, imaging = model_result.outcome, model_result.imaging
    read = {source: found for source in _sources(outcome) if (found := _read(connection, store, source))}
    inputs = list(read.values())
    inputs.sort(key=_newest_first)
    patient = _read(connection, store, outcome.subject.reference) or {}
    reference = next((named for one in inputs if (named := _encounter(one))), None)
    placer, filler = _order(connection, store, inputs)
    observed = _observed(outcome, read)
    if imaging is None and observed is not None:
        # By its time a receiver finds the newest result: one that rests on less than the result before it is newer too.
        earlier = (_read(connection, store, one) for one in before if one.startswith("Observation/"))
        observed = max([observed, *(at for one in earlier if one and (at := point(one.get("effectiveDateTime"))))])
    if imaging is not None:
        study = imaging.study
        began = started(study.StudyDate, study.StudyTime, study.TimezoneOffsetFromUTC, zone=zone)
        observed = imaging.acquired_at or began or observed
        placer = placer or _number(study.PlacerOrderNumberImagingServiceRequest)
        filler = filler or _number(study.FillerOrderNumberImagingServiceRequest)
    return Filing(
        # The commit of the result creates a Patient who is not stored yet, from the header of the same study.
        name=_name(patient) if patient or imaging is None else _announced(imaging.study),
        encounter=reference,
        visit=_visit(_read(connection, store, reference)) if reference else _admission(model_result),
        placer=placer,
        filler=filler,
        observed=None if observed is None else min(observed, outcome.at),
    )


def _sources(outcome: Outcome) -> list[str]:
    """Return the inputs that are resources: first those that cannot be used, then the others, the newest first."""
    timed = [(used.effective, used.source) for used in outcome.inputs if used.effective is not None]
    used = [source for _, source in sorted(timed, reverse=True)]
    named = dict.fromkeys([*_causes(outcome), *used, *outcome.input_versions])
    return [source for source in named if source.partition("/")[0] in _KINDS][:MOST_READ]


def _causes(outcome: Outcome) -> list[str]:
    """Return the values because of which there is no prediction: those that are there and cannot be used."""
    if not isinstance(outcome, NotAvailable):
        return []
    return [use.source for use in outcome.features if use.source and use.status in {"dropped", "implausible"}]


def _read(connection: Connection, store: Store, reference: str) -> _Json | None:
    """Return a resource by a relative reference, with or without version; None when it is not there."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    kind, resource_id, version = match.groups()
    try:
        found = (
            store.vread(connection, kind, resource_id, int(version))
            if version
            else store.read(connection, kind, resource_id)
        )
    except Problem as problem:
        if problem.category is not Category.NOT_FOUND:
            raise
        return None
    content: _Json | None = orjson.loads(found.content) if found.content else None
    return content


def _effective(resource: _Json) -> datetime | None:
    period = resource.get("effectivePeriod", {})
    texts = resource.get("effectiveDateTime"), resource.get("effectiveInstant"), period.get("end"), resource.get("date")
    return next((instant for text in texts if (instant := point(text)) is not None), None)


def _newest_first(resource: _Json) -> float:
    instant = _effective(resource)
    return 0.0 if instant is None else -instant.timestamp()


def _observed(outcome: Outcome, read: Mapping[str, _Json]) -> datetime | None:
    """Return the time of the newest value that was used, else of the newest that was available by then.

    What a value takes back that cannot be used has the time of that value; of one without a time, of the computing.
    """
    used = [one.effective for one in outcome.inputs if one.effective is not None]
    used += [_effective(read[one]) or outcome.at for one in _causes(outcome) if one in read]
    available = (instant for one in read.values() if (instant := _effective(one)) is not None and instant <= outcome.at)
    return max(used, default=None) or max(available, default=None)


def _name(patient: _Json) -> PersonName:
    """Return the official name, else the first that is not an old one."""
    names = [one for one in patient.get("name", ()) if one.get("use") != "old" and "end" not in one.get("period", {})]
    name: _Json = min(names, key=lambda one: one.get("use") != "official", default={})
    family, given = name.get("family", ""), _parts(name, "given")
    return PersonName(
        family=(family if family or given else name.get("text", ""))[:_LONGEST],
        given=given,
        prefix=_parts(name, "prefix"),
        suffix=_parts(name, "suffix"),
    )


def _announced(study: Study) -> PersonName:
    family, given = name_of(study.PatientName)
    return PersonName(family=family[:_LONGEST], given=tuple(part[:_LONGEST] for part in given))


def _parts(name: _Json, key: str) -> tuple[str, ...]:
    return tuple(part[:_LONGEST] for part in name.get(key, ()) if part)


def _encounter(resource: _Json) -> str | None:
    named: _Json = resource.get("encounter") or next(iter(resource.get("context", {}).get("encounter", ())), {})
    reference: str = named.get("reference", "")
    parts = reference.split("/_history/", maxsplit=1)[0].split("/")
    return "/".join(parts) if len(parts) == 2 and parts[0] == "Encounter" and "?" not in reference else None


def _visit(encounter: _Json | None) -> Visit | None:
    if encounter is None:
        return None
    number = next((_identifier(one) for one in encounter.get("identifier", ()) if _is_sendable(one)), None)
    places = [one for one in encounter.get("location", ()) if one.get("status") in {None, "active", "planned"}]
    return Visit(
        number=number,
        patient_class=encounter.get("class", {}).get("code", ""),
        location=next((one["location"].get("display", "")[:_LONGEST] for one in places), ""),
    )


def _admission(model_result: ModelResult) -> Visit | None:
    """Return the visit that a DICOM header names (Admission ID, 0038,0010)."""
    number = None if model_result.imaging is None else _number(model_result.imaging.study.AdmissionID)
    return None if number is None else Visit(number=number)


def _order(
    connection: Connection, store: Store, inputs: Sequence[_Json]
) -> tuple[Identifier | None, Identifier | None]:
    reports = _reports(connection, inputs)
    orders = {order for one in inputs for order in _orders_of(connection, store, one, reports)}
    return next(iter(orders)) if len(orders) == 1 else (None, None)


def _orders_of(
    connection: Connection, store: Store, resource: _Json, reports: Mapping[str, Sequence[_Json]]
) -> Iterator[tuple[Identifier | None, Identifier | None]]:
    """Yield the order numbers of an input: of its ServiceRequests, else of its reports, else its own."""
    own = reports.get(f"{resource['resourceType']}/{resource['id']}", ())
    for holder in (_requests(connection, store, resource), own, [resource]):
        found = {numbers for one in holder if (numbers := _numbers(one)) != (None, None)}
        if found:
            yield from found
            return


def _requests(connection: Connection, store: Store, resource: _Json) -> Iterator[_Json]:
    for named in resource.get("basedOn", ()):
        reference = named.get("reference", "")
        if reference.startswith("ServiceRequest/") and (found := _read(connection, store, reference)):
            yield found


def _reports(connection: Connection, inputs: Sequence[_Json]) -> Mapping[str, Sequence[_Json]]:
    """Return the reports that name each Observation, by its reference; one search for all of them."""
    named = [f"Observation/{one['id']}" for one in inputs if one["resourceType"] == "Observation"]
    found: defaultdict[str, list[_Json]] = defaultdict(list)
    if named:
        query = parse("DiagnosticReport", f"result={','.join(named)}&_count={LARGEST_COUNT}")
        for version in find(connection, query).found:
            report = orjson.loads(version.content)
            for result in report.get("result", ()):
                found[result.get("reference", "")].append(report)
    return found


def _numbers(resource: _Json) -> tuple[Identifier | None, Identifier | None]:
    numbers: dict[str, Identifier] = {}
    for one in resource.get("identifier", ()):
        codes = {coding.get("code") for coding in one.get("type", {}).get("coding", ())}
        for kind in codes & {_PLACER, _FILLER} if _is_sendable(one) else ():
            numbers.setdefault(kind, _identifier(one))
    return numbers.get(_PLACER), numbers.get(_FILLER)


def _is_sendable(identifier: _Json) -> bool:
    return 0 < len(identifier.get("value", "")) <= _LONGEST


def _identifier(identifier: _Json) -> Identifier:
    return Identifier(value=identifier["value"], system=identifier.get("system", ""), type=type_of(identifier))


def _number(text: str) -> Identifier | None:
    return Identifier(value=text) if text else None
