"""Searches of patients in the shape of a real EHR, each with a plain filter over the JSON that says what it must find.

The filters know nothing of the search. The queries are those that hospitals and the requirements of US Core ask for.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]
Filter = Callable[[Json], bool]
LOINC = "http://loinc.org"


def codings(concept: Any) -> set[tuple[str, str]]:
    concepts = concept if isinstance(concept, list) else [concept]
    return {(it.get("system", ""), it["code"]) for one in concepts if one for it in one.get("coding", ())}


def codes(concept: Any) -> set[str]:
    return {code for _, code in codings(concept)}


def span(value: Any) -> tuple[datetime, datetime]:
    """Return start and end of a date as it is written, or of a Period."""
    if isinstance(value, dict):
        start = span(value["start"])[0] if "start" in value else datetime.min.replace(tzinfo=UTC)
        return start, span(value["end"])[1] if "end" in value else datetime.max.replace(tzinfo=UTC)
    parts = re.split(r"[-T]", value, maxsplit=3)
    if len(parts) == 1:
        return datetime(int(value), 1, 1, tzinfo=UTC), datetime(int(value) + 1, 1, 1, tzinfo=UTC)
    if len(parts) == 2:
        year, month = int(parts[0]), int(parts[1])
        return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    start = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if start.tzinfo is None:
        return start.replace(tzinfo=UTC), start.replace(tzinfo=UTC) + timedelta(days=1)
    if "." in value:
        digits = len(re.search(r"\.(\d+)", value)[1])  # type: ignore[index]
        return start, start + timedelta(microseconds=10 ** (6 - min(digits, 6)))
    return start, start + timedelta(seconds=1)


def within(value: Any, prefix: str, text: str) -> bool:
    """Compare a date with the value of a search (R4, search.html#prefix)."""
    if value is None:
        return False
    (low, high), (start, end) = span(value), span(text)
    return {
        "eq": start <= low and high <= end,
        "ne": not (start <= low and high <= end),
        "gt": high > end,
        "lt": low < start,
        "ge": high > end or (start <= low and high <= end),
        "le": low < start or (start <= low and high <= end),
        "sa": low >= end,
        "eb": high <= start,
    }[prefix]


def about(name: str) -> Filter:
    return lambda it: it.get("subject", it.get("patient", {})).get("reference") == f"Patient/{name}"


def effective(it: Json) -> Any:
    return it.get("effectiveDateTime", it.get("effectivePeriod"))


def quantity(it: Json, code: str) -> Any:
    return it["valueQuantity"]["value"] if it.get("valueQuantity", {}).get("code") == code else None


def component(it: Json, code: str, least: float) -> bool:
    return any(code in codes(one["code"]) and one["valueQuantity"]["value"] > least for one in it.get("component", ()))


def has_name(it: Json, start: str) -> bool:
    parts = [
        part
        for name in it["name"]
        for part in (name.get("family", ""), *name.get("given", ()), *name.get("prefix", ()))
    ]
    return any(part.lower().startswith(start.lower()) for part in parts)


QUERIES: dict[str, Filter] = {
    "Patient?name=Gr": lambda it: has_name(it, "Gr"),
    "Patient?family=grant908": lambda it: any(name["family"].lower().startswith("grant908") for name in it["name"]),
    "Patient?given:contains=1": lambda it: any("1" in given for name in it["name"] for given in name["given"]),
    "Patient?family:exact=Grant908": lambda it: any(name["family"] == "Grant908" for name in it["name"]),
    "Patient?gender=female": lambda it: it["gender"] == "female",
    "Patient?gender:not=female": lambda it: it["gender"] != "female",
    "Patient?birthdate=ge1960&birthdate=lt1990": lambda it: "1960" <= it["birthDate"] < "1990",
    "Patient?birthdate=1960-01-01": lambda it: it["birthDate"] == "1960-01-01",
    "Patient?birthdate=1960": lambda it: it["birthDate"].startswith("1960"),
    "Patient?birthdate=gt1969-03-27": lambda it: it["birthDate"] > "1969-03-27",
    "Patient?identifier=http://hl7.org/fhir/sid/us-ssn|": lambda it: any(
        one.get("system") == "http://hl7.org/fhir/sid/us-ssn" for one in it["identifier"]
    ),
    "Patient?gender=female&birthdate=lt1970": lambda it: it["gender"] == "female" and it["birthDate"] < "1970",
    "Patient?family=Grant908&gender=female": lambda it: it["gender"] == "female" and has_name(it, "Grant908"),
    "Patient?address-state=MA,Massachusetts": lambda it: any(
        one.get("state", "").lower().startswith(("ma", "massachusetts")) for one in it["address"]
    ),
    "Patient?deceased=true": lambda it: "deceasedDateTime" in it,
    "Observation?category=laboratory": lambda it: "laboratory" in codes(it["category"]),
    "Observation?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs": lambda it: (
        ("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs") in codings(it["category"])
    ),
    f"Observation?code={LOINC}|8302-2": lambda it: (LOINC, "8302-2") in codings(it["code"]),
    "Observation?code=8302-2,29463-7": lambda it: bool(codes(it["code"]) & {"8302-2", "29463-7"}),
    "Observation?date=ge2015-01-01&date=lt2018": lambda it: (
        within(effective(it), "ge", "2015-01-01") and within(effective(it), "lt", "2018")
    ),
    "Observation?date=2017": lambda it: within(effective(it), "eq", "2017"),
    "Observation?date=sa2018-06": lambda it: within(effective(it), "sa", "2018-06"),
    "Observation?date=eb2012-06-15": lambda it: within(effective(it), "eb", "2012-06-15"),
    "Observation?category=vital-signs&code=8302-2&date=gt2016": lambda it: (
        "vital-signs" in codes(it["category"]) and "8302-2" in codes(it["code"]) and within(effective(it), "gt", "2016")
    ),
    "Observation?value-quantity=gt180||cm": lambda it: (quantity(it, "cm") or 0) > 180,
    "Observation?code=8302-2&value-quantity=lt1.7|http://unitsofmeasure.org|m": lambda it: (
        0 < (quantity(it, "cm") or 0) < 170 and "8302-2" in codes(it["code"])
    ),
    "Observation?code=29463-7&value-quantity=ge80000|http://unitsofmeasure.org|g": lambda it: (
        (quantity(it, "kg") or 0) >= 80 and "29463-7" in codes(it["code"])
    ),
    "Observation?value-quantity=gt5": lambda it: it.get("valueQuantity", {}).get("value", 0) > 5,
    "Observation?code-value-quantity=8302-2$gt175": lambda it: (
        (quantity(it, "cm") or 0) > 175 and "8302-2" in codes(it["code"])
    ),
    "Observation?component-code-value-quantity=8480-6$gt130": lambda it: component(it, "8480-6", 130),
    "Observation?combo-code=8480-6": lambda it: any("8480-6" in codes(one["code"]) for one in it.get("component", ())),
    "Observation?value-concept:missing=false": lambda it: "valueCodeableConcept" in it,
    "Observation?status=final&code:not=8302-2": lambda it: (
        it["status"] == "final" and "8302-2" not in codes(it["code"])
    ),
    "Condition?clinical-status=active": lambda it: "active" in codes(it["clinicalStatus"]),
    "Condition?clinical-status=resolved&onset-date=ge2000": lambda it: (
        "resolved" in codes(it["clinicalStatus"]) and within(it["onsetDateTime"], "ge", "2000")
    ),
    "Condition?code:text=viral": lambda it: any(
        text.lower().startswith("viral")
        for text in (it["code"]["text"], *(one["display"] for one in it["code"]["coding"]))
    ),
    "Condition?abatement-date:missing=true": lambda it: "abatementDateTime" not in it,
    "Encounter?class=AMB": lambda it: it["class"]["code"] == "AMB",
    "Encounter?date=ge2015&date=le2016": lambda it: (
        within(it["period"], "ge", "2015") and within(it["period"], "le", "2016")
    ),
    "Encounter?class=EMER,IMP&status=finished": lambda it: (
        it["class"]["code"] in {"EMER", "IMP"} and it["status"] == "finished"
    ),
    "MedicationRequest?intent=order&status=active": lambda it: it["intent"] == "order" and it["status"] == "active",
    "MedicationRequest?intent=order,plan&status=stopped,completed": lambda it: it["status"] in {"stopped", "completed"},
    "MedicationRequest?authoredon=ge2015": lambda it: within(it["authoredOn"], "ge", "2015"),
    "Immunization?date=2016": lambda it: within(it["occurrenceDateTime"], "eq", "2016"),
    "Immunization?status=completed&vaccine-code=http://hl7.org/fhir/sid/cvx|140": lambda it: (
        "140" in codes(it["vaccineCode"])
    ),
    "Procedure?date=lt2012": lambda it: within(it["performedPeriod"], "lt", "2012"),
    "Procedure?date=ne2012": lambda it: within(it["performedPeriod"], "ne", "2012"),
    "DiagnosticReport?category=LAB": lambda it: "LAB" in codes(it.get("category")),
    "DiagnosticReport?code=51990-0,57698-3&date=ge2014": lambda it: (
        bool(codes(it["code"]) & {"51990-0", "57698-3"}) and within(effective(it), "ge", "2014")
    ),
    "AllergyIntolerance?clinical-status=active,inactive": lambda it: bool(
        codes(it["clinicalStatus"]) & {"active", "inactive"}
    ),
    "CarePlan?category=assess-plan&status=active": lambda it: (
        "assess-plan" in codes(it["category"]) and it["status"] == "active"
    ),
    "Goal?lifecycle-status=active,accepted": lambda it: it["lifecycleStatus"] in {"active", "accepted"},
    "Claim?use=claim&created=ge2016": lambda it: it["use"] == "claim" and within(it["created"], "ge", "2016"),
    "DocumentReference?type=34117-2": lambda it: "34117-2" in codes(it["type"]),
    "Observation?_lastUpdated=gt2100": lambda _: False,
    "ImagingStudy?modality=DX,CT": lambda it: bool({one["modality"]["code"] for one in it["series"]} & {"DX", "CT"}),
}
MAY_BE_EMPTY = {"Observation?_lastUpdated=gt2100", "Patient?deceased=true", "Patient?address-state=MA,Massachusetts"}
