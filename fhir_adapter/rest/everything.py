"""Two operations on a patient's data: ``Patient/$everything`` and ``Observation/$lastn`` (R4, operations.html)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from sqlalchemy import Connection, and_, or_, select

from fhir_adapter.rest import bundles
from fhir_adapter.rest.access import of_instance, of_search
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.searches import HIDDEN, bounded
from fhir_adapter.rest.steps import Call, Reply, Step
from fhir_adapter.store.history import first_of
from fhir_adapter.store.problems import TooCostly
from fhir_adapter.store.query_string import each_once, pairs_of
from fhir_adapter.store.search.compartments import PATIENT
from fhir_adapter.store.search.conditions import shown
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.includes import read_all, references
from fhir_adapter.store.search.parameters import of
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.search.query import LARGEST_COUNT, SortKey
from fhir_adapter.store.times import span
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from kernel.errors import Category, Problem
from kernel.tables import resource_heads, resource_index
from privacy import balp
from privacy.authorize import Interaction

_HEADS: Final = resource_heads.c
_PAGE: Final = 200
_MOST_READ: Final = 20_000
"""Most Observations that ``$lastn`` reads."""
_MOST_LAST: Final = 100
_NOT_KEPT: Final = frozenset({"_after", "_format", "_pretty"})
"""Parameters that a link does not repeat."""


def everything(backend: Backend, call: Call, patient: str, query: str) -> Step:
    """Return a page of what is stored about a patient (R4, patient-operation-everything.html).

    The order is that in which resources were first stored, so that the links stay valid while data change. Resources of
    other compartments to which those of the page refer are added to it, as included ones.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    patient
        Id of the Patient.
    query
        What follows the question mark: ``_count``, ``_since``, ``_type``.

    Raises
    ------
    Problem
        ``not-found`` when there is no such Patient; ``incorrect`` for another parameter.
    TooCostly
        When what is included is too much.
    """
    backend.require(call.principal, of_instance(Interaction.READ, "Patient", patient))
    given = _given(query, "_count", "_since", "_type")
    count = max(1, min(_number(given.get("_count", str(_PAGE))), LARGEST_COUNT))
    kinds = [kind for kind in given.get("_type", "").split(",") if kind]
    if not set(kinds) <= set(PATIENT) | {"Patient"}:
        raise Problem(Category.INCORRECT, "_type names types of a patient's compartment")
    since = span(given["_since"])[0] if "_since" in given else None
    reference = f"Patient/{patient}"
    with backend.database.read() as connection, bounded(connection):
        backend.store.read(connection, "Patient", patient)
        after = _number(given.get("_after", "0"))
        rows, has_next = first_of(_members(connection, patient, kinds, since, after=after, most=count + 1), count)
        page = [stored(row) for row in rows]
        more = _outside(connection, page, call.base)
    found = [bundles.Found(f"{call.base}/{it.type}/{it.id}", it.content) for it in page]
    found += [bundles.Found(f"{call.base}/{it.type}/{it.id}", it.content, mode="include") for it in more]
    place = f"{call.base}/{reference}/$everything"
    kept = {name: value for name, value in given.items() if name not in _NOT_KEPT}
    onward = f"{place}?{urlencode(kept | {'_after': rows[-1].key})}" if has_next else None
    self_link = f"{place}?{urlencode(kept)}" if kept else place
    event = balp.queried(
        call.principal, query=f"{reference}/$everything?{query}", patient=reference, at=backend.clock.now()
    )
    return backend.recorded(
        [event], Reply(status=200, body=bundles.searchset(found, self_link=self_link, next_link=onward))
    )


def last(backend: Backend, call: Call, query: str) -> Step:
    """Return the newest Observations of each code (R4, observation-operation-lastn.html).

    Observations count as of one code when they share a coding. Those of equal times are all returned.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    query
        What follows the question mark: ``max``, and search parameters of Observation, one of which names the patient.

    Raises
    ------
    Problem
        ``incorrect`` when no patient is named.
    TooCostly
        When more than 20,000 Observations would have to be read.
    """
    pairs = pairs_of(query)
    given = dict(pairs)
    most = max(1, min(_number(given.get("max", "1")), _MOST_LAST))
    rest = urlencode([(name, value) for name, value in pairs if name not in {"max", "_count", "_sort"}])
    parsed = parse("Observation", rest, base=call.base)
    request = of_search(parsed)
    if not (parsed.named("patient") or parsed.named("subject")):
        raise Problem(Category.INCORRECT, "$lastn needs the parameter patient or subject")
    backend.require(call.principal, request)
    with backend.database.read() as connection, bounded(connection):
        taken = _newest(connection, parsed, most)
    patients: Sequence[str | None] = sorted({it.patient for it in taken if it.patient}) or [None]
    at = backend.clock.now()
    events = [balp.queried(call.principal, query=f"Observation/$lastn?{query}", patient=it, at=at) for it in patients]
    found = [bundles.Found(f"{call.base}/Observation/{it.id}", it.content) for it in taken]
    body = bundles.searchset(found, self_link=f"{call.base}/Observation/$lastn?{urlencode(pairs)}", next_link=None)
    return backend.recorded(events, Reply(status=200, body=body))


def _newest(connection: Connection, query: Any, most: int) -> list[StoredVersion]:
    query = replace(query, sort=(SortKey("date", descending=True),), count=LARGEST_COUNT)
    taken: list[StoredVersion] = []
    counted: dict[str, list[str]] = {}
    read = 0
    while True:
        page = find(connection, query, hidden_tag=HIDDEN)
        for version in page.found:
            resource = orjson.loads(version.content)
            time = str(resource.get("effectiveDateTime", resource.get("effectivePeriod", "")))
            codes = _codes(resource)
            group = next((counted[code] for code in codes if code in counted), [])
            if len(group) < most or group[-1] == time:
                group.append(time)
                taken.append(version)
            counted |= dict.fromkeys(codes, group)
        read += len(page.found)
        if page.cursor is None:
            return taken
        if read > _MOST_READ:
            raise TooCostly(f"more than {_MOST_READ} Observations would have to be read; limit them by code or date")
        query = replace(query, after=page.cursor)


def _codes(resource: Any) -> list[str]:
    code = resource.get("code", {})
    codings = [f"{it.get('system', '')}|{it['code']}" for it in code.get("coding", ()) if "code" in it]
    return codings or [f"text {code.get('text', '')}"]


def _members(
    connection: Connection, patient: str, kinds: Sequence[str], since: datetime | None, *, after: int, most: int
) -> Iterator[Any]:
    """Yield the rows of a page, read one by one."""
    rows = resource_index.alias()
    reference = f"Patient/{patient}"
    wanted = kinds or [*PATIENT, "Patient"]
    numbers = {number for kind in wanted for name in PATIENT.get(kind, ()) for number in of(kind)[name].numbers}
    about = _HEADS.key.in_(
        select(rows.c.key).where(or_(*(and_(rows.c.param == it, rows.c.value == reference) for it in sorted(numbers))))
    )
    own = and_(_HEADS.type == "Patient", _HEADS.id == patient)
    conditions = [
        _HEADS.deleted.is_(False),
        or_(about, own) if "Patient" in wanted else about,
        _HEADS.key > after,
        *(shown(it, resource_heads, HIDDEN)[0] for it in ("RiskAssessment", "Observation", "DiagnosticReport")),
    ]
    if since is not None:
        conditions.append(_HEADS.last_updated >= since)
    # Numbers are sorted without the resources, so that no more of these are read than the page holds.
    numbers_of_page = select(_HEADS.key).where(*conditions).order_by(_HEADS.key).limit(most).correlate(None)
    with connection.execute(CURRENT.where(_HEADS.key.in_(numbers_of_page)).order_by(_HEADS.key)) as found:
        yield from found


def _outside(connection: Connection, page: Sequence[StoredVersion], base: str) -> list[StoredVersion]:
    """Return what the resources of a page refer to, and what is in no patient's compartment."""
    keys = {
        key
        for version in page
        for key in references(
            orjson.loads(version.content), [it for it in of(version.type).values() if it.kind == "reference"], base
        )
        if key[0] not in PATIENT and key[0] != "Patient"
    }
    return read_all(connection, sorted(keys), HIDDEN)


def _given(query: str, *names: str) -> dict[str, str]:
    detail = f"this operation takes the parameters {', '.join(names)}, each once"
    return each_once(query, _NOT_KEPT.union(names), detail)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Problem(Category.INCORRECT, "a parameter is not a number")
    return int(text)
