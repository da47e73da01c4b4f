"""The header of an image, as one that can be written again: in Unicode, without values that break their own rules.

Our objects repeat the patient and the study of the image that they rest on. An image may name them in any character set
of PS3.3 section C.12.1.1.2, code extensions included, and may hold values that its VR does not allow. Neither is a
reason to say nothing: text is written in ``ISO_IR 192``, and a value that cannot be read is left empty.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, DT, TM

from dicom_node.character_sets import is_undeclared, plain, undeclared

CHARACTER_SET: Final = "ISO_IR 192"
"""UTF-8: the character set of everything that this server writes."""

NAMES: Final = ("PatientName", "ReferringPhysicianName")

_SEXES: Final = frozenset({"M", "F", "O"})
_TIMES: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType({"DA": DA, "DT": DT, "TM": TM})
_Decoded: TypeAlias = Callable[[str], str]
"""Corrects a text that the library has decoded without knowing its character set."""

_BYTES: Final = frozenset({"OB", "OB or OW", "OD", "OF", "OL", "OV", "OW", "UN"})


def readable(dataset: Dataset) -> Dataset:
    """Return the standard attributes of a dataset that can be read, its text in :data:`CHARACTER_SET`."""
    return _readable(dataset, undeclared if is_undeclared(dataset) else str)


def _readable(dataset: Dataset, decoded: _Decoded) -> Dataset:
    clean = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset reads its elements
        if tag.is_private:
            continue
        try:
            element = _clean(dataset[tag], decoded)
        except Exception:  # noqa: BLE001, S112 - the library raises whatever a malformed value meets
            continue
        if element is not None:
            clean.add(element)
    clean.SpecificCharacterSet = CHARACTER_SET
    return clean


def nameless(dataset: Dataset) -> Dataset:
    """Return a copy without names of persons, which the library quotes in warnings when it finds them unusual."""
    copied = Dataset()
    copied.update(dataset)
    for keyword in NAMES:
        copied[keyword] = DataElement(keyword, "PN", "")
    return copied


def _clean(element: DataElement, decoded: _Decoded) -> DataElement | None:
    """Return an element that can be written, empty where its value breaks the rules; None for bytes."""
    VR, value = element.VR, element.value
    if VR in _BYTES:
        return None
    if VR == "SQ":
        return DataElement(element.tag, VR, [_item(item, decoded) for item in value])
    if VR == "PN":
        return DataElement(element.tag, VR, _names(value, decoded, several=element.keyword.startswith("Other")))
    if VR in _TIMES and not isinstance(value, MultiValue):
        return DataElement(element.tag, VR, _time(VR, value))
    if element.keyword == "PatientSex":
        return DataElement(element.tag, VR, value if value in _SEXES else "")
    return DataElement(element.tag, VR, plain(decoded(value)) if isinstance(value, str) else value)


def _item(item: Dataset, decoded: _Decoded) -> Dataset:
    clean = _readable(item, decoded)
    del clean.SpecificCharacterSet  # that of the whole holds
    return clean


def _names(value: Any, decoded: _Decoded, *, several: bool) -> str | list[str]:
    """Return a name; a backslash in one that may stand alone only is read as a space."""
    names = [plain(decoded(str(name))) for name in (value if isinstance(value, MultiValue) else [value or ""])]
    return names if several else " ".join(names)


def _time(VR: str, value: Any) -> str:
    try:
        _TIMES[VR](value)
    except (TypeError, ValueError):
        return ""
    return str(value or "")
