"""Checks the limits of the manifest before the model runs; outside of them the model declines."""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Final

from inference.contract import ImageInput, InputKind, ModelInput, StudyInput, VolumeInput, kind_of
from inference.features.patient_age import age_of, known_only_as
from inference.manifest import InputSpec, Limits, Manifest, Selection
from inference.runners.base import Declined

_NOUNS: Final[Mapping[InputKind, str]] = MappingProxyType(
    {
        "facts": "facts",
        "series": "a time series",
        "image": "an image",
        "volume": "a volume",
        "text": "a text",
        "study": "a study",
    }
)


def check_limits(manifest: Manifest, model_input: ModelInput) -> None:
    """Return when the manifest allows this input.

    Parameters
    ----------
    manifest
        What the model declares.
    model_input
        The input.

    Raises
    ------
    Declined
        With the first reason why it does not.
    """
    if kind_of(model_input) != manifest.input.kind:
        raise Declined(f"the model reads {_NOUNS[manifest.input.kind]}, not {_NOUNS[kind_of(model_input)]}")
    _check_age(manifest.limits, model_input)
    _check_input(manifest.input, model_input)


def _check_age(limits: Limits, model_input: ModelInput) -> None:
    """Decline a patient who is too young, too old, or of unknown age; an image counts by the day it was taken.

    A year or a month of birth is enough where every age that it allows lies on one side of the limits.
    """
    low, high = limits.min_age_years, limits.max_age_years
    if low is None and high is None:
        return
    too_young = f"the model is not for patients under {_years(low)}" if low is not None else ""
    too_old = f"the model is not for patients over {_years(high)}" if high is not None else ""
    if age_of(model_input.subject, model_input.at.date()) is None:
        reason = f"date of birth is not known and {too_young or too_old}"
        raise Declined(reason, missing=("date of birth",))
    days = _days_of(model_input)
    if not days:
        reason = f"the day on which the image was taken is not known and {too_young or too_old}"
        raise Declined(reason, missing=("date of the image",))
    ages = [age for day in days if (age := age_of(model_input.subject, day)) is not None]
    if low is not None and any(age.oldest < low for age in ages):
        raise Declined(too_young, out_of_scope=True)
    if high is not None and any(age.youngest > high for age in ages):
        raise Declined(too_old, out_of_scope=True)
    unsure = too_young if low is not None and any(age.youngest < low for age in ages) else ""
    unsure = unsure or (too_old if high is not None and any(age.oldest > high for age in ages) else "")
    if unsure:
        raise Declined(f"{known_only_as(model_input.subject)} and {unsure}", missing=("date of birth",))


def _years(number: int) -> str:
    return f"{number} year" if number == 1 else f"{number} years"


def _days_of(model_input: ModelInput) -> tuple[date, ...]:
    """Return the days by which the age counts: of images when they were taken, none when that is not known of all."""
    parts = tuple(model_input.parts.values()) if isinstance(model_input, StudyInput) else (model_input,)
    images = [part for part in parts if isinstance(part, ImageInput | VolumeInput)]
    if not images:
        return (model_input.at.date(),)
    days = {part.acquired_at.date() for part in images if part.acquired_at is not None}
    return tuple(sorted(days)) if all(part.acquired_at for part in images) else ()


def _check_input(spec: InputSpec, model_input: ModelInput) -> None:
    if isinstance(model_input, StudyInput):
        missing = tuple(part.name for part in spec.parts if part.name not in model_input.parts)
        if missing:
            raise Declined(f"missing {', '.join(missing)}", missing=missing)
        for part in spec.parts:
            _check_part(part, model_input)
    elif isinstance(model_input, ImageInput):
        _check_scope(spec.selection, model_input)
        _check_quality(spec.selection, model_input)
    elif isinstance(model_input, VolumeInput):
        _check_scope(spec.selection, model_input)
        _check_slices(spec.selection, model_input)


def _check_part(spec: InputSpec, study: StudyInput) -> None:
    part = study.parts[spec.name]
    if kind_of(part) != spec.kind:
        raise Declined(f"the model reads {_NOUNS[spec.kind]} as {spec.name}, not {_NOUNS[kind_of(part)]}")
    _check_input(spec, part)


def _check_scope(selection: Selection, model_input: ImageInput | VolumeInput) -> None:
    if model_input.modality not in selection.modalities:
        modalities = _either(tuple(sorted(selection.modalities)))
        raise Declined(f"the model reads modality {modalities} only", out_of_scope=True)
    if model_input.body_part and selection.body_parts and model_input.body_part.upper() not in selection.body_parts:
        raise Declined(f"the model reads body part {_either(selection.body_parts)} only", out_of_scope=True)
    if not model_input.body_part and selection.body_part_required:
        raise Declined(f"nothing says that the image shows body part {_either(selection.body_parts)}")
    view = model_input.view.upper() if isinstance(model_input, ImageInput) else ""
    if view and selection.views and view not in selection.views:
        raise Declined(f"the model reads view {_either(selection.views)} only", out_of_scope=True)


def _check_quality(selection: Selection, image: ImageInput) -> None:
    if min(image.pixels.shape) < selection.min_side:
        raise Declined(f"the image is smaller than {selection.min_side} x {selection.min_side} pixels")
    spread = float(image.pixels.std())
    if not spread >= selection.min_contrast:  # also when it is not a number
        raise Declined("the image is nearly uniform: nothing can be seen on it")


def _check_slices(selection: Selection, volume: VolumeInput) -> None:
    if len(volume.voxels) < selection.min_slices:
        raise Declined(f"the volume has fewer than {selection.min_slices} slices")


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words)
