"""EI: an entity identifier, such as an order number (section 2A.3.28; guide: EI[Identifier-Extension])."""

from fhir_adapter.hl7v2.conversion import Context, Resource
from fhir_adapter.hl7v2.datatypes import hd, st
from fhir_adapter.hl7v2.message import Element


def identifier(element: Element, context: Context) -> Resource:
    """Return an Identifier, empty when the element has no value; without an authority it has no system.

    Parameters
    ----------
    element
        One repetition of an EI field.
    context
        Its ``systems`` give the identifier's system.
    """
    value = st.line(element.component(1)) if element else ""
    if not value:
        return {}
    namespace, universal = element.component(2), element.component(3)
    if not (namespace or universal):
        return {"value": value}
    return {"system": hd.system(namespace, universal, context.systems, ""), "value": value}
