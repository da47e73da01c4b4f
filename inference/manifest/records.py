"""The records that ``model.yaml`` is read into."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, TypeAlias

from inference.contract import InputKind, OutputKind
from kernel.errors import Category, Problem

TriggerKind: TypeAlias = Literal["codes", "schedule", "document", "study"]
EncounterEvent: TypeAlias = Literal["admission", "discharge"]


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """Which event makes the model run."""

    kind: TriggerKind
    #: Codes of Observations; for ``codes``.
    codes: tuple[str, ...] = ()
    #: Hours between two runs while a patient is admitted; for ``schedule``.
    cadence_hours: Decimal | None = None
    #: Changes of an Encounter; for ``schedule``.
    events: tuple[EncounterEvent, ...] = ()
    #: Codes of document types, empty for all; for ``document``.
    document_types: tuple[str, ...] = ()
    #: Seconds from the first value to the run, in which further values arrive; for ``codes``. A site may set others.
    settle_seconds: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rules that choose the data of one input; an empty rule accepts everything.

    The order of modalities and views is the order of preference. An image that states no view is accepted, after
    those that state one; one that states no body part is accepted unless the body part is required.
    """

    modalities: tuple[str, ...] = ()
    #: UIDs of the storage classes (SOP classes) of the images.
    sop_classes: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    #: Whether an image of which nothing says that it shows one of ``body_parts`` is declined.
    body_part_required: bool = False
    views: tuple[str, ...] = ()
    #: Must be found in SeriesDescription, upper or lower case.
    series_description: re.Pattern[str] | None = None
    #: Least and greatest slice thickness, inclusive.
    slice_thickness_mm: tuple[Decimal, Decimal] | None = None
    #: Least number of slices of a volume.
    min_slices: int = 1
    #: Least rows and columns of an image.
    min_side: int = 1
    #: Least standard deviation of an image's pixels.
    min_contrast: float = 0.0
    #: Codes of document types.
    document_types: tuple[str, ...] = ()
    #: Length and step of a time series' grid.
    hours: Decimal | None = None
    step_hours: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One declared input."""

    name: str
    kind: InputKind
    selection: Selection
    #: What an input of kind ``study`` is made of.
    parts: tuple["InputSpec", ...] = ()

    @property
    def modalities(self) -> frozenset[str]:
        """Every modality that this input or one of its parts is selected from."""
        return frozenset(self.selection.modalities).union(*(part.modalities for part in self.parts))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Outside these the model declines."""

    #: Completed years of age; a patient whose age is unknown is declined too.
    min_age_years: int | None
    #: The same, upwards: 5 includes children until the day before they become 6.
    max_age_years: int | None = None
    #: Hours between the oldest and the newest value that are used together; ``None`` is without limit.
    spread_hours: Decimal | None = None
    #: Features that may have no usable value; ``None``: half of those whose policy lets them do without.
    max_without_value: int | None = None
    #: Share of the measured features, 0 to 1, in whose place a default or a fill may stand.
    imputed_at_most: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Band:
    """A class of an output's value."""

    name: str
    #: Lower bound of the value, inclusive; ``None`` where the model's own rule decides.
    at_least: Decimal | None


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One declared output, in codes."""

    name: str
    system: str
    code: str
    display: str
    kind: OutputKind
    unit: str | None
    #: True: risk of a future event. False: a finding that is present now.
    future: bool
    #: From low to high; the classes of a class set.
    bands: tuple[Band, ...]

    def band(self, value: float) -> str:
        """Return the name of the highest band that ``value`` reaches.

        Raises
        ------
        Problem
            ``fault`` when it reaches none.
        """
        reached = [band.name for band in self.bands if band.at_least is not None and value >= band.at_least]
        if not reached:
            raise Problem(Category.FAULT, f"the value of {self.name} is in no declared band")
        return reached[-1]


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """What may change without a new approval, and what a change must first show (FDA PCCP guidance, 2024)."""

    allowed: tuple[str, ...]
    acceptance: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A model's ``model.yaml``."""

    name: str
    version: str
    title: str
    intended_use: str
    owner: str
    demonstration: bool
    #: Who may act on its results.
    users: tuple[str, ...]
    trigger: Trigger
    #: The declared input; several inputs of one examination are the parts of an input of kind ``study``.
    input: InputSpec
    #: A key of :data:`inference.runners.RUNNERS`.
    runner: str
    outputs: tuple[OutputSpec, ...]
    limits: Limits
    #: What a reader of the card must know, one sentence each.
    warnings: tuple[str, ...]
    change_plan: ChangePlan
    #: What else ``runner`` declares; its runner says what that means.
    runner_options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
