"""PL: the location of a patient (section 2A.3.53), as a reference with a display text; no Location is written."""

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import st
from fhir_adapter.hl7v2.message import Element

_FROM_LARGE_TO_SMALL = (4, 7, 8, 1, 2, 3)


def location(element: Element) -> Resource:
    """Return a Reference with facility, building, floor, point of care, room and bed; empty when there is none."""
    parts = [part for number in _FROM_LARGE_TO_SMALL if (part := st.line(element.component(number)))]
    if not parts and (described := st.line(element.component(9))):
        parts = [described]
    return {"display": ", ".join(parts)} if parts else {}
