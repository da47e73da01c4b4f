"""Selects the image or series of a study for a model: the manifest's rules, applied to the study's description."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from dicom_node.header_words import FRONTAL, is_lateral, other_part
from dicom_node.study import Instance, Series, Study
from inference.manifest import InputSpec, Selection


@dataclass(frozen=True, kw_only=True)
class NothingFits:
    """Why a study holds nothing for an input; completes "AI result not available: ..."."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class SelectedImage:
    """The instance that holds the image."""

    instance: Instance
    #: How many images fit, this one included.
    fitting: int = 1


@dataclass(frozen=True, kw_only=True)
class SelectedVolume:
    """The series whose instances are the slices."""

    series: Series
    #: How many series fit, this one included.
    fitting: int = 1


Selected: TypeAlias = SelectedImage | SelectedVolume | NothingFits


def select_input(study: Study, spec: InputSpec) -> Selected:
    """Apply an input's selection rules to a study.

    Parameters
    ----------
    study
        The study's description.
    spec
        An input that the manifest declares.

    Returns
    -------
    Selected
        The same study always yields the same choice; the order of arrival counts only where nothing else differs.
    """
    selector = SELECTORS.get(spec.kind)
    if selector is None:
        return NothingFits(reason=f"input of kind {spec.kind} cannot be read from an imaging study")
    return selector(study, spec.selection)


def left_out(study: Study) -> str:
    """Say how many instances of a study cannot be read; empty when all can."""
    count = study.unreadable
    return "" if not count else f"{count} instance{'s' * (count > 1)} of the study cannot be read"


def select_image(study: Study, rules: Selection) -> SelectedImage | NothingFits:
    """Choose one image: of those that fit, the newest.

    The time at which they were taken decides. Of those that were taken in the same second, or when none states a time,
    originals come before derived images, then the order of the rules' modalities and views (an unstated view last)
    counts, then the highest SeriesNumber and InstanceNumber, then the last to arrive.

    Parameters
    ----------
    study
        The study's description.
    rules
        What the manifest declares.
    """
    series = _fitting(study, rules)
    if isinstance(series, NothingFits):
        return series
    images = [(parent, image) for parent in series for image in parent.instances if image.Rows and image.Columns]
    if not images:
        return NothingFits(reason="the study holds no instance with pixels")
    views = (*rules.views, "") if rules.views else ()
    stated = [pair for pair in images if not views or pair[1].ViewPosition in views]
    if not stated:
        return NothingFits(reason=f"the study holds no image with view {' or '.join(rules.views)}")
    only_frontal = bool(rules.views) and FRONTAL.issuperset(rules.views)
    fitting = [pair for pair in stated if not (only_frontal and is_lateral(pair[1]))]
    if not fitting:
        views_wanted = " or ".join(rules.views)
        return NothingFits(reason=f"the study holds no image with view {views_wanted}: the header says lateral")

    def preference(pair: tuple[Series, Instance]) -> tuple[float, bool, int, int, _Late, str]:
        parent, image = pair
        view = views.index(image.ViewPosition) if views else 0
        modality = rules.modalities.index(parent.Modality)
        return -_second(image), "DERIVED" in image.ImageType, modality, view, _late(image), image.SOPInstanceUID

    return SelectedImage(instance=min(fitting, key=preference)[1], fitting=len(fitting))


def select_volume(study: Study, rules: Selection) -> SelectedVolume | NothingFits:
    """Choose one series of slices.

    The order of the rules' modalities comes first, then the greatest number of slices, then the newest.

    Parameters
    ----------
    study
        The study's description.
    rules
        What the manifest declares.
    """
    series = _fitting(study, rules, whole=True)
    if isinstance(series, NothingFits):
        return series
    if rules.slice_thickness_mm is not None:
        low, high = rules.slice_thickness_mm
        series = [
            candidate for candidate in series if all(low <= _thickness(image) <= high for image in candidate.instances)
        ]
        if not series:
            return NothingFits(reason=f"the study holds no series with slices of {low} to {high} mm")
    stacks = [candidate for candidate in series if len(candidate.instances) >= rules.min_slices]
    if not stacks:
        return NothingFits(reason=f"the study holds no series of at least {rules.min_slices} slices")

    def preference(candidate: Series) -> tuple[int, int, float, _Late, str]:
        modality, newest = rules.modalities.index(candidate.Modality), max(map(_second, candidate.instances))
        late = min(map(_late, candidate.instances))
        return modality, -len(candidate.instances), -newest, late, candidate.SeriesInstanceUID

    return SelectedVolume(series=min(stacks, key=preference), fitting=len(stacks))


_Late: TypeAlias = tuple[int, int, int]
"""Orders what was taken at the same time, the last first."""


def _late(image: Instance) -> _Late:
    series, number = image.numbers
    return -series, -number, -image.arrival


def _second(image: Instance) -> float:
    """Return when an image was taken, to the second; one that does not say so counts as the oldest."""
    return -math.inf if image.acquired_at is None else image.acquired_at.timestamp() // 1


def chosen_of_several(selected: Selected) -> str:
    """Say which of several images or series that fit was read; empty when there is one, or none."""
    if isinstance(selected, NothingFits) or selected.fitting == 1:
        return ""
    if isinstance(selected, SelectedImage):
        what, times = "images", [selected.instance.acquired_at]
    else:
        what, times = "series", [image.acquired_at for image in selected.series.instances]
    newest = max((time for time in times if time is not None), default=None)
    which = "the last by their numbers" if newest is None else f"the one acquired on {newest:%Y-%m-%d at %H:%M}"
    return f"{selected.fitting} {what} fit; {which} was read"


SELECTORS: Final[Mapping[str, Callable[[Study, Selection], Selected]]] = MappingProxyType(
    {"image": select_image, "volume": select_volume}
)
"""Kind of an input -> its selector."""


def _fitting(study: Study, rules: Selection, *, whole: bool = False) -> Sequence[Series] | NothingFits:
    """Return what fits the rules on modality, class, body part and description: of each series all, or its part."""
    present = study.set_aside().series
    if not present and study.series:
        return NothingFits(reason=left_out(study))
    series = [one for one in present if one.Modality in rules.modalities]
    if not series:
        return NothingFits(reason=f"the study holds no image of modality {' or '.join(rules.modalities)}")
    if rules.sop_classes:
        series = _with(series, lambda image: image.SOPClassUID in rules.sop_classes, whole=whole)
    if not series:
        return NothingFits(reason="the study holds no image of a storage class that the model reads")
    if rules.body_parts:
        refused = [reason for one in series for image in one.instances if (reason := _other_part(image, rules))]
        series = _with(series, lambda image: not _other_part(image, rules), whole=whole)
        if not series:
            wanted = " or ".join(rules.body_parts)
            return NothingFits(reason=f"no image of the study shows body part {wanted}: {refused[0]}")
    if rules.series_description is not None:
        series = [one for one in series if rules.series_description.search(one.SeriesDescription)]
    if not series:
        return NothingFits(reason="no series of the study has the description that the model needs")
    return series


def _with(series: Sequence[Series], fits: Callable[[Instance], bool], *, whole: bool) -> list[Series]:
    """Return the series with those of their instances that fit; of a whole series, either all fit or none."""
    kept = [replace(one, instances=tuple(filter(fits, one.instances))) for one in series]
    return [
        after for before, after in zip(series, kept, strict=True) if after.instances and (not whole or after == before)
    ]


def _other_part(image: Instance, rules: Selection) -> str:
    return other_part(image, rules.body_parts, required=rules.body_part_required)


def _thickness(one: Instance) -> float:
    return -1.0 if one.SliceThickness is None else one.SliceThickness
