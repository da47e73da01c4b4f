"""CE, CWE, CNE, CF, IS, ID: coded values (section 2A.3.13; guide: CWE[CodeableConcept], CWE[Quantity])."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from fhir_adapter.hl7v2.conversion import Resource
from fhir_adapter.hl7v2.datatypes import hd, st
from fhir_adapter.hl7v2.escape import Delimiters
from fhir_adapter.hl7v2.message import Element
from fhir_adapter.hl7v2.tables import CODE_SYSTEMS, TERMINOLOGY, UCUM

_HL7_TABLE: Final = re.compile(r"HL7-?(\d{4})")
_TRIPLETS: Final = ((1, 2, 3), (4, 5, 6), (10, 11, 12))
UNITS: Final = CODE_SYSTEMS["UCUM"]
_KEPT: Final = 2048
"""How many coded values and units are kept as they were read: a sender repeats its codes in every message."""


def code_system(name: str) -> str:
    """Return the URI of a coding system of table 0396, of a local one where HL7 names none; empty for no name."""
    if not name:
        return ""
    if uri := CODE_SYSTEMS.get(name):
        return uri
    if table := _HL7_TABLE.fullmatch(name):
        return f"{TERMINOLOGY}v2-{table[1]}"
    return hd.universal(name) or f"urn:ausculta:codesystem:{quote(name, safe='')}"


def concept(element: Element, *, system: str = "") -> Resource:
    """Return a CodeableConcept, empty when the element has neither code nor text.

    Parameters
    ----------
    element
        One repetition of the field.
    system
        URI of the table that the field itself prescribes, for codes that name none.
    """
    if not element:
        return {}
    codings, text = _concept(element.raw, element.delimiters, system)
    result: Resource = {}
    if codings:
        result["coding"] = [dict(coding) for coding in codings]
    if text:
        result["text"] = text
    return result


def codes(element: Element) -> frozenset[tuple[str, str]]:
    """Return system and code of each coding of :func:`concept`; without a system it is empty."""
    return _codes(element.raw, element.delimiters) if element else frozenset()


@lru_cache(maxsize=_KEPT)
def _codes(raw: str, delimiters: Delimiters) -> frozenset[tuple[str, str]]:
    return frozenset((it.get("system", ""), it["code"]) for it in _concept(raw, delimiters, "")[0])


@lru_cache(maxsize=_KEPT)
def _concept(raw: str, delimiters: Delimiters, system: str) -> tuple[Sequence[Mapping[str, Any]], str]:
    """Return the codings and the text of a CodeableConcept; nobody may change them."""
    element = Element(raw, delimiters)
    codings = tuple(coding for places in _TRIPLETS if (coding := _coding(element, places, system)))
    text = st.string(element.component(9)) or st.string(element.component(2)) or st.string(element.component(5))
    return codings, text


def _coding(element: Element, places: tuple[int, int, int], prescribed: str) -> Resource:
    code = st.line(element.component(places[0]))
    if not code:
        return {}
    system = code_system(st.line(element.component(places[2])))
    display = st.string(element.component(places[1]))
    coding: Resource = {"system": system or prescribed} if system or (prescribed and places[0] == 1) else {}
    coding["code"] = code
    if display:
        coding["display"] = display
    return coding


def unit(element: Element) -> Resource:
    """Return the unit of a Quantity: always the text that was sent, and the UCUM code where it is certain."""
    return dict(_unit(element.raw, element.delimiters)) if element else {}


@lru_cache(maxsize=_KEPT)
def _unit(raw: str, delimiters: Delimiters) -> Mapping[str, str]:
    element = Element(raw, delimiters)
    code, text = st.line(element.component(1)), st.line(element.component(2))
    if not (code or text):
        return {}
    result = {"unit": text or code}
    declared = CODE_SYSTEMS.get(element.component(3)) == UNITS
    if ucum := (code if declared else _ucum_code(code) or _ucum_code(text)):
        result |= {"system": UNITS, "code": ucum.replace(" ", "")}
    return result


def _ucum_code(spelling: str) -> str:
    return UCUM.get(spelling.lower().replace("\u00b5", "u").replace("\u03bc", "u"), "")
