"""XCN, XON: a person or organisation in a role (sections 2A.3.86, 2A.3.87), as a logical reference.

The guide makes resources of them. This server has no use for those resources, so the reference carries the identifier
and the name, and no Practitioner or Organization is written.
"""

from fhir_adapter.hl7v2.conversion import Context, Resource
from fhir_adapter.hl7v2.datatypes import hd, st
from fhir_adapter.hl7v2.message import Element


def person(element: Element, context: Context) -> Resource:
    """Return a Reference to a practitioner, empty when the element has neither identifier nor name.

    Parameters
    ----------
    element
        One repetition of an XCN field.
    context
        Its ``systems`` give the identifier's system.
    """
    if not element:
        return {}
    names = (element.component(6), element.component(3), element.component(4), element.component(2))
    authority = element.part(9)
    return _reference(element.component(1), " ".join(filter(None, names)), authority, context)


def organization(element: Element, context: Context) -> Resource:
    """Return a Reference to an organisation, empty when the element has neither identifier nor name.

    Parameters
    ----------
    element
        One repetition of an XON field.
    context
        Its ``systems`` give the identifier's system.
    """
    if not element:
        return {}
    return _reference(element.component(10) or element.component(3), element.component(1), element.part(6), context)


def _reference(number: str, name: str, authority: Element, context: Context) -> Resource:
    result: Resource = {}
    if value := st.line(number):
        namespace, universal = authority.component(1), authority.component(2)
        result["identifier"] = {"value": value}
        if namespace or universal:
            result["identifier"]["system"] = hd.system(namespace, universal, context.systems, "")
    if display := st.line(name):
        result["display"] = display
    return result
