"""The DICOM files that an imaging result rests on, for those who make DICOM objects of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

from dicom_node.volume import slices_in_order
from inference.contract import Prediction
from kernel.blobs import Blobs
from service.destinations.contract import ImagingContext, ModelResult


class SourceFiles(Sequence[bytes]):
    """DICOM files that are read from their blobs one at a time: a volume of 2,000 slices never lies in memory.

    Parameters
    ----------
    blobs
        Holds the files.
    addresses
        Their addresses, in order.
    """

    def __init__(self, blobs: Blobs, addresses: Sequence[str]) -> None:
        self._blobs = blobs
        self._addresses = tuple(addresses)

    def __len__(self) -> int:
        """Return how many files there are."""
        return len(self._addresses)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> "SourceFiles": ...

    def __getitem__(self, index: int | slice) -> "bytes | SourceFiles":
        """Read one file, or name several."""
        if isinstance(index, slice):
            return SourceFiles(self._blobs, self._addresses[index])
        return self._blobs.get(self._addresses[index])


def with_sources(model_result: ModelResult, blobs: Blobs) -> ModelResult:
    """Return a model's result with the files that the model read.

    Parameters
    ----------
    model_result
        The result; one that names its sources already, or has no images, is returned unchanged.
    blobs
        Holds the files.
    """
    imaging = model_result.imaging
    if imaging is None or imaging.sources:
        return model_result
    declared = model_result.manifest.input
    kinds = {part.kind for part in declared.parts or (declared,)}
    # The instance that a result refers to is the image, where the model reads one.
    reads_volume = "volume" in kinds and "image" not in kinds and isinstance(model_result.outcome, Prediction)
    sources = _slices(imaging, blobs) if reads_volume else (imaging.source,)
    return replace(model_result, imaging=replace(imaging, sources=sources))


def _slices(imaging: ImagingContext, blobs: Blobs) -> Sequence[bytes]:
    """Return the slices of the series that the chosen instance is part of, in the order of the volume."""
    for series in imaging.study.series:
        if imaging.chosen in {instance.SOPInstanceUID for instance in series.instances}:
            return SourceFiles(blobs, [instance.blob for instance in slices_in_order(series)])
    return (imaging.source,)
