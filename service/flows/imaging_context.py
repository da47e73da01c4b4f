"""What an imaging result refers to: the study, and the instance that the model read or that stands for the study."""

from datetime import datetime

from dicom_node.selection import SELECTORS, SelectedImage, SelectedVolume, select_input
from dicom_node.study import Instance, Series, Study
from dicom_node.volume import slices_in_order
from inference.contract import ImageInput, ModelInput, StudyInput, VolumeInput
from inference.manifest import InputSpec
from kernel.errors import Problem
from service.destinations.contract import ImagingContext
from service.flows.inputs.contract import NoInput, StudyFiles


def imaging_context(
    files: StudyFiles, spec: InputSpec, given: ModelInput | NoInput, *, in_doubt: bool = False
) -> ImagingContext:
    """Describe what a result refers to.

    Parameters
    ----------
    files
        The study.
    spec
        The input that the manifest declares.
    given
        What the model was given of it.
    in_doubt
        Whether its instances may be of several patients: the result then refers to the one that names its patient.
    """
    chosen = _first(files.study) if in_doubt else representative(files.study, spec)
    return ImagingContext(
        study=files.study,
        source=files.open_instance(chosen),
        chosen=chosen,
        image=_image_of(given),
        acquired_at=_acquired_at(given),
    )


def representative(study: Study, spec: InputSpec) -> str:
    """Return the SOPInstanceUID that a result refers to: an image, else a middle slice, else any when nothing fits.

    Parameters
    ----------
    study
        The study's description.
    spec
        The input that the manifest declares; of several parts, the first image counts, then the first volume.
    """
    parts = [part for part in spec.parts or (spec,) if part.kind in SELECTORS]
    selected = [select_input(study, part) for part in parts]
    for one in selected:
        if isinstance(one, SelectedImage):
            return one.instance.SOPInstanceUID
    for one in selected:
        if isinstance(one, SelectedVolume):
            return _middle_slice(one.series).SOPInstanceUID
    readable = study.set_aside()
    return (readable.series or study.series)[0].instances[0].SOPInstanceUID


def _first(study: Study) -> str:
    """Return the instance from which the patient of the study was read (:func:`dicom_node.study.describe`)."""
    return min(instance.SOPInstanceUID for series in study.series for instance in series.instances)


def _middle_slice(series: Series) -> Instance:
    """Return the slice in the middle of the volume; of a series that is no volume, the middle by SOPInstanceUID."""
    try:
        slices = slices_in_order(series)
    except Problem:
        slices = series.instances
    return slices[len(slices) // 2]


def _acquired_at(given: ModelInput | NoInput) -> datetime | None:
    parts = tuple(given.parts.values()) if isinstance(given, StudyInput) else (given,)
    times = (part.acquired_at for part in parts if isinstance(part, ImageInput | VolumeInput))
    return max((time for time in times if time is not None), default=None)


def _image_of(given: ModelInput | NoInput) -> ImageInput | None:
    parts = tuple(given.parts.values()) if isinstance(given, StudyInput) else (given,)
    return next((part for part in parts if isinstance(part, ImageInput)), None)
