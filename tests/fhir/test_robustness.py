"""Resources that no person has written: whatever is posted gets an answer of the API, soon, and never a 5xx.

The server has no OpenAPI description: R4's StructureDefinitions describe the resources, and hypothesis makes them from
the validator's own table of these, right and wrong. A wrong one is as likely as a right one at each element.
"""

from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapter.validation.records import Element
from fhir_adapter.validation.table import choice_name, r4

from .harness import Server
from .mutations import WRONG

SECONDS: Final = 10
"""Longest time for an answer."""
DEEPEST: Final = 4
TEXTS: Final = {
    "boolean": st.booleans(),
    "integer": st.integers(-5, 5),
    "positiveInt": st.integers(1, 5),
    "unsignedInt": st.integers(0, 5),
    "decimal": st.sampled_from([1, 0.5, -2.25]),
    "date": st.sampled_from(["2026", "2026-02", "2026-02-28"]),
    "dateTime": st.sampled_from(["2026-02-28", "2026-02-28T10:00:00Z"]),
    "instant": st.just("2026-02-28T10:00:00Z"),
    "time": st.just("10:00:00"),
    "base64Binary": st.just("YQ=="),
    "xhtml": st.just('<div xmlns="http://www.w3.org/1999/xhtml">x</div>'),
}
WORDS: Final = st.sampled_from(["x", "http://x.org", "urn:oid:1.2.3", "ä", "Patient/1", "#x"])
ANYTHING: Final = st.sampled_from(WRONG)
TYPES: Final = sorted(r4().resources)


@st.composite
def resources(draw: st.DrawFn) -> dict[str, Any]:
    """Make a resource of any type."""
    kind = draw(st.sampled_from(TYPES))
    return {"resourceType": kind, **draw(objects(kind, 0))}


@st.composite
def objects(draw: st.DrawFn, name: str, depth: int) -> dict[str, Any]:
    """Make an object of a structure: its required elements and some of the others."""
    structure = r4().structures[name]
    chosen = [it for it in structure.elements if it.least or (depth < DEEPEST and draw(st.integers(0, 9)) == 0)]
    made: dict[str, Any] = {}
    for element in chosen:
        code = draw(st.sampled_from(element.types or ("string",)))
        key = choice_name(element.name[:-3], code) if element.name.endswith("[x]") else element.name
        made[key] = draw(values(element, code, depth + 1))
    return made


@st.composite
def values(draw: st.DrawFn, element: Element, code: str, depth: int) -> Any:
    """Make the value of an element, one in twelve of them wrong."""
    if draw(st.integers(0, 11)) == 0:
        return draw(ANYTHING)
    if element.binding:
        codes = sorted(set().union(*r4().value_sets[element.binding].values()))
        value = draw(st.sampled_from(codes))
        one: Any = (
            value if code == "code" else {"coding": [{"code": value}]} if code == "CodeableConcept" else {"code": value}
        )
    elif code in TEXTS:
        one = draw(TEXTS[code])
    elif code.removeprefix(">") in r4().structures and depth < DEEPEST + 3:
        one = draw(objects(code.removeprefix(">"), depth))
    elif code == "Resource":
        one = {"resourceType": "Basic", "id": "x", "code": {"text": "x"}}
    else:
        one = draw(WORDS)
    return [one] if element.repeats else one


QUIET: Final = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("path", ["", "/$validate"])
@QUIET
@given(resource=resources())
def test_whatever_is_posted_is_answered_by_the_api(lasting: Server, path: str, resource: dict[str, Any]) -> None:
    kind = resource["resourceType"]
    answer = lasting.client.post(f"/{kind}{path}", json=resource, timeout=SECONDS)
    if path:
        assert answer.status_code == 200
        assert answer.json()["resourceType"] == "OperationOutcome"
    elif kind == "AuditEvent":
        assert answer.status_code == 405
    else:
        assert answer.status_code in {201, 400, 422}, answer.text


@QUIET
@given(made=st.lists(resources(), min_size=1, max_size=4), kind=st.sampled_from(["transaction", "batch"]))
def test_whatever_is_in_a_bundle_is_answered_by_the_api(lasting: Server, made: list[dict[str, Any]], kind: str) -> None:
    entries = [
        {"resource": it, "request": {"method": "POST", "url": it["resourceType"]}, "fullUrl": f"http://x.org/{index}"}
        for index, it in enumerate(made)
    ]
    answer = lasting.transact(*entries, kind=kind)
    assert answer.status_code in {200, 400, 405, 422, 501}, answer.text
