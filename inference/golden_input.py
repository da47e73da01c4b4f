"""The ``input`` of a golden case, one reader for each kind; the key names the kind.

- ``facts``: each with ``at``, a time or seconds relative to the time of prediction, where it was not measured then;
  what is no observation has its ``kind`` and, where it has ended, ``until``. A time ``admitted`` may stand beside them
- ``pixels``: an image as base64 of unsigned bytes, 255 = 1.0, with ``rows``, ``columns``, ``modality`` and more
- ``voxels``: a volume as (slices, rows, columns) of numbers, with ``spacing`` in millimetres and ``modality``
- ``series``: ``features``, ``step_hours`` and ``values``, a row of numbers for each interval, null where not measured
- ``text``: with ``document_type`` and ``language`` where they are stated
- ``parts``: name -> an input of another kind, of the same subject and time
"""

import base64
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

import numpy as np

from inference.contract import (
    Admission,
    Fact,
    FactKind,
    FactsInput,
    ImageInput,
    ModelInput,
    PartInput,
    SeriesInput,
    StudyInput,
    Subject,
    TextInput,
    VolumeInput,
)
from kernel.errors import Category, Problem

_SOURCES: Final = ("golden",)
_Reader: TypeAlias = Callable[[Mapping[str, Any], Subject, datetime], PartInput]


def read_input(content: Mapping[str, Any]) -> ModelInput:
    """Read the ``input`` of a golden case.

    Raises
    ------
    Problem
        ``incorrect`` when it has the key of no kind.
    """
    about = content["subject"]
    born = about.get("birth_date")
    subject = Subject(
        reference=about["reference"],
        birth_date=date.fromisoformat(born) if born else None,
        sex=about.get("sex"),
        identifier=None,
    )
    at = datetime.fromisoformat(content["at"])
    if "parts" in content:
        parts = {name: _part(part, subject, at) for name, part in content["parts"].items()}
        return StudyInput(subject=subject, parts=parts, at=at)
    return _part(content, subject, at)


def _part(content: Mapping[str, Any], subject: Subject, at: datetime) -> PartInput:
    for key, read in _READERS.items():
        if key in content:
            return read(content, subject, at)
    raise Problem(Category.INCORRECT, f"the input of a golden case must have one of: {', '.join(_READERS)}, parts")


def _facts(content: Mapping[str, Any], subject: Subject, at: datetime) -> FactsInput:
    facts = tuple(_fact(number, fact, at) for number, fact in enumerate(content["facts"]))
    admission = None
    if "admitted" in content:
        admission = Admission(start=_time(content["admitted"], at), source="golden#admission")
    return FactsInput(subject=subject, facts=facts, at=at, admission=admission)


def _fact(number: int, content: Mapping[str, Any], at: datetime) -> Fact:
    measured = _time(content["at"], at) if "at" in content else at
    kind: FactKind = content.get("kind", "observation")
    if kind not in get_args(FactKind):
        raise Problem(Category.INCORRECT, f"the kind of a fact must be one of: {', '.join(get_args(FactKind))}")
    value = content["answer"] if "answer" in content else content.get("value")
    if value is None and kind == "observation":
        raise Problem(Category.INCORRECT, "a fact of a golden case must have a value or an answer")
    return Fact(
        system=content.get("system", "http://loinc.org"),
        code=content["code"],
        value=value if "answer" in content or value is None else Decimal(value),
        value_system=None,
        unit=content.get("unit"),
        effective=measured,
        issued=measured,
        source=f"golden#{number}",
        kind=kind,
        status=content.get("status", "confirmed" if kind == "condition" else "final"),
        until=_time(content["until"], at) if "until" in content else None,
    )


def _image(content: Mapping[str, Any], subject: Subject, at: datetime) -> ImageInput:
    levels = np.frombuffer(base64.b64decode(content["pixels"]), dtype=np.uint8).astype(np.float32)
    return ImageInput(
        subject=subject,
        pixels=levels.reshape(content["rows"], content["columns"]) / np.float32(255),
        modality=content["modality"],
        body_part=content["body_part"],
        view=content["view"],
        sources=_SOURCES,
        acquired_at=at,
        at=at,
    )


def _volume(content: Mapping[str, Any], subject: Subject, at: datetime) -> VolumeInput:
    between_slices, between_rows, between_columns = content["spacing"]
    return VolumeInput(
        subject=subject,
        voxels=np.array(content["voxels"], dtype=np.float32),
        spacing=(between_slices, between_rows, between_columns),
        orientation=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        origin=(0.0, 0.0, 0.0),
        modality=content["modality"],
        body_part=content.get("body_part", ""),
        sources=_SOURCES,
        acquired_at=at,
        at=at,
    )


def _series(content: Mapping[str, Any], subject: Subject, at: datetime) -> SeriesInput:
    declared = content["series"]
    values = np.array(declared["values"], dtype=np.float32)  # null becomes NaN
    step = timedelta(hours=declared["step_hours"])
    return SeriesInput(
        subject=subject,
        features=tuple(declared["features"]),
        grid=tuple(at - step * back for back in reversed(range(len(values)))),
        values=values,
        mask=~np.isnan(values),
        sources=_SOURCES,
        at=at,
    )


def _text(content: Mapping[str, Any], subject: Subject, at: datetime) -> TextInput:
    return TextInput(
        subject=subject,
        text=content["text"],
        document_type=content.get("document_type", ""),
        language=content.get("language", ""),
        sources=_SOURCES,
        authored_at=None,
        at=at,
    )


def _time(stated: str | float, at: datetime) -> datetime:
    """Return a time given in ISO 8601, or in seconds relative to ``at``."""
    return datetime.fromisoformat(stated) if isinstance(stated, str) else at + timedelta(seconds=stated)


_READERS: Final[Mapping[str, _Reader]] = MappingProxyType(
    {"facts": _facts, "pixels": _image, "voxels": _volume, "series": _series, "text": _text}
)
"""Key of a golden input -> what reads it."""
