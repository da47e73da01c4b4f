"""XAD: an address (section 2A.3.85; guide: XAD[Address])."""

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import st
from fhir_adapter.hl7v2.message import Element
from fhir_adapter.hl7v2.tables import ADDRESS_TYPE, ADDRESS_USE

_PARTS = ((3, "city"), (4, "state"), (5, "postalCode"), (6, "country"), (9, "district"))


def address(element: Element) -> Resource:
    """Return an Address, empty when the element has no part of one."""
    result: Resource = {}
    if lines := [line for line in (st.line(element.component(1)), st.line(element.component(2))) if line]:
        result["line"] = lines
    result |= {key: text for number, key in _PARTS if (text := st.line(element.component(number)))}
    if not result:
        return {}
    kind = element.component(7)
    if use := ADDRESS_USE.get(kind):
        result["use"] = use
    if postal := ADDRESS_TYPE.get(kind):
        result["type"] = postal
    return result
