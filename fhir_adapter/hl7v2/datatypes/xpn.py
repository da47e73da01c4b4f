"""XPN: a person's name (section 2A.3.88; guide: XPN[HumanName])."""

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import st
from fhir_adapter.hl7v2.message import Element
from fhir_adapter.hl7v2.tables import NAME_USE


def human_name(element: Element) -> Resource:
    """Return a HumanName, empty when the element has no name."""
    name: Resource = {}
    if use := NAME_USE.get(element.component(7)):
        name["use"] = use
    if family := st.line(element.component(1)):
        name["family"] = family
    _list(name, "given", element.component(2), element.component(3))
    _list(name, "prefix", element.component(5))
    _list(name, "suffix", element.component(4), element.component(6))
    return name if name.keys() - {"use"} else {}


def _list(name: Resource, key: str, *texts: str) -> None:
    if found := [line for text in texts if (line := st.line(text))]:
        name[key] = found
