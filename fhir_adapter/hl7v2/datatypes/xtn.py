"""XTN: a telephone number or electronic address (section 2A.3.89; guide: XTN[ContactPoint])."""

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import st
from fhir_adapter.hl7v2.message import Element
from fhir_adapter.hl7v2.tables import TELECOM_SYSTEM, TELECOM_USE


def contact_point(element: Element, use: str) -> Resource:
    """Return a ContactPoint, empty when the element has no number or address.

    Parameters
    ----------
    element
        One repetition of the field.
    use
        The use that the field implies, unless XTN.2 states another one; may be empty.
    """
    kind = element.component(3)
    system = TELECOM_SYSTEM.get(kind, "phone")
    value = element.component(4) if system == "email" else ""
    value = st.line(value or element.component(12) or element.component(1) or _assemble(element))
    if not value:
        return {}
    stated = "mobile" if kind == "CP" else TELECOM_USE.get(element.component(2), use)
    return {"system": system, "value": value} | ({"use": stated} if stated else {})


def _assemble(element: Element) -> str:
    """Return the number, made from country code, area code, local number and extension."""
    country, area, local, extension = (element.component(number) for number in (5, 6, 7, 8))
    if not local:
        return ""
    plus = f"+{country.lstrip('+')}" if country else ""
    return " ".join(filter(None, (plus, area, local, f"ext. {extension}" if extension else "")))
