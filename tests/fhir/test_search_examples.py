"""Every official example is found by each of its search parameters, with a value that FHIRPath takes from it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from .harness import Server
from .test_validate import WRONG

fhirpathpy = pytest.importorskip("fhirpathpy", reason="fhirpathpy evaluates the expressions of the parameters")

models: dict[str, Any] = pytest.importorskip("fhirpathpy.models").models

UNLIKE_A_REFERENCE = {"Library/library-fhir-helpers?predecessor=library-fhir-helpers-predecessor"}
"""The canonical of this example is no URL, and as a value it is read as an id, of which the type is not known."""
Json = dict[str, Any]
OF_A_TYPE = re.compile(r"\.where\(resolve\(\) is (\w+)\)")
AS = re.compile(r"\(?([\w.]+)(?: as |\.as\()(\w+)\)?")
"""``as`` takes one element; what R4 means in its expressions is every element of the type."""
DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T.*)?)?)?")


def parameters(shared: Path) -> dict[str, list[Json]]:
    """Read HL7's search parameters, by the types they are of."""
    found: dict[str, list[Json]] = {}
    lines = (shared / "standards" / "fhir-r4" / "search-parameters.ndjson").read_bytes().splitlines()
    for parameter in map(orjson.loads, lines):
        for kind in parameter.get("base", ()):
            if parameter.get("expression") and parameter["type"] not in {"composite", "special"}:
                found.setdefault(kind, []).append(parameter)
    return found


def of_type(expression: str, kind: str) -> str:
    """Return the part of an expression that is about one type, without what another resource would say."""
    parts = [part.strip() for part in expression.split("|")]
    about = [part for part in parts if re.match(rf"\(*{kind}\b", part) or part.startswith("Resource.")]
    return " | ".join(AS.sub(r"\1.ofType(\2)", OF_A_TYPE.sub("", part)) for part in about)


def written(kind: str, value: Any) -> str | None:
    """Return the value of a search that means an element; None for what has no such value."""
    if kind == "token":
        return token(value)
    if kind == "reference":
        text = value.get("reference") if isinstance(value, dict) else value
        return escaped(text) if text and not text.startswith("#") else None
    if kind == "date":
        if isinstance(value, dict):
            return f"ge{value['start']}" if "start" in value else f"le{value['end']}" if "end" in value else None
        return value if isinstance(value, str) and DATE.fullmatch(value) else None
    if kind in {"number", "quantity"}:
        return amount(value)
    if kind == "string" and isinstance(value, dict):
        value = next((value[name] for name in ("family", "text", "city", "country") if name in value), None)
    return escaped(value)[:100] if isinstance(value, str) and value.strip() else None


def token(value: Any) -> str | None:
    if not isinstance(value, dict):
        return escaped(str(value).lower() if isinstance(value, bool) else str(value))
    coding = next(iter(value["coding"]), {}) if "coding" in value else value
    code = coding.get("code", coding.get("value"))
    if not isinstance(code, str):
        return None
    system = coding.get("system", "") if "coding" in value or "code" in coding or "use" not in coding else ""
    is_contact = system in {"phone", "fax", "email", "pager", "url", "sms", "other"}
    return escaped(code) if not system or is_contact else f"{escaped(system)}|{escaped(code)}"


def amount(value: Any) -> str | None:
    if not isinstance(value, dict):
        return str(value)
    if "value" not in value:
        return None
    named = (value.get("system", ""), value.get("code", value.get("unit", "")))
    return "|".join([str(value["value"]), *map(escaped, named)]) if named[1] else str(value["value"])


def escaped(text: str) -> str:
    return re.sub(r"([\\,|$])", r"\\\1", text)


def searches(resource: Json, of: dict[str, list[Json]]) -> Iterator[str]:
    """Yield a search by each parameter that a resource has a value for."""
    kind = resource["resourceType"]
    for parameter in [*of.get(kind, ()), *of["Resource"]]:
        expression = of_type(parameter["expression"], kind)
        if not expression or parameter["code"] in {"_id", "_lastUpdated"}:
            continue
        named = OF_A_TYPE.findall(parameter["expression"])
        values = fhirpathpy.evaluate(resource, expression, model=models["r4"])
        for value in [it for it in map(plain, values) if not named or refers_to(it, named)][:1]:
            if (text := written(parameter["type"], value)) is not None:
                yield f"{parameter['code']}={quote(text, safe='')}"


def refers_to(value: Any, kinds: list[str]) -> bool:
    """Return whether a reference names one of some types: what ``resolve() is`` asks."""
    return isinstance(value, dict) and value.get("reference", "").startswith(tuple(f"{kind}/" for kind in kinds))


def plain(value: Any) -> Any:
    return getattr(value, "asStr", value)


@pytest.fixture(scope="module")
def examples(lasting: Server, shared: Path) -> list[Json]:
    """The examples that are right, each stored under its own id."""
    found = []
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        if path.name not in WRONG and not path.name.startswith("AuditEvent"):
            resource = orjson.loads(path.read_bytes())
            if "id" in resource:
                assert lasting.put(resource).status_code in {200, 201}, path.name
                found.append(resource)
    return found


def test_every_example_is_found_by_each_of_its_search_parameters(
    lasting: Server, examples: list[Json], shared: Path
) -> None:
    of = parameters(shared)
    last = {(it["resourceType"], it["id"]): it for it in examples}
    missed, tried = [], 0
    for (kind, name), resource in last.items():
        for search in searches(resource, of):
            if f"{kind}/{name}?{search}" in UNLIKE_A_REFERENCE:
                continue
            answer = lasting.client.get(f"/{kind}?_id={name}&{search}&_total=accurate")
            tried += 1
            if answer.status_code != 200 or answer.json()["total"] != 1:
                missed.append(f"{kind}/{name}?{search}: {answer.status_code}")
    assert missed == [], "\n".join(missed)
    assert tried > 2000
