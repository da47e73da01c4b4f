"""Resources that hypothesis makes of HL7's definitions: most are valid, with the extreme values of each type."""

from typing import Any

import orjson
from hypothesis import strategies as st

from fhir_adapter.validation.objects import names_of
from fhir_adapter.validation.records import Element, Structure
from fhir_adapter.validation.table import r4

from .mutations import WRONG

DEEPEST = 4
TIMES = (
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999999-12:00",
    "2016-12-31T23:59:60Z",
    "2026-02-28T24:00:00Z",
)
URLS = ("urn:oid:1.2.3", "http://x.org/a?b=c|1.0", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "x:" + "y" * 200)
TEXTS = ("x", "Ünïcødé 😀", "a\tb\r\nc", "<b>&amp;'\"", "\u202e\u200b", "é\u0301", "%00", "a,b|c$d\\e", "x" * 1000)
VALUES: dict[str, tuple[Any, ...]] = {
    "boolean": (True, False),
    "integer": (0, -2147483648, 2147483647),
    "unsignedInt": (0, 2147483647),
    "positiveInt": (1, 2147483647),
    "decimal": ("0.0", "-0", "1E300", "1e-300", "0.10", "123456789012345678901234567890.123456789", "2.50"),
    "date": ("0001", "9999", "9999-12", "2024-02-29", "1900-01-01"),
    "dateTime": ("0001", "9999-12", "2024-02-29", *TIMES),
    "instant": TIMES,
    "time": ("00:00:00", "23:59:60", "12:00:00.123456789"),
    "string": TEXTS,
    "markdown": TEXTS,
    "code": ("x", "a-b", "é"),
    "id": ("x", "A-1.b", "9" * 64),
    "oid": ("urn:oid:1.2.3", "urn:oid:0.0"),
    "uuid": ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520",),
    "uri": URLS,
    "url": URLS,
    "canonical": URLS,
    "base64Binary": ("AAAA", "eA==", "A" * 400),
    "xhtml": ('<div xmlns="http://www.w3.org/1999/xhtml">x</div>',),
}
NAMES = ("Basic", "Patient", "Observation", "Organization")
KINDS = sorted(r4().resources - {"AuditEvent", "Subscription", "Bundle"})
"""Bundles and Subscriptions have rules of their own; AuditEvents are written by the server alone."""


@st.composite
def resources(draw: st.DrawFn) -> bytes:
    """Return the JSON of a resource with an id."""
    kind = draw(st.sampled_from(KINDS))
    made = {"resourceType": kind} | draw(objects(r4().structures[kind], 0)) | {"id": "generated"}
    if draw(st.integers(0, 9)) == 0:
        made[draw(st.sampled_from(sorted(made.keys() - {"id"})))] = draw(st.sampled_from(WRONG))
    return orjson.dumps(made | {"resourceType": kind})


@st.composite
def objects(draw: st.DrawFn, structure: Structure, depth: int) -> dict[str, Any]:
    """Return an object of a structure: what it must have, and some of what it may have."""
    optional = [
        it for it in structure.elements if not it.least and it.name not in {"contained", "meta", "implicitRules"}
    ]
    most = 4 if depth < DEEPEST else 0
    chosen = draw(st.lists(st.sampled_from(optional), max_size=most, unique_by=id)) if optional and most else []
    made: dict[str, Any] = {}
    for element in [*(it for it in structure.elements if it.least), *chosen]:
        name, kind = draw(st.sampled_from(list(names_of(element))))
        if kind == "Resource":
            continue
        values = [draw(one(element, kind, depth + 1)) for _ in range(draw(st.integers(1, 2)) if element.repeats else 1)]
        made[name] = values if element.repeats else values[0]
    return made


def one(element: Element, kind: str, depth: int) -> st.SearchStrategy[Any]:
    """Return the values of an element."""
    if element.binding:
        codes = [code for some in r4().value_sets.get(element.binding, {}).values() for code in sorted(some)]
        if codes and kind == "code":
            return st.sampled_from(codes)
    if kind == "Reference":
        return st.sampled_from(sorted(element.targets) or NAMES).map(lambda it: {"reference": f"{it}/generated"})
    if kind == "Extension":
        return st.sampled_from(TEXTS).map(lambda it: {"url": "http://x.org/e", "valueString": it})
    if kind == "decimal":
        return st.sampled_from(VALUES[kind]).map(orjson.Fragment)
    if kind in VALUES:
        return st.sampled_from(VALUES[kind])
    structure = r4().structures.get(kind.removeprefix(">"))
    return objects(structure, depth) if structure else st.just("x")
