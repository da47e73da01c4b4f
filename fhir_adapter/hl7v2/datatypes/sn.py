"""SN: a structured number, such as ``>^100``, ``^1^:^128`` or ``^5^-^10`` (section 2A.3.73; guide: SN[...] maps)."""

from decimal import Decimal
from typing import Final

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import nm, st
from fhir_adapter.hl7v2.message import Element

_COMPARATORS: Final = {"": "", "=": "", "<": "<", ">": ">", "<=": "<=", ">=": ">="}


def value(element: Element, unit: Resource) -> Resource:
    """Return the ``value[x]`` with the meaning of the structured number.

    Parameters
    ----------
    element
        OBX-5.
    unit
        The unit members of a Quantity, from OBX-6.

    Returns
    -------
    dict
        ``valueQuantity``, ``valueRange``, ``valueRatio``, or ``valueString`` where none of them can; empty when the
        element is.
    """
    comparator, separator = element.component(1), element.component(3)
    first, second = nm.number(element.component(2)), nm.number(element.component(4))
    comparator_code = _COMPARATORS.get(comparator)
    if comparator_code is not None and first is not None:
        if second is None and separator in ("", "+") and not element.component(4):
            return _single(first, comparator_code or (">=" if separator else ""), unit)
        if second is not None and not comparator_code and separator == "-" and first <= second:
            return {"valueRange": {"low": {"value": first} | unit, "high": {"value": second} | unit}}
        if second is not None and not comparator_code and separator in (":", "/"):
            return {"valueRatio": {"numerator": {"value": first} | unit, "denominator": {"value": second} | unit}}
    printed = [*(element.component(number) for number in (1, 2, 3, 4)), str(unit.get("unit", ""))]
    text = st.string(" ".join(filter(None, printed[:4])))
    return {"valueString": f"{text} {printed[4]}".strip()} if text else {}


def _single(number: Decimal, comparator: str, unit: Resource) -> Resource:
    quantity: Resource = {"value": number} | ({"comparator": comparator} if comparator else {})
    return {"valueQuantity": quantity | unit}
