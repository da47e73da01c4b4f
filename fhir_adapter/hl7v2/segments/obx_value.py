"""OBX-5, read by the type that OBX-2 names, to ``Observation.value[x]`` (guide: OBX[Observation], rows of OBX-5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import cwe, dtm, nm, sn, st
from fhir_adapter.hl7v2.message import Element, Segment


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One repetition of OBX-5 with its unit and position."""

    element: Element
    unit: Resource
    state: ConversionState
    where: str

    def as_text(self, why: str) -> Resource:
        """Return the value as text, and record why."""
        self.state.note(f"{self.where}-5: {why}; kept as text")
        return _string(self)


_Reader: TypeAlias = Callable[[_Cell], Resource]


def values(state: ConversionState, obx: Segment, where: str) -> list[Resource]:
    """Return one ``value[x]`` for each repetition of OBX-5; the lines of a text are one value.

    Parameters
    ----------
    state
        The state of the conversion.
    obx
        The segment.
    where
        Name of the segment in notes.
    """
    elements = obx.repetitions(5)
    kind = obx.get(2)
    if not elements:
        return []
    if kind in _NOT_CARRIED:
        state.note(f"{where}-5: {kind} is not mapped; the message itself keeps it")
        return []
    if kind in _TEXTS:
        text = "\n".join(line for element in elements if (line := st.string(element.text)))
        return [{"valueString": text}] if text else []
    unit = cwe.unit(obx.field(6))
    cells = [_Cell(element=element, unit=unit, state=state, where=where) for element in elements]
    read = READERS.get(kind, _other)
    return [value for cell in cells if (value := read(cell))]


def _number(cell: _Cell) -> Resource:
    number = nm.number(cell.element.text)
    if number is None:
        return cell.as_text("NM is not a number")
    return {"valueQuantity": {"value": number} | cell.unit}


def _structured(cell: _Cell) -> Resource:
    return sn.value(cell.element, cell.unit)


def _range(cell: _Cell) -> Resource:
    low, high = nm.number(cell.element.component(1)), nm.number(cell.element.component(2))
    bounds = {name: {"value": bound} | cell.unit for name, bound in (("low", low), ("high", high)) if bound is not None}
    is_range = bool(bounds) and (low is None or high is None or low <= high)
    return {"valueRange": bounds} if is_range else cell.as_text("NR is not a range")


def _coded(cell: _Cell) -> Resource:
    concept = cwe.concept(cell.element)
    return {"valueCodeableConcept": concept} if concept else cell.as_text("no code and no text")


def _moment(cell: _Cell) -> Resource:
    text = cell.element.component(1)
    found = dtm.date_time(text, cell.state.zone)
    if found is None:
        return cell.as_text("not a date or time of HL7 v2")
    if dtm.lost_time(text, found):
        cell.state.note(f"{cell.where}-5: kept as a date; no time zone is known for this sender")
    return {"valueDateTime": found}


def _time(cell: _Cell) -> Resource:
    found = dtm.time(cell.element.component(1))
    return {"valueTime": found} if found else cell.as_text("TM is not a time")


def _other(cell: _Cell) -> Resource:
    return cell.as_text("OBX-2 names no type that is mapped")


def _string(cell: _Cell) -> Resource:
    text = st.string(cell.element.text)
    return {"valueString": text} if text else {}


_NOT_CARRIED: Final = frozenset({"ED", "RP"})
"""Documents: R4's Observation has no data type for them."""

_TEXTS: Final = frozenset({"ST", "TX", "FT"})

READERS: Final[Mapping[str, _Reader]] = MappingProxyType(
    {
        "NM": _number,
        "SN": _structured,
        "NR": _range,
        "CE": _coded,
        "CWE": _coded,
        "CNE": _coded,
        "CF": _coded,
        "IS": _coded,
        "ID": _coded,
        "DT": _moment,
        "DTM": _moment,
        "TS": _moment,
        "TM": _time,
    }
)
"""OBX-2 to the function that converts OBX-5; text and documents are not in this table."""
