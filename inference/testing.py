"""Synthetic patients, images and models for tests; they fulfil the same contracts as the real ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.contract import (
    Artefact,
    ClassSet,
    Fact,
    FactsInput,
    ImageInput,
    InputUsed,
    Interval,
    MaskReference,
    ModelInput,
    Output,
    OutputDetail,
    OutputKind,
    Span,
    Spans,
    Subject,
    TimeSeries,
    notice,
)
from inference.folder import ModelFolder
from inference.manifest import Band, OutputSpec, parse_manifest
from inference.outputs import make_output
from inference.runners.base import Answer, Declined, Decoded, Runner
from inference.synthetic_chest import draw_chest

NOW: Final = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
ADULT: Final = Subject(reference="Patient/adult", birth_date=date(1960, 5, 1), sex="female", identifier=None)
CHILD: Final = Subject(reference="Patient/child", birth_date=date(2022, 5, 1), sex="female", identifier=None)

Measured = tuple[str, str | None]
"""(value, unit); an answer has no unit."""

WELL: Final[Mapping[str, Measured]] = MappingProxyType(
    {
        "9279-1": ("16", "/min"),
        "59408-5": ("97", "%"),
        "3151-8": ("0", "L/min"),
        "8480-6": ("120", "mm[Hg]"),
        "8867-4": ("70", "/min"),
        "67775-7": ("LA9340-6", None),
        "8310-5": ("37.0", "Cel"),
    }
)
"""LOINC code -> a value with zero points in NEWS2."""


def fact(code: str, value: str, unit: str | None, *, hours_ago: float = 1.0, known_h: float = 0.0) -> Fact:
    """Make a fact that was true ``hours_ago`` and issued ``known_h`` hours later.

    Parameters
    ----------
    code
        LOINC code.
    value
        A decimal number, or else the code of an answer.
    unit
        Unit of the number; None for an answer.
    hours_ago
        Hours before :data:`NOW` at which it was true.
    known_h
        Hours from then until it was issued to the server.
    """
    effective = NOW - timedelta(hours=hours_ago)
    try:
        number: Decimal | str = Decimal(value)
    except InvalidOperation:
        number = value
    return Fact(
        system="http://loinc.org",
        code=code,
        value=number,
        value_system=None,
        unit=unit,
        effective=effective,
        issued=effective + timedelta(hours=known_h),
        source=f"Observation/{code}-{hours_ago:g}/_history/1",
    )


def vitals(*more: Fact, subject: Subject = ADULT, **changes: Measured | None) -> FactsInput:
    """Make the facts of a patient who is well.

    Parameters
    ----------
    *more
        Further facts.
    subject
        The patient.
    **changes
        Other values by LOINC code (``_`` for ``-`` and in front: ``_8867_4``); ``None`` leaves one out.
    """
    chosen: dict[str, Measured | None] = dict(WELL)
    chosen |= {name.strip("_").replace("_", "-"): value for name, value in changes.items()}
    facts = tuple(fact(code, *value) for code, value in chosen.items() if value is not None)
    return FactsInput(subject=subject, facts=facts + more, at=NOW)


def radiograph(rows: int = 120, columns: int = 100, **changes: Any) -> ImageInput:
    """Make an image of a child's chest: dark lungs, bright spine, heart and upper abdomen.

    Parameters
    ----------
    rows, columns
        Size of the image, in pixels.
    **changes
        Other values of the fields of :class:`~inference.contract.ImageInput`.
    """
    fields: dict[str, Any] = {
        "subject": CHILD,
        "pixels": draw_chest(rows, columns, seed=1).astype(np.float32),
        "modality": "DX",
        "body_part": "CHEST",
        "view": "PA",
        "sources": ("urn:oid:1.2.3#ab",),
        "acquired_at": NOW,
        "at": NOW,
    }
    return ImageInput(**fields | changes)


def toy_folder(name: str = "toy", version: str = "1.0.0", **changes: Any) -> ModelFolder:
    """Make an opened folder without files, of a model that reads facts and gives one score.

    Parameters
    ----------
    name, version
        The model, as in its manifest.
    **changes
        Other values of the keys of ``model.yaml``.
    """
    band = {"name": "low"}
    output = {"name": "sum", "system": "urn:toy", "code": "sum", "display": "Sum", "kind": "score", "future": True}
    declared = {
        "name": name,
        "version": version,
        "title": "A toy",
        "intended_use": "Tests",
        "owner": "Tests",
        "demonstration": True,
        "users": ["tests"],
        "trigger": {"kind": "codes", "codes": ["8867-4"]},
        "inputs": [{"name": "facts", "kind": "facts"}],
        "runner": "score",
        "outputs": [output | {"bands": [band]}],
        "limits": {},
        "change_plan": {"acceptance": ["none"]},
    }
    manifest = parse_manifest(declared | changes)
    return ModelFolder(
        path=Path(name),
        digest="0" * 64,
        manifest=manifest,
        features=(),
        card="A toy.",
        declaration=json.dumps({"model": declared | changes, "features": None, "card": "A toy."}),
        package=None,
    )


def heat_map(values: NDArray[np.float32]) -> Artefact:
    """Make the artefact of a heat map from an array (rows, columns) in [0, 1]."""
    return Artefact(name="heat-map", kind="heat-map", values=values, geometry="pixels of the input image")


def output_of_each_kind(*, future: bool = False) -> Mapping[OutputKind, Output]:
    """Return one output of each kind, as a model would make it.

    Parameters
    ----------
    future
        Whether the outputs are about a future event.
    """
    hours = [NOW + timedelta(hours=number) for number in range(3)]
    given: dict[OutputKind, tuple[float | None, OutputDetail | None, str | None, str | None]] = {
        "score": (7.0, None, "{score}", None),
        "probability": (0.873, None, None, None),
        "category": (None, None, None, "high"),
        "class-set": (None, ClassSet(probabilities=(("low", 0.2), ("high", 0.71), ("other", 0.09))), None, None),
        "interval": (12.3, Interval(low=8.1, high=19.0, coverage=0.9), "h", None),
        "time-series": (None, TimeSeries(times=tuple(hours), values=(0.5, 0.77, 0.42)), "mg/dL", None),
        "mask": (0.124, MaskReference(artefact="lesion"), None, None),
        "spans": (
            None,
            Spans(spans=(Span(start=0, end=4, label="drug"), Span(start=9, end=12, label="dose"))),
            None,
            None,
        ),
    }
    bands = (Band(name="low", at_least=Decimal(0)), Band(name="high", at_least=Decimal("0.1")))
    return {
        kind: make_output(
            OutputSpec(
                name=kind,
                system="urn:toy",
                code=f"toy-{kind}",
                display=f"Toy {kind}",
                kind=kind,
                unit=unit,
                future=future,
                bands=(*bands, Band(name="other", at_least=None)),
            ),
            value,
            detail=detail,
            band=band,
            notice=notice(demonstration=True),
        )
        for kind, (value, detail, unit, band) in given.items()
    }


def mask(values: NDArray[np.uint8], name: str = "lesion") -> Artefact:
    """Make the artefact of a mask.

    Parameters
    ----------
    values
        (rows, columns) or (slices, rows, columns), numbers of segments.
    name
        Its name.
    """
    return Artefact(name=name, kind="mask", values=values, geometry="pixels of the input image")


class ToyRunner(Runner[float, Sequence[float], float]):
    """A model that computes any function of a list of numbers: each patient's pulse.

    Parameters
    ----------
    think
        Numbers -> one number each; raise what a broken model would raise.
    model
        The folder that it states as its own.
    """

    def __init__(self, think: Callable[[Sequence[float]], Sequence[float]], model: ModelFolder | None = None) -> None:
        super().__init__(model or toy_folder())
        self.think = think

    def setup(self, device: str) -> None:
        """Do nothing."""

    def decode(self, model_input: ModelInput) -> Decoded[float]:
        """Take the pulse; decline without one."""
        pulses = (
            [fact for fact in model_input.facts if fact.code == "8867-4"] if isinstance(model_input, FactsInput) else []
        )
        if not pulses:
            raise Declined("missing pulse", missing=("pulse",))
        pulse = pulses[-1]
        used = InputUsed(name="pulse", value=pulse.value, unit="/min", effective=pulse.effective, source=pulse.source)
        return Decoded(item=float(pulse.value or 0), inputs=(used,), shape=())

    def batch(self, items: Sequence[float]) -> Sequence[float]:
        """Return the numbers."""
        return items

    def predict(self, batch: Sequence[float]) -> Sequence[float]:
        """Apply the function."""
        return self.think(batch)

    def encode(self, item: float, raw: float) -> Answer:  # noqa: ARG002 - a toy needs no item
        """Return the number.

        Parameters
        ----------
        item
            The pulse; not used.
        raw
            The number that the function returned for it.
        """
        (spec,) = self.model.manifest.outputs
        return Answer(outputs=(make_output(spec, raw, band="low", text="", notice=self.opening()),))
