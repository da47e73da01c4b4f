"""CX: an identifier with its assigning authority (section 2A.3.14; guide: CX[Identifier])."""

from fhir_adapter.hl7v2.conversion import Context, Resource
from fhir_adapter.hl7v2.datatypes import dtm, st
from fhir_adapter.hl7v2.message import Element
from fhir_adapter.hl7v2.tables import TERMINOLOGY


def identifier(element: Element, context: Context) -> Resource:
    """Return an Identifier, empty when the element has no value.

    Parameters
    ----------
    element
        One repetition of a CX field.
    context
        Its ``identities`` give the identifier's system.
    """
    value = st.line(element.component(1))
    if not value:
        return {}
    authority = element.part(4)
    named = context.identities.conventions.system(authority.component(1), authority.component(2))
    result: Resource = {"system": named, "value": value}
    if kind := st.line(element.component(5)):
        result["type"] = {"coding": [{"system": f"{TERMINOLOGY}v2-0203", "code": kind}]}
    start, end = dtm.date(element.component(7)) or "", dtm.date(element.component(8)) or ""
    if period := dtm.period(start, end):
        result["period"] = period
    return result
