"""What a model may not be used on: checked from its manifest before it is asked, so that it declines, not guesses."""

from inference.contract import ImageInput, ModelInput, TabularInput
from inference.features.extract import age_in_years
from inference.manifest import Limits, Manifest, Trigger
from inference.runners.base import Declined


def check_limits(manifest: Manifest, given: ModelInput) -> None:
    """Return when the manifest allows this input.

    Raises
    ------
    Declined
        With the first reason why it does not.
    """
    if manifest.trigger.kind == "facts" and not isinstance(given, TabularInput):
        raise Declined("the model reads facts, not an image")
    if manifest.trigger.kind == "image" and not isinstance(given, ImageInput):
        raise Declined("the model reads an image, not facts")
    _check_age(manifest.limits, given)
    if isinstance(given, ImageInput):
        _check_scope(manifest.trigger, manifest.limits, given)
        _check_quality(manifest.limits, given)


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


def _check_scope(trigger: Trigger, limits: Limits, image: ImageInput) -> None:
    if image.modality not in trigger.modalities:
        raise Declined(f"the model reads modality {_either(trigger.modalities)} only")
    if image.body_part and image.body_part.upper() not in trigger.body_parts:
        raise Declined(f"the model reads body part {_either(trigger.body_parts)} only")
    if image.view and limits.views and image.view.upper() not in limits.views:
        raise Declined(f"the model reads view {_either(limits.views)} only")


def _check_quality(limits: Limits, image: ImageInput) -> None:
    if min(image.pixels.shape) < limits.min_side:
        raise Declined(f"the image is smaller than {limits.min_side} x {limits.min_side} pixels")
    spread = float(image.pixels.std())
    if not spread >= limits.min_contrast:  # also when it is not a number
        raise Declined("the image is nearly uniform: nothing can be seen on it")


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words)
