"""Every form of a search over HTTP: modifiers, quantities, composites, chains, inclusions, order (R4, search.html)."""

from collections.abc import Iterator
from typing import Any

import pytest

from .examples import observation, patient
from .harness import Server

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


def ids(server: Server, query: str, *, mode: str = "match", **headers: str) -> list[str]:
    answer = server.client.get(f"/{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [it["resource"]["id"] for it in answer.json().get("entry", []) if it["search"]["mode"] == mode]


def coded(code: str, text: str = "") -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": code}]} | ({"text": text} if text else {})


def quantity(value: float, unit: str, **more: Any) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit} | more


def measured(resource_id: str, code: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return observation(id=resource_id, code=coded(code), valueQuantity=value, **more)


def resources() -> Iterator[dict[str, Any]]:
    """Yield two patients of two organizations, their values in several units, a pressure with components, a report."""
    for name, part_of in (("north", None), ("south", "north")):
        organization: dict[str, Any] = {"resourceType": "Organization", "id": name, "name": f"{name.title()} Hospital"}
        yield (organization | ({"partOf": {"reference": f"Organization/{part_of}"}} if part_of else {}))
    doctor = {"resourceType": "Practitioner", "id": "dr", "name": [{"family": "O'Neil", "given": ["Zoë"]}]}
    yield doctor
    for name, where, born in (("ada", "north", "1950-02-03"), ("bob", "south", "1980")):
        yield (
            patient(
                name,
                name=[{"family": "Müller" if name == "ada" else "mullerson", "given": [name.title()]}],
                birthDate=born,
                managingOrganization={"reference": f"Organization/{where}"},
                generalPractitioner=[{"reference": "Practitioner/dr"}],
                telecom=[{"system": "phone", "value": "555"}, {"system": "email", "value": f"{name}@example.org"}],
            )
        )
    about = {who: {"subject": {"reference": f"Patient/{who}"}} for who in ("ada", "bob")}
    values = (
        measured("glucose-mg", "2339-0", quantity(90, "mg/dL"), **about["ada"]),
        measured("glucose-g", "2339-0", quantity(1.2, "g/L"), **about["bob"]),
        measured("glucose-low", "2339-0", quantity(20, "mg/dL", comparator="<"), **about["bob"]),
        measured("glucose-bare", "2339-0", {"value": 90}, **about["bob"]),
        measured("temperature", "8310-5", quantity(37.2, "Cel"), **about["ada"]),
    )
    yield from values
    parts = [
        {"code": coded("8480-6"), "valueQuantity": quantity(130, "mm[Hg]")},
        {"code": coded("8462-4"), "valueQuantity": quantity(85, "mm[Hg]")},
    ]
    pressure = observation(id="pressure", code=coded("85354-9", "Blood pressure"), component=parts, **about["ada"])
    del pressure["valueQuantity"]
    yield pressure
    yield (
        {
            "resourceType": "DiagnosticReport",
            "id": "report",
            "status": "final",
            "code": coded("58410-2"),
            "result": [{"reference": "Observation/glucose-mg"}, {"reference": "Observation/pressure"}],
        }
        | about["ada"]
    )
    by_number = {"type": "Patient", "identifier": {"system": "urn:mrn", "value": "77"}}
    yield observation(id="logical", code=coded("x"), subject=by_number)
    yield {"resourceType": "ValueSet", "id": "vs", "url": "http://site.example/vs/a/b", "status": "draft"}


@pytest.fixture(scope="module")
def ward(lasting: Server) -> Server:
    for resource in resources():
        lasting.clock.advance(1)
        assert lasting.put(resource).status_code == 201
    return lasting


GLUCOSE = "Observation?code=2339-0&"


MATCHES = [
    # quantities: number, unit, prefix
    (f"{GLUCOSE}value-quantity=90", "glucose-mg glucose-bare"),
    (f"{GLUCOSE}value-quantity=90|{UCUM}|mg/dL", "glucose-mg"),
    (f"{GLUCOSE}value-quantity=0.9|{UCUM}|g/L", "glucose-mg"),
    (f"{GLUCOSE}value-quantity=900|{UCUM}|mg/L", "glucose-mg"),
    (f"{GLUCOSE}value-quantity=90||mg/dL", "glucose-mg"),
    (f"{GLUCOSE}value-quantity=gt1|{UCUM}|g/L", "glucose-g"),
    (f"{GLUCOSE}value-quantity=lt100|{UCUM}|mg/dL", "glucose-mg glucose-low"),
    (f"{GLUCOSE}value-quantity=ge90|{UCUM}|mg/dL", "glucose-mg glucose-g"),
    (f"{GLUCOSE}value-quantity=ap115|{UCUM}|mg/dL", "glucose-g"),
    (f"{GLUCOSE}value-quantity=9e1||mg/dL", "glucose-mg"),
    (f"{GLUCOSE}value-quantity=90.0||mg/dL", "glucose-mg"),
    (f"{GLUCOSE}value-quantity=90.1||mg/dL", ""),
    (f"{GLUCOSE}value-quantity=90|urn:other|mg/dL", ""),
    (f"Observation?value-quantity=99.0|{UCUM}|[degF]", "temperature"),
    (f"{GLUCOSE}value-quantity=90||mg/dL,1.2||g/L", "glucose-mg glucose-g"),
    # composites: one element must hold both
    (f"Observation?component-code-value-quantity=8480-6$gt120|{UCUM}|mm[Hg]", "pressure"),
    (f"Observation?component-code-value-quantity=8462-4$gt120|{UCUM}|mm[Hg]", ""),
    (f"Observation?combo-code-value-quantity={LOINC}|8480-6$130||mm[Hg]", "pressure"),
    ("Observation?combo-code-value-quantity=2339-0$90", "glucose-mg glucose-bare"),
    ("Observation?code-value-quantity=2339-0$90||mg/dL,8310-5$gt37", "glucose-mg temperature"),
    # tokens
    ("Observation?code:not=2339-0", "temperature pressure logical"),
    ("Observation?code:text=blood", "pressure"),
    ("Observation?code:missing=true", ""),
    ("Observation?value-quantity:missing=true", "pressure"),
    ("Observation?subject:missing=true", ""),
    ("Patient?gender=http://hl7.org/fhir/administrative-gender|female", "ada bob"),
    ("Patient?gender=urn:other|female", ""),
    ("Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender", "ada bob"),
    ("Patient?gender:not=female", ""),
    ("Patient?active:missing=true", "ada bob"),
    ("Patient?email=ada@example.org", "ada"),
    ("Patient?phone=ada@example.org", ""),
    ("Patient?deceased=false", "ada bob"),
    # strings
    ("Patient?family=mull", "ada bob"),
    ("Patient?family:exact=Müller", "ada"),
    ("Patient?family:exact=müller", ""),
    ("Patient?family:contains=llers", "bob"),
    ("Patient?family:contains=l%25", ""),
    ("Patient?family:exact=mullerson", "bob"),
    ("Practitioner?name=o'n", "dr"),
    # references
    ("Observation?subject:identifier=urn:mrn|77", "logical"),
    ("Observation?subject:Patient=bob&code=8310-5", ""),
    ("Observation?subject:Patient=ada&code=8310-5", "temperature"),
    ("Observation?subject=Patient/ada/_history/1&code=8310-5", "temperature"),
    # URIs
    ("ValueSet?url=http://site.example/vs/a/b", "vs"),
    ("ValueSet?url:below=http://site.example/vs", "vs"),
    ("ValueSet?url:below=http://site.example/v", ""),
    ("ValueSet?url:above=http://site.example/vs/a/b/c", "vs"),
    # dates
    ("Patient?birthdate=1950", "ada"),
    ("Patient?birthdate=ge1980-06", "bob"),
    ("Patient?birthdate=ap1979", "bob"),
    ("Patient?birthdate=eb1979", "ada"),
    # chains
    ("Observation?subject.family=Müllerson&code=2339-0", "glucose-g glucose-low glucose-bare"),
    ("Observation?patient.organization.name=south&code=2339-0", "glucose-g glucose-low glucose-bare"),
    ("Observation?subject:Patient.organization:Organization.partof.name=north&value-quantity=1.2", "glucose-g"),
    ("DiagnosticReport?result.code=85354-9", "report"),
    ("DiagnosticReport?result.subject:Patient.family:exact=Müller", "report"),
    ("DiagnosticReport?result.subject:Patient.given=bob", ""),
    ("Patient?general-practitioner:Practitioner.name=o'neil", "ada bob"),
    ("Patient?_has:Observation:patient:code=8310-5", "ada"),
    ("Patient?_has:Observation:subject:value-quantity=gt1|http://unitsofmeasure.org|g/L", "bob"),
    ("Observation?_has:DiagnosticReport:result:code=58410-2", "glucose-mg pressure"),
    ("Organization?_has:Patient:organization:_has:Observation:patient:code=8310-5", "north"),
    ("Patient?_has:Observation:patient:_has:DiagnosticReport:result:status=final", "ada"),
    ("Patient?organization.name=south&_has:Observation:patient:code=2339-0", "bob"),
]


@pytest.mark.parametrize(("query", "expected"), MATCHES)
def test_a_search_finds_exactly_its_matches(ward: Server, query: str, expected: str) -> None:
    assert sorted(ids(ward, query)) == sorted(expected.split())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?code=8310-5&_include=Observation:subject", "ada"),
        ("Observation?code=8310-5&_include=Observation:subject:Patient", "ada"),
        ("Observation?code=8310-5&_include=Observation:subject:Group", ""),
        ("Observation?code=8310-5&_include=Observation:*", "ada"),
        ("Observation?code=8310-5&_include=Observation:subject&_include:iterate=Patient:organization", "ada north"),
        (
            "Observation?value-quantity=1.2&_include=Observation:patient&_include:iterate=Patient:*",
            "bob dr south",
        ),
        ("Patient?_id=ada&_revinclude=DiagnosticReport:subject", "report"),
        ("Patient?_id=bob&_revinclude=Observation:patient", "glucose-g glucose-low glucose-bare"),
        (
            "Organization?_id=north&_revinclude=Patient:organization&_revinclude:iterate=DiagnosticReport:patient",
            "ada report",
        ),
        (
            "DiagnosticReport?_include=DiagnosticReport:result&_include=DiagnosticReport:subject",
            "ada glucose-mg pressure",
        ),
    ],
)
def test_what_is_included_stands_beside_the_matches_once(ward: Server, query: str, expected: str) -> None:
    assert sorted(ids(ward, query, mode="include")) == sorted(expected.split())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Patient?_sort=birthdate", "ada bob"),
        ("Patient?_sort=-birthdate", "bob ada"),
        ("Patient?_sort=family", "ada bob"),
        ("Patient?_sort=-family", "bob ada"),
        ("Patient?_sort=gender,-_id", "bob ada"),
        ("Observation?code=2339-0&_sort=value-quantity", "glucose-low glucose-bare glucose-mg glucose-g"),
        ("Observation?_sort=_lastUpdated&code=2339-0", "glucose-mg glucose-g glucose-low glucose-bare"),
    ],
)
def test_the_order_is_that_of_the_parameters(ward: Server, query: str, expected: str) -> None:
    found = ids(ward, query)
    if "value-quantity" in query:  # a number without a unit cannot be compared with the others
        found, expected = [it for it in found if it != "glucose-bare"], expected.replace("glucose-bare ", "")
    assert found == expected.split()


@pytest.mark.parametrize("sort", ["family", "-birthdate", "gender,-_id", "_id", "_lastUpdated", "-_lastUpdated,_id"])
def test_pages_of_every_order_hold_each_match_once(ward: Server, sort: str) -> None:
    whole = ids(ward, f"Observation?_sort={sort}" if "_" in sort and "gender" not in sort else f"Patient?_sort={sort}")
    url: str | None = f"/{'Observation' if '_' in sort and 'gender' not in sort else 'Patient'}?_sort={sort}&_count=1"
    found: list[str] = []
    while url:
        page = ward.client.get(url).json()
        found += [it["resource"]["id"] for it in page.get("entry", [])]
        url = next((it["url"] for it in page["link"] if it["relation"] == "next"), None)
    assert found == whole


def test_a_total_is_that_of_all_pages(ward: Server) -> None:
    page = ward.client.get("/Observation?code=2339-0&_count=1&_total=accurate").json()
    assert (page["total"], len(page["entry"])) == (4, 1)
    assert "total" not in ward.client.get("/Observation?code=2339-0&_count=1").json()
    counted = ward.client.get("/Observation?_summary=count&component-code-value-quantity=8480-6$130").json()
    assert (counted["total"], "entry" in counted) == (1, False)
    assert ward.client.get("/Observation?_count=0&code=2339-0").json()["total"] == 4
    assert ward.client.get("/AuditEvent?_summary=count&patient=Patient/ada").json()["total"] > 1


def test_our_own_absolute_address_is_a_reference_of_ours(ward: Server) -> None:
    assert ids(ward, f"Observation?patient={ward.url}/Patient/ada&code=8310-5") == ["temperature"]
    assert ids(ward, f"Observation?subject={ward.url}/Patient/ada&code=8310-5") == ["temperature"]


def test_an_unknown_parameter_is_refused_unless_the_client_is_lenient(ward: Server) -> None:
    query = "/Observation?code=8310-5&shoe-size=43&code:above=x"
    assert ward.client.get(query).status_code == 400
    assert ward.client.get(query, headers={"Prefer": "handling=strict"}).status_code == 400
    page = ward.client.get(query, headers={"Prefer": "handling=lenient"}).json()
    (self_link,) = [it["url"] for it in page["link"] if it["relation"] == "self"]
    assert self_link.endswith("/Observation?code=8310-5")
    match, outcome = page["entry"]
    assert (match["resource"]["id"], outcome["search"]["mode"]) == ("temperature", "outcome")
    assert "43" not in str(outcome)


@pytest.mark.parametrize(
    "query",
    [
        "Observation?subject.shoe=1",
        "Observation?code.name=1",
        "Provenance?target.status=final",
        "Patient?_has:Observation:code:status=final",
        "Patient?_has:Observation:patient:shoe=1",
        "Patient?_has:Shoe:patient:code=1",
        "Organization?_has:Observation:patient:code=1",
        "Observation?subject:Patient.organization.partof.partof.partof.name=x",
        "Observation?value-quantity=many",
        "Observation?value-quantity=1|2",
        "Observation?value-quantity=1e999",
        "Observation?component-code-value-quantity=8480-6",
        "Observation?component-code-value-quantity=8480-6$1$2",
        "DiagnosticReport?result.component-code-value-quantity=8480-6$130",
        "Observation?code:missing=perhaps",
        "Observation?code:in=http://site.example/vs",
        "Patient?identifier:of-type=x",
        "Patient?_include=Observation:subject",
        "Patient?_include=Patient:gender",
        "Patient?_include=*",
        "Patient?_revinclude=AuditEvent:patient",
        "Patient?_revinclude=Observation:*",
        "Patient?_total=some",
        "Patient?_summary=most",
        "Patient?_sort=family,family",
        "Patient?_sort=shoe",
        "Patient?birthdate:exact=1950",
        "Patient?_id:not=1",
        "Patient?family=" + "x" * 17_000,
    ],
)
def test_what_is_not_served_is_refused_with_its_reason(ward: Server, query: str) -> None:
    answer = ward.client.get(f"/{query}")
    assert answer.status_code in {400, 414}, answer.text
    assert answer.json()["issue"][0]["details"]["text"]


def test_a_form_is_a_search_too(ward: Server) -> None:
    answer = ward.client.post(
        "/Observation/_search?_count=1",
        content="code=2339-0&patient.family=mullerson",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert len(answer.json()["entry"]) == 1
    assert any(it["relation"] == "next" for it in answer.json()["link"])


def test_matches_come_in_a_reduced_form(ward: Server) -> None:
    page = ward.client.get("/Patient?_id=ada&_elements=gender&_include=Patient:organization").json()
    match, include = (it["resource"] for it in page["entry"])
    assert set(match) == {"resourceType", "id", "meta", "gender"}
    assert [tag["code"] for tag in match["meta"]["tag"]] == ["SUBSETTED"]
    assert include["name"] == "North Hospital"
    (found,) = ward.client.get("/Observation?_id=pressure&_summary=true").json()["entry"]
    assert "component" in found["resource"]
    assert ward.client.get("/Observation?_summary=true&_elements=code").status_code == 400
