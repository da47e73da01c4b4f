"""What a ViewDefinition may say, what is refused when it is read, and what is refused in a resource."""

from decimal import Decimal
from typing import Any

import pytest

from inference.views import MOST_ROWS, compile_view
from kernel.errors import Category, Problem

Json = dict[str, Any]
PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "birthDate": "1970-06",
    "_birthDate": {"extension": [{"url": "urn:x", "valueString": "about"}]},
    "name": [{"family": "Ada", "given": ["A", "B"]}, {"family": "Bea", "given": ["C"]}],
    "contact": [{"name": {"family": "Cid"}, "telecom": [{"value": "1"}, {"value": "2"}]}],
}
OBSERVATION: Json = {
    "resourceType": "Observation",
    "id": "o1",
    "effectiveDateTime": "2026-01-15T11:00:00+01:00",
    "valueQuantity": {"value": 1.5, "unit": "mg"},
    "component": [{"valueInteger": 4}, {"valueString": "high"}],
    "_status": {"extension": [{"url": "urn:x", "valueString": "not stated"}]},
}


def column(path: str, **more: Any) -> Json:
    return {"name": "it", "path": path, **more}


def view(*selects: Json, resource: str = "Patient", **more: Any) -> Json:
    return {"resource": resource, "select": list(selects), **more}


def value(path: str, resource: Json = PATIENT, **more: Any) -> Any:
    (row,) = compile_view(view({"column": [column(path, **more)]}, resource=resource["resourceType"])).rows(resource)
    return row[0]


def refusal(definition: object, resource: Json = PATIENT) -> str:
    with pytest.raises(Problem) as problem:
        compile_view(definition).rows(resource)
    assert problem.value.category is Category.INCORRECT
    return problem.value.detail


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Observation.value.ofType(Quantity).value", 1.5),
        ("component.value.ofType(integer)", 4),
        ("component.value.exists()", True),
        ("component.where(value.exists()).count()", 2),
        ("effective.ofType(dateTime) > @2026-01-15T09:59:59Z", True),
        ("effective.ofType(dateTime) = @2026-01-15T10:00:00Z", True),
        ("effective.ofType(dateTime) >= @2026-01-16", False),
        ("effective.ofType(dateTime) = @2026", None),
        ("effective.ofType(dateTime) < @2026-01-15T11:00:00", None),
        ("effective.ofType(dateTime) > @2026-01-15", None),
        ("value.ofType(Quantity).value + 0.1", Decimal("1.6")),
        ("value.ofType(Quantity).value / 0", None),
        ("status", None),
        ("status.exists()", True),
        ("%resource.id", "o1"),
        ("getResourceKey()", "Observation/o1"),
        ("-1", -1),
        ("%rowIndex + 1", 1),
        ("component.value.ofType(integer) * 2", 8),
        ("component.value.ofType(integer) / 8", Decimal("0.5")),
    ],
)
def test_compiled_paths(path: str, expected: object) -> None:
    assert value(path, OBSERVATION) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("name.select(given.first()).last()", "C"),
        ("name.family.first().upper()", "ADA"),
        ("(name.family | name.family).count()", 2),
        ("iif(active, 'yes', 'no')", "yes"),
        ("birthDate.extension('urn:x').value.ofType(string)", "about"),
        ("name.family contains 'Ada'", True),
        ("name.given.where($this.startsWith('B')).first()", "B"),
    ],
)
def test_other_paths_are_evaluated_by_fhirpathpy(path: str, expected: object) -> None:
    assert compile_view(view({"column": [column(path)]})).slow == (path,)
    assert value(path) == expected


def test_fhirpathpy_knows_the_type_of_the_element_that_an_iteration_has_come_to() -> None:
    select = {"forEach": "component", "column": [column("iif(value is integer, value + %add, -1)")]}
    constants = [{"name": "add", "valueInteger": 10}]
    compiled = compile_view(view(select, resource="Observation", constant=constants))
    assert compiled.rows(OBSERVATION) == [(14,), (-1,)]


def test_places_without_a_value_in_a_list_of_primitives_are_left_out() -> None:
    names = [{"given": ["A", None, "B"], "_given": [None, {"extension": [{"url": "urn:x", "valueString": "y"}]}, None]}]
    given = PATIENT | {"name": names}
    assert value("name.given", given, collection=True) == ["A", "B"]
    assert value("name.given.count()", given) == 2
    assert value("name.given[1]", given) == "B"


@pytest.mark.parametrize(
    ("reference", "key"),
    [
        ("Patient/1", "Patient/1"),
        ("Patient/1/_history/2", "Patient/1"),
        ("http://example.org/fhir/Patient/1", None),
        ("urn:uuid:9d0a6e7c-0000-4000-8000-000000000000", None),
        ("#p1", None),
        ("Group/1", None),
    ],
)
def test_keys_of_references(reference: str, key: str | None) -> None:
    resource = OBSERVATION | {"subject": {"reference": reference}}
    assert value("subject.getReferenceKey(Patient)", resource) == key


@pytest.mark.parametrize(
    ("boundary", "path", "resource", "expected"),
    [
        ("low", "birthDate", {"birthDate": "2024-02"}, "2024-02-01"),
        ("high", "birthDate", {"birthDate": "2024-02"}, "2024-02-29"),
        ("high", "birthDate", {"birthDate": "2024"}, "2024-12-31"),
        ("low", "meta.lastUpdated", {"meta": {"lastUpdated": "2024-02-03T04:05:06Z"}}, "2024-02-03T04:05:06.000Z"),
        ("high", "deceased.ofType(dateTime)", {"deceasedDateTime": "2024"}, "2024-12-31T23:59:59.999-12:00"),
        ("high", "multipleBirth.ofType(integer)", {"multipleBirthInteger": 2}, Decimal("2.5")),
    ],
)
def test_boundaries(boundary: str, path: str, resource: Json, expected: object) -> None:
    assert value(f"{path}.{boundary}Boundary()", {"resourceType": "Patient", **resource}) == expected


def test_the_boundary_of_a_decimal_is_of_the_digits_that_were_sent() -> None:
    sent = OBSERVATION | {"valueQuantity": {"value": Decimal("1.50")}}
    assert value("value.ofType(Quantity).value.lowBoundary()", sent) == Decimal("1.495")


def test_columns_have_the_types_that_are_declared_or_that_the_paths_have() -> None:
    compiled = compile_view(
        view(
            {
                "column": [
                    {"name": "a", "path": "id", "type": "string"},
                    {"name": "b", "path": "birthDate"},
                    {"name": "c", "path": "name.exists()"},
                    {"name": "d", "path": "name.family.upper()"},
                    {"name": "e", "path": "gender", "type": "http://hl7.org/fhir/StructureDefinition/code"},
                ]
            }
        )
    )
    assert compiled.columns == ("a", "b", "c", "d", "e")
    assert compiled.types == ("string", "date", "boolean", "", "code")


def test_a_resource_of_another_type_has_no_row() -> None:
    assert compile_view(view({"column": [column("id")]})).rows(OBSERVATION) == []


def test_the_row_of_no_element_has_no_values_and_the_place_0() -> None:
    select = {
        "forEachOrNull": "photo",
        "column": [{"name": "place", "path": "%rowIndex"}, {"name": "kind", "path": "'photo'"}],
        "select": [{"column": [{"name": "title", "path": "title"}]}],
    }
    assert compile_view(view(select)).rows(PATIENT) == [(0, None, None)]


@pytest.mark.parametrize(
    ("definition", "detail"),
    [
        ([], "ViewDefinition must be a mapping"),
        ({"resource": "Patient"}, "ViewDefinition.select is missing"),
        (view(resource="Patient"), "ViewDefinition.select must not be empty"),
        (view({"column": [column("id")]}, resource="Person2"), "ViewDefinition.resource: R4 has no resource Person2"),
        (view({"columns": [column("id")]}), "ViewDefinition.select[0].columns is not known"),
        (view({"column": [{"name": "1a", "path": "id"}]}), "ViewDefinition.select[0].column[0].name must be letters"),
        (
            view({"column": [column("id"), column("id")]}),
            "ViewDefinition.select[0].column[1].name: it is declared twice",
        ),
        (view({"column": [column("name.(")]}), "ViewDefinition.select[0].column[0].path: '(' stands where a name"),
        (
            view({"column": [column("name family")]}),
            "ViewDefinition.select[0].column[0].path: 'family' is not expected",
        ),
        (
            view({"column": [column("name.foo()")]}),
            "ViewDefinition.select[0].column[0].path: the function foo() is not",
        ),
        (view({"column": [column("today()")]}), "ViewDefinition.select[0].column[0].path: the function today() is not"),
        (view({"column": [column("%x")]}), "ViewDefinition.select[0].column[0].path: the constant %x is not defined"),
        (
            view({"column": [column("name.lowBoundary()")]}),
            "ViewDefinition.select[0].column[0].path: a boundary is one",
        ),
        (
            view({"column": [column("id")], "forEach": "name", "repeat": ["name"]}),
            "ViewDefinition.select[0] has forEach",
        ),
        (view({"column": [column("id")], "repeat": []}), "ViewDefinition.select[0].repeat must not be empty"),
        (view({"column": [column("id")]}, where=[{"path": "name"}]), "ViewDefinition.where[0].path: 'name' is a Human"),
        (
            view({"column": [column("id")]}, constant=[{"name": "n", "valueInteger": "1"}]),
            "ViewDefinition.constant[0].valueInteger is not of the type integer",
        ),
        (
            view({"column": [column("(" * 60 + "id" + ")" * 60)]}),
            "ViewDefinition.select[0].column[0].path: an expression",
        ),
    ],
)
def test_a_wrong_definition_is_refused_with_its_place(definition: object, detail: str) -> None:
    with pytest.raises(Problem) as problem:
        compile_view(definition)
    assert problem.value.detail.startswith(detail)


def test_several_values_are_refused_unless_the_column_is_a_collection() -> None:
    wrong = view({"column": [column("name.family")]})
    assert refusal(wrong) == "ViewDefinition.select[0].column[0]: it has several values; see collection"
    assert value("name.family", collection=True) == ["Ada", "Bea"]
    assert value("photo.title", collection=True) == []


def test_a_criterion_that_is_no_boolean_in_a_resource_is_refused() -> None:
    wrong = view({"column": [column("id")]}, where=[{"path": "name.family.first().upper()"}])
    assert refusal(wrong) == "ViewDefinition.where[0].path: 'name.family.first().upper()' is no boolean here"


def test_rows_without_end_are_refused() -> None:
    wrong = view({"repeat": ["$this"], "column": [column("id")]})
    assert refusal(wrong) == f"a resource may give {MOST_ROWS} rows"
    many = {"resourceType": "Patient", "name": [{"family": "x"}] * 400}
    names = [{"forEach": "name", "column": [{"name": f"n{number}", "path": "family"}]} for number in range(2)]
    assert refusal(view(*names), many) == f"a resource may give {MOST_ROWS} rows"


def test_what_a_resource_holds_is_not_in_the_refusal() -> None:
    wrong = view({"column": [column("name.family.upper()")]})
    assert "Ada" not in refusal(wrong)


def test_the_view_of_blood_pressures_of_the_specification_is_compiled() -> None:
    def part(code: str) -> str:
        return f"component.where(code.coding.exists(system='http://loinc.org' and code='{code}')).first()"

    definition = view(
        {"column": [{"path": "getResourceKey()", "name": "id"}, {"path": "effective.ofType(dateTime)", "name": "at"}]},
        {"column": [{"path": "subject.getReferenceKey(Patient)", "name": "patient"}]},
        {"forEach": part("8480-6"), "column": [{"name": "systolic", "path": "value.ofType(Quantity).value"}]},
        {"forEachOrNull": part("8462-4"), "column": [{"name": "diastolic", "path": "value.ofType(Quantity).value"}]},
        resource="Observation",
        where=[{"path": "code.coding.exists(system='http://loinc.org' and code='85354-9')"}],
    )
    loinc = "http://loinc.org"
    pressure = {
        "resourceType": "Observation",
        "id": "bp",
        "code": {"coding": [{"system": loinc, "code": "85354-9"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-01-15",
        "component": [{"code": {"coding": [{"system": loinc, "code": "8480-6"}]}, "valueQuantity": {"value": 120}}],
    }
    compiled = compile_view(definition)
    assert compiled.slow == ()
    assert compiled.rows(pressure) == [("Observation/bp", "2026-01-15", "Patient/p1", 120, None)]
    assert compiled.rows(OBSERVATION | {"code": {"text": "pressure"}}) == []
