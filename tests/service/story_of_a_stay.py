"""A stay in which every kind of feature changes, with what comes late, is corrected, moves or is taken back."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Final, get_args

import httpx

from inference.features.records import Take

from .hospital import Hospital
from .test_feature_stories import admit, ago, laboratory, put

Json = dict[str, Any]

UNITS: Final = {"8867-4": "/min", "9279-1": "/min", "59408-5": "%", "8310-5": "Cel"}
ICD: Final = "http://hl7.org/fhir/sid/icd-10"
ATC: Final = "http://www.whocc.no/atc"
PULSE: Final[Json] = {"code": "8867-4", "unit": "/min", "plausible": [1, 400]}
ALERTNESS: Final[Json] = {"code": "67775-7", "answers": {"alert": ["LA9340-6"], "voice": ["LA17108-4"]}}
WINDOWS: Final[Sequence[Json]] = (
    {"hours": 0.3},
    {"hours": 2},
    {"hours": 24},
    {"hours": 24, "offset": 1},
    {"since": "admission"},
    {"since": "admission", "hours": 4},
    {"since": "admission", "first_hours": 3, "offset": 0.5},
)


def measured(name: str, take: str, window: Json, *sources: Json, **more: Any) -> Json:
    return {
        "name": name,
        "title": name,
        "window": {"take": take, **window},
        "missing": "nan",
        "sources": list(sources),
    } | more


def features_of_every_kind(*, with_defaults: bool) -> Json:
    """Return the content of a ``features.yaml`` with a feature of every kind.

    Parameters
    ----------
    with_defaults
        Whether there are also features that a time series cannot have: with a default, of words, of what is missing.
    """
    declared: list[Json] = []
    for (code, unit), take, (place, window) in product(UNITS.items(), get_args(Take), enumerate(WINDOWS)):
        declared.append(measured(f"{take}-{code}-{place}", take, window, {"code": code, "unit": unit}))
    day, default = {"hours": 24}, {"missing": {"default": 1}} if with_defaults else {}
    declared += [
        measured("lactate", "delta", day, {"code_set": "lactate", "unit": "mmol/L", "analyte": "lactate"}),
        measured("logarithm", "last", {"hours": 1}, PULSE, transform=["log"], **default),
        measured("clipped", "max", day, PULSE, transform=[{"clip": [70, 90]}, "log"], **default),
        measured("final", "last", day, PULSE | {"status": ["final"]}),
        measured("corrected", "count", day, PULSE | {"status": ["amended", "corrected"]}),
        measured("alertness", "last", {"hours": 2}, ALERTNESS, one_hot=True),
        measured("answers", "count", day, ALERTNESS),
        measured("since_answer", "time_since", day, ALERTNESS),
    ]
    conditions = {"diabetes": {}, "suspected": {"status": ["provisional", "confirmed"]}}
    declared += [
        {"name": name, "title": name, "conditions": [{"code_set": "diabetes", **more}]}
        for name, more in conditions.items()
    ]
    declared.append(
        {"name": "had_diabetes", "title": "had", "conditions": [{"code_set": "diabetes"}]}
        | {"window": {"hours": 6, "offset": 1}}
    )
    types: Sequence[Json] = ({}, *({"types": [it]} for it in ("MedicationRequest", "MedicationAdministration")))
    declared += [
        {"name": f"pressor-{place}", "title": "pressor", "medications": [{"system": ATC, "prefix": ["C01CA"], **more}]}
        | window
        for (place, more), window in product(enumerate(types), ({},))
    ]
    declared.append(
        {"name": "had_pressor", "title": "had", "medications": [{"system": ATC, "prefix": ["C01CA"]}]}
        | {"window": {"hours": 3}}
    )
    if with_defaults:
        declared += [{"name": it, "title": it, "subject": it, "missing": {"default": -1}} for it in ("age", "sex")]
        declared += [
            measured("word", "last", {"hours": 2}, ALERTNESS),
            measured("word_or", "first", day, ALERTNESS, one_hot=True, missing={"default": "voice"}),
            {"name": "no_logarithm", "title": "missing", "missing_of": "logarithm"},
            {"name": "no_alertness", "title": "missing", "missing_of": "alertness"},
        ]
    else:
        declared += [{"name": it, "title": it, "subject": it, "missing": "nan"} for it in ("age", "sex")]
    sets = {
        "lactate": [{"system": "http://loinc.org", "codes": ["2524-7", "32693-4"]}],
        "diabetes": [{"system": ICD, "prefix": ["E10", "E11"]}],
    }
    return {"code_sets": sets, "features": declared}


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def status(name: str, code: str) -> Json:
    return concept(f"http://terminology.hl7.org/CodeSystem/condition-{name}", code)


def condition(name: str, code: str, *, clinical: str = "active", verified: str = "confirmed", **more: Any) -> Json:
    state = {"clinicalStatus": status("clinical", clinical), "verificationStatus": status("ver-status", verified)}
    return {"resourceType": "Condition", "id": name, "code": concept(ICD, code)} | state | more


def order(name: str, state: str = "active", **more: Any) -> Json:
    return {"resourceType": "MedicationRequest", "id": name, "status": state, "intent": "order"} | more


def substance(name: str, code: str) -> Json:
    return {"resourceType": "Medication", "id": name, "code": concept(ATC, code)}


PRESSOR: Final[Json] = {"medicationCodeableConcept": concept(ATC, "C01CA03")}
OTHER: Final[Json] = {"medicationCodeableConcept": concept(ATC, "N02BE01")}
BY_REFERENCE: Final[Json] = {"medicationReference": {"reference": "Medication/m1"}}
CONTAINED: Final[Json] = {
    "medicationReference": {"reference": "#in"},
    "contained": [{"resourceType": "Medication", "id": "in", "code": concept(ATC, "C01CA24")}],
}


def a_stay(hospital: Hospital, then: Callable[[], None]) -> None:
    """Let a patient be admitted, moved and discharged, and what is known of the stay change.

    Parameters
    ----------
    hospital
        The hospital.
    then
        Called after each change; the clock goes on.
    """
    for part in (_admissions, _values, _answers, _conditions, _orders, _doses):
        for step in part(hospital):
            step()
            then()
            hospital.clock.advance(900)


def _admissions(hospital: Hospital) -> Sequence[Callable[[], None]]:
    early = ago(hospital, 30)
    return (
        lambda: laboratory(hospital, "before", 60, "/min", 6, code="8867-4"),
        lambda: admit(hospital, 5),
        lambda: laboratory(hospital, "early", 66, "/min", 3.2, code="8867-4"),
        lambda: laboratory(hospital, "between", 72, "/min", 3, code="8867-4"),
        lambda: admit(hospital, 8, status="onleave"),
        lambda: admit(hospital, 1, id="second"),
        lambda: admit(hospital, 1, id="second", status="entered-in-error"),
        lambda: admit(hospital, 0.5, id="moved"),
        lambda: admit(hospital, 0.5, id="moved", subject={"reference": "Patient/p2"}),  # it was another patient
        lambda: admit(hospital, 3, id="ambulant", **{"class": {"code": "AMB"}}),
        lambda: admit(hospital, 0, period={"start": early, "end": ago(hospital, 0)}, status="finished"),
    )


def _values(hospital: Hospital) -> Sequence[Callable[[], None]]:
    def late(**more: Any) -> None:
        laboratory(hospital, "late", 180, "/min", 5, code="8867-4", **more)

    return (
        lambda: laboratory(hospital, "l1", 4, "mmol/L", 1),
        lambda: laboratory(hospital, "l2", 22.27, "mg/dL", 0.2, code="32693-4"),
        late,
        lambda: late(status="corrected", valueQuantity={"value": 81, "unit": "/min"}),
        lambda: laboratory(hospital, "p", 101, "/min", 0, code="8867-4", status="preliminary"),
        lambda: laboratory(hospital, "p", 102, "/min", 0, code="8867-4"),
        lambda: laboratory(hospital, "wrong", 250, "/min", 0, code="8867-4"),
        lambda: laboratory(hospital, "wrong", 250, "/min", 0, code="2345-7"),  # it was another code
        lambda: laboratory(hospital, "moved", 240, "/min", 0, code="8867-4"),
        lambda: laboratory(
            hospital, "moved", 240, "/min", 0, code="8867-4", subject={"reference": "Patient/p2"}
        ),  # it was another patient
        lambda: laboratory(hospital, "taken-back", 230, "/min", 0, code="8867-4"),
        lambda: laboratory(hospital, "taken-back", 230, "/min", 0, code="8867-4", status="entered-in-error"),
    )


def _answers(hospital: Hospital) -> Sequence[Callable[[], None]]:
    def answer(name: str, code: str, hours: float, **more: Any) -> None:
        measured = {
            "resourceType": "Observation",
            "id": name,
            "status": "final",
            "code": concept("http://loinc.org", "67775-7"),
            "effectiveDateTime": ago(hospital, hours),
            "valueCodeableConcept": concept("http://loinc.org", code),
        }
        put(hospital, measured | more)

    return (
        lambda: answer("a1", "LA9340-6", 0),
        lambda: answer("a2", "LA17108-4", 0),
        lambda: answer("a2", "LA9340-6", 1, status="corrected"),
        lambda: answer("a3", "LA0-0", 0),
    )


def _conditions(hospital: Hospital) -> Sequence[Callable[[], None]]:
    return (
        lambda: put(hospital, condition("c1", "E11.9", verified="provisional")),
        lambda: put(hospital, condition("c1", "E11.9", onsetDateTime="2019-03")),
        lambda: put(hospital, condition("c1", "I10")),  # it was another code
        lambda: put(hospital, condition("c1", "E10.1", recordedDate=ago(hospital, 20))),
        lambda: put(hospital, condition("c1", "E10.1", clinical="resolved")),
        lambda: put(hospital, condition("c2", "E11.9", clinical="inactive", abatementDateTime=ago(hospital, 2))),
        lambda: put(hospital, condition("c3", "E11.9")),
        lambda: put(hospital, condition("c3", "E11.9", verified="refuted")),
    )


def _orders(hospital: Hospital) -> Sequence[Callable[[], None]]:
    return (
        lambda: put(hospital, order("r1", **PRESSOR, authoredOn=ago(hospital, -1))),
        lambda: put(hospital, order("r1", "stopped", **PRESSOR)),
        lambda: put(hospital, order("r2", **BY_REFERENCE)),  # what it names comes later
        lambda: put_alone(hospital, substance("m1", "C01CA03")),
        lambda: put_alone(hospital, substance("m1", "N02BE01")),
        lambda: put_alone(hospital, substance("m1", "C01CA04")),
        lambda: put(hospital, order("r2", "cancelled", **BY_REFERENCE)),
        lambda: put(hospital, order("r3", **CONTAINED)),
        lambda: put(hospital, order("r3", **OTHER)),  # it was another medication
    )


def _doses(hospital: Hospital) -> Sequence[Callable[[], None]]:
    def dose(state: str, start: float, **more: Any) -> None:
        given = {"resourceType": "MedicationAdministration", "id": "d", "status": state, **PRESSOR}
        put(hospital, given | {"effectivePeriod": {"start": ago(hospital, start)}} | more)

    def taken(state: str, **more: Any) -> None:
        put(hospital, {"resourceType": "MedicationStatement", "id": "s", "status": state, **PRESSOR} | more)

    return (
        lambda: hospital.clock.advance(4 * 3600),
        lambda: dose("in-progress", 1),
        lambda: dose("completed", 2, effectivePeriod={"start": ago(hospital, 3), "end": ago(hospital, 2)}),
        lambda: dose("entered-in-error", 2),
        lambda: taken("active"),
        lambda: taken("stopped"),
        lambda: hospital.clock.advance(26 * 3600),  # the stay has ended long ago
    )


def put_alone(hospital: Hospital, resource: Json) -> None:
    """Store a resource that is about nobody."""
    answer = httpx.put(f"{hospital.url}/{resource['resourceType']}/{resource['id']}", json=resource)
    assert answer.status_code in {200, 201}, answer.text
