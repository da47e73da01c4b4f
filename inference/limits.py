"""What a model may not be used on: checked from its manifest before it is run, so that it declines, not guesses."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from inference.contract import ImageInput, InputKind, ModelInput, StudyInput, VolumeInput, kind_of
from inference.features.extract import age_in_years
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


def check_limits(manifest: Manifest, given: ModelInput) -> None:
    """Return when the manifest allows this input.

    Parameters
    ----------
    manifest
        What the model declares.
    given
        The input.

    Raises
    ------
    Declined
        With the first reason why it does not.
    """
    if kind_of(given) != manifest.input.kind:
        raise Declined(f"the model reads {_NOUNS[manifest.input.kind]}, not {_NOUNS[kind_of(given)]}")
    _check_age(manifest.limits, given)
    _check_input(manifest.input, given)


def _check_age(limits: Limits, given: ModelInput) -> None:
    if limits.min_age_years is None:
        return
    if given.subject.birth_date is None:
        raise Declined(
            f"date of birth is not known and the model is not for patients under {limits.min_age_years} years",
            missing=("date of birth",),
        )
    if age_in_years(given.subject.birth_date, given.at.date()) < limits.min_age_years:
        raise Declined(f"the model is not for patients under {limits.min_age_years} years")


def _check_input(spec: InputSpec, given: ModelInput) -> None:
    if isinstance(given, StudyInput):
        missing = tuple(part.name for part in spec.parts if part.name not in given.parts)
        if missing:
            raise Declined(f"missing {', '.join(missing)}", missing=missing)
        for part in spec.parts:
            _check_part(part, given)
    elif isinstance(given, ImageInput):
        _check_scope(spec.selection, given)
        _check_quality(spec.selection, given)
    elif isinstance(given, VolumeInput):
        _check_scope(spec.selection, given)
        _check_slices(spec.selection, given)


def _check_part(spec: InputSpec, study: StudyInput) -> None:
    part = study.parts[spec.name]
    if kind_of(part) != spec.kind:
        raise Declined(f"the model reads {_NOUNS[spec.kind]} as {spec.name}, not {_NOUNS[kind_of(part)]}")
    _check_input(spec, part)


def _check_scope(selection: Selection, given: ImageInput | VolumeInput) -> None:
    if given.modality not in selection.modalities:
        raise Declined(f"the model reads modality {_either(tuple(sorted(selection.modalities)))} only")
    if given.body_part and selection.body_parts and given.body_part.upper() not in selection.body_parts:
        raise Declined(f"the model reads body part {_either(selection.body_parts)} only")
    view = given.view.upper() if isinstance(given, ImageInput) else ""
    if view and selection.views and view not in selection.views:
        raise Declined(f"the model reads view {_either(selection.views)} only")


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
