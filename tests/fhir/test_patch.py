"""JSON Patch and FHIRPath Patch: the published suites, and what a patch does to a stored resource."""

import copy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapter.patch.fhirpath_patch import fhirpath_patch
from fhir_adapter.patch.json_patch import json_patch
from fhir_adapter.patch.paths import element_of
from fhir_adapter.patch.values import without_empty
from fhir_adapter.store.problems import TooCostly
from fhir_adapter.validation.objects import names_of
from fhir_adapter.validation.primitives import CHECKS
from kernel.errors import Problem

from .examples import entry, observation, patient
from .harness import Server

SUITES = Path("standards") / "fhir-patch-tests"
FHIR = "{http://hl7.org/fhir}"
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
REFUSED: dict[str, str] = {}
"""Cases of the suites that are refused on purpose, with the reason; there is none."""


def json_of(element: ElementTree.Element, structure: str) -> dict[str, Any]:
    """Convert FHIR XML to JSON, by R4's definitions."""
    made: dict[str, Any] = {name: value for name, value in element.attrib.items() if name in {"id", "url"}}
    for child in element:
        name = child.tag.removeprefix(FHIR)
        if name.endswith("}div"):
            made["div"] = ElementTree.tostring(child, encoding="unicode")
            continue
        definition = element_of(structure, name)
        assert definition is not None, (structure, name)
        code = dict(names_of(definition))[name].removeprefix(">")
        value: Any = json_of(child, "Element" if code in CHECKS else code)
        beside = None
        if code in CHECKS:
            beside, value = value, child.get("value")
            value = value == "true" if code == "boolean" else int(value) if code == "integer" else value
        for key, item in ((name, value), (f"_{name}", beside)):
            if item in (None, {}):
                continue
            if definition.repeats:
                made.setdefault(key, []).append(item)
            else:
                made[key] = item
    return made


def resource_of(holder: ElementTree.Element | None) -> dict[str, Any]:
    assert holder is not None
    (resource,) = holder
    kind = resource.tag.removeprefix(FHIR)
    return {"resourceType": kind} | json_of(resource, kind)


def normal(resource: dict[str, Any]) -> dict[str, Any]:
    """Write the XHTML of a narrative in one way: the suite has it once as elements and once as a string."""
    if "div" in resource.get("text", {}):
        div = ElementTree.canonicalize(resource["text"]["div"], strip_text=True, rewrite_prefixes=True)
        resource["text"]["div"] = div
    return resource


def test_the_published_fhirpath_patch_cases_pass(shared: Path) -> None:
    cases = ElementTree.parse(shared / SUITES / "fhir-patch-tests.xml").getroot().findall("case")
    assert len(cases) == 33
    for case in cases:
        name = case.get("name", "")
        if name in REFUSED:
            continue
        before, patch = resource_of(case.find("input")), fhirpath_patch(resource_of(case.find("diff")))
        if case.find("error") is not None:
            with pytest.raises(Problem):
                patch(before)
        else:
            assert normal(without_empty(patch(before))) == normal(resource_of(case.find("output"))), name


def test_the_published_json_patch_cases_pass(shared: Path) -> None:
    cases = orjson.loads((shared / SUITES / "json-patch-tests.json").read_bytes())
    assert len(cases) == 16
    for case in cases:
        before = copy.deepcopy(case["doc"])
        if "error" in case:
            with pytest.raises(Problem):
                json_patch(case["patch"])(before)
        else:
            assert json_patch(case["patch"])(before) == case.get("expected", case["doc"]), case["comment"]


def fhirpath(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": list(parts)}]}


def replace_by(path: str, **value: Any) -> dict[str, Any]:
    return fhirpath(
        {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": path}, {"name": "value", **value}
    )


def test_a_patch_keeps_the_characters_of_all_numbers(server: Server) -> None:
    raw = orjson.dumps(observation(id="o")).replace(b":72,", b":7.20e1,")
    server.client.put("/Observation/o", content=raw)
    patch = b'[{"op":"add","path":"/component","value":[{"code":{"text":"x"},"valueQuantity":{"value":1.10}}]}]'
    patched = server.client.patch("/Observation/o", content=patch, headers=JSON_PATCH)
    assert patched.status_code == 200
    assert b'"value":7.20e1,' in patched.content
    assert b'"value":1.10}' in patched.content
    parameters = orjson.dumps(replace_by("Observation.value.value", valueDecimal=0)).replace(b":0}", b":3.00}")
    assert b'"value":3.00,' in server.client.patch("/Observation/o", content=parameters).content


def test_the_result_of_a_patch_is_validated(server: Server) -> None:
    server.put(patient())
    for patch in (
        [{"op": "replace", "path": "/gender", "value": "banana"}],
        [{"op": "replace", "path": "/id", "value": "other"}],
        [{"op": "replace", "path": "/resourceType", "value": "Person"}],
        [{"op": "test", "path": "/gender", "value": "male"}],
        [{"op": "remove", "path": "/nothing"}],
        [{"op": "replace", "path": "", "value": 1}],
        [{"op": "remove", "path": ""}],
    ):
        refused = server.client.patch("/Patient/p1", json=patch, headers=JSON_PATCH)
        assert refused.status_code in {400, 422}, patch
        assert refused.json()["resourceType"] == "OperationOutcome"
    assert server.count() == 1


@pytest.mark.parametrize(
    "patch",
    [
        {},
        "x",
        [{"op": "jump", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "/a~2", "value": 1}],
        [{"op": "move", "from": "/a", "path": "/a/b"}],
        [{"op": "copy", "path": "/a"}],
        [{"op": "test", "path": "/a", "value": 1}] * 1001,
    ],
)
def test_what_is_no_json_patch_is_refused(lasting: Server, patch: Any) -> None:
    lasting.put(patient())
    assert lasting.client.patch("/Patient/p1", json=patch, headers=JSON_PATCH).status_code == 400


@pytest.mark.parametrize(
    "patch",
    [
        patient(),
        {"resourceType": "Parameters", "parameter": [{"name": "x"}]},
        replace_by("Patient.name.trace('x')", valueString="x"),
        replace_by("Patient.where(", valueString="x"),
        replace_by("Patient.name.where(family.matches('(a+)+$'))", valueString="x"),
        replace_by("Patient.name.where(" + "(" * 400 + ")" * 400 + ")", valueString="x"),
        replace_by("Patient.name.where(use = 'a' use = 'b')", valueString="x"),
        replace_by("Patient.name.where()", valueString="x"),
        replace_by("x", valueString="x"),
        fhirpath({"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.gender"}),
        fhirpath({"name": "type", "valueCode": "jump"}),
    ],
)
def test_what_is_no_fhirpath_patch_is_refused(lasting: Server, patch: Any) -> None:
    lasting.put(patient())
    assert lasting.client.patch("/Patient/p1", json=patch).status_code == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Patient.identifier.where(system = 'urn:oid:1.2.3' and value = 'MRN-p1').value", 200),
        ("Patient.identifier.where(value = 'it\\'s').value", 422),
        ("Patient.identifier.first().value", 200),
        ("Patient.identifier.last().value", 200),
        ("Patient.name.given[0]", 200),
        ("Patient.name.given[1]", 422),
        ("Patient.identifier", 200),
        ("Patient.extension('urn:x').value", 422),
        ("Observation.status", 422),
        ("Patient.nothing", 422),
        ("Patient", 422),
    ],
)
def test_a_path_names_one_element(server: Server, path: str, status: int) -> None:
    server.put(patient())
    value: dict[str, Any] = {"valueIdentifier": {"value": "x"}} if path.endswith("identifier") else {"valueString": "x"}
    assert server.client.patch("/Patient/p1", json=replace_by(path, **value)).status_code == status


STEPS = (
    *("Patient", ".name", ".given", ".deceased", ".contact", ".text", ".div", ".id", ".meta", ".birthDate"),
    *(
        "[0]",
        "[7]",
        ".where(use = 'x')",
        ".where(",
        ")",
        ".first()",
        ".ofType(boolean)",
        ".extension('urn:x')",
        "x",
        "''",
    ),
)
paths = st.lists(st.sampled_from(STEPS), max_size=6).map("".join)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
parts = st.fixed_dictionaries(
    {"name": st.sampled_from(["type", "path", "name", "value", "index", "source", "destination"])},
    optional={
        "valueCode": st.sampled_from(["add", "insert", "delete", "replace", "move"]),
        "valueString": st.one_of(paths, st.sampled_from(["gender", "name", "given", "deceased", "birthDate"])),
        "valueInteger": st.integers(-1, 3),
        "_valueString": json_values,
        "part": json_values,
        "resource": json_values,
    },
)
POINTERS = ("/name", "/0", "/-", "/given", "/gender", "/x", "/~1", "/id", "/meta")
pointers = st.lists(st.sampled_from(POINTERS), max_size=4)
operations = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
        "path": pointers.map("".join),
        "from": pointers.map("".join),
        "value": json_values,
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(parts, max_size=5), max_size=3), st.lists(operations, max_size=5))
def test_any_patch_is_carried_out_or_refused(lasting: Server, given_parts: Any, given_operations: Any) -> None:
    lasting.put(patient())
    body = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": it} for it in given_parts]}
    assert lasting.client.patch("/Patient/p1", json=body).status_code in {200, 400, 422}
    answer = lasting.client.patch("/Patient/p1", json=given_operations, headers=JSON_PATCH)
    assert answer.status_code in {200, 400, 422}


def test_a_patch_that_copies_itself_again_and_again_is_refused(server: Server) -> None:
    server.put(patient())
    doubling = [{"op": "copy", "from": "/name", "path": "/name/-"}] * 60
    assert server.client.patch("/Patient/p1", json=doubling, headers=JSON_PATCH).status_code == 422


def test_a_patch_changes_one_type_of_a_choice_to_another(server: Server) -> None:
    server.put(observation(id="o"))
    patched = server.client.patch("/Observation/o", json=replace_by("Observation.value", valueString="high"))
    assert (patched.status_code, patched.json().get("valueString")) == (200, "high")
    assert "valueQuantity" not in patched.json()


def test_a_patch_of_what_is_not_there_is_refused(server: Server) -> None:
    assert server.client.patch("/Patient/p1", json=[], headers=JSON_PATCH).status_code == 404
    server.put(patient())
    server.client.delete("/Patient/p1")
    assert server.client.patch("/Patient/p1", json=[], headers=JSON_PATCH).status_code == 410


def test_a_patch_of_nothing_makes_no_version_and_is_recorded(server: Server) -> None:
    server.put(patient())
    assert server.client.patch("/Patient/p1", json=[], headers=JSON_PATCH).headers["etag"] == 'W/"1"'
    server.client.patch("/Patient/p1", json=[{"op": "replace", "path": "/gender", "value": "male"}], headers=JSON_PATCH)
    assert server.audited()[-1]["subtype"][0]["code"] == "patch"


def test_a_fhirpath_patch_is_an_entry_of_a_bundle(server: Server) -> None:
    server.put(patient())
    patch = replace_by("Patient.gender", valueCode="male")
    assert server.transact(entry("PATCH", "Patient/p1", patch)).json()["entry"][0]["response"]["status"] == "200"
    assert server.client.get("/Patient/p1").json()["gender"] == "male"
    assert server.transact(entry("PATCH", "Patient/p1", patient())).status_code == 400


def test_a_patch_of_another_type_is_refused(lasting: Server) -> None:
    refused = lasting.client.patch("/Patient/p1", content=b"[]", headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415


@pytest.mark.parametrize(
    "path",
    [
        "Questionnaire.item.where(" + " and ".join(["required = false"] * 11) + ").where(linkId = 'none')",
        "Questionnaire.item.where(linkId = 'none')",
        "Questionnaire.item" + ".as(BackboneElement)" * 40 + ".extension('urn:none')",
        "Questionnaire.item.extension.value",
        "Questionnaire.item[4999].where(" + " and ".join(["value = 1"] * 60) + ").text",
    ],
)
def test_the_work_of_one_fhirpath_patch_is_bounded(path: str) -> None:
    """A patch is carried out in the commit, where others wait."""
    items = [{"linkId": str(it), "type": "display", "required": False, "value": []} for it in range(5000)]
    operation = {"name": "operation", "part": _delete(path)}
    patch = fhirpath_patch({"resourceType": "Parameters", "parameter": [operation] * 1000})
    with pytest.raises(TooCostly):
        patch({"resourceType": "Questionnaire", "status": "active", "item": items})


def test_a_fhirpath_patch_of_a_large_resource_is_carried_out() -> None:
    items = [{"linkId": str(it), "type": "display"} for it in range(5000)]
    before = {"resourceType": "Questionnaire", "status": "active", "item": items}
    patched = fhirpath_patch(fhirpath(*_delete("Questionnaire.item.where(linkId = '4999' and type = 'display')")))(
        before
    )
    assert [it["linkId"] for it in patched["item"]] == [str(it) for it in range(4999)]


def _delete(path: str) -> list[dict[str, Any]]:
    return [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": path}]
