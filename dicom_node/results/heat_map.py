"""Where a model saw its evidence, as a Secondary Capture picture (PS3.3 A.8.1): colour over the grey image."""

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Final

import numpy as np
from highdicom.sc import SCImage
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.encoding import open_file
from dicom_node.pixels import picture
from dicom_node.results.header import nameless
from dicom_node.results.provenance import (
    HEAT_MAP_INSTANCE,
    MANUFACTURER,
    SERIES_NUMBER,
    derived_uid,
    evidence,
    finish,
    inherit,
    offset_of,
)
from inference.colour import RGB, overlay
from inference.contract import NotAvailable, Outcome, notice
from kernel.errors import Category, Problem

_BANNER_SHARE: Final = 0.03
"""Height of the banner's letters, as a share of the picture's."""


def build(outcome: Outcome, sources: Sequence[bytes], zone: tzinfo = UTC) -> bytes | None:
    """Write a result's heat map over its image.

    Parameters
    ----------
    outcome
        What the runtime answered.
    sources
        DICOM files that the result rests on; the first is the image that the map lies over.
    zone
        Time zone of the site: of a source that states no offset.

    Returns
    -------
    bytes or None
        DICOM file format, the same for the same arguments; None when the result has no heat map.

    Raises
    ------
    Problem
        ``incorrect`` when the image cannot be read or is not of the map's size.
    """
    if isinstance(outcome, NotAvailable) or outcome.heat_map is None:
        return None
    heat_map = outcome.heat_map.values
    source = evidence(sources[:1])[0]
    image = picture(open_file(sources[0]))
    if image.shape != heat_map.shape:
        raise Problem(Category.INCORRECT, "the heat map is not of the image's size")
    capture = SCImage.from_ref_dataset(
        ref_dataset=nameless(source),
        pixel_array=_with_banner(
            overlay(image, heat_map), f"AI heat map. {notice(demonstration=outcome.model.demonstration)}"
        ),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=derived_uid(outcome, "heat-map/series"),
        series_number=SERIES_NUMBER + 1,
        sop_instance_uid=derived_uid(outcome, HEAT_MAP_INSTANCE),
        instance_number=1,
        manufacturer=MANUFACTURER,
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"AI heat map: {outcome.model.title}"[:64],
    )
    inherit(capture, source)
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.SourceImageSequence = [_reference(source)]
    capture.DerivationDescription = notice(demonstration=outcome.model.demonstration)
    capture.BurnedInAnnotation = "NO"  # the banner contains no patient data
    return finish(capture, outcome.at, offset_of(source, zone))


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def _with_banner(shown: RGB, words: str) -> RGB:
    """Write ``words`` across the top, so that no copy of the picture goes without them."""
    canvas = Image.fromarray(shown)
    font = ImageFont.load_default(max(8, round(shown.shape[0] * _BANNER_SHARE)))
    draw = ImageDraw.Draw(canvas)
    _, _, _, bottom = draw.textbbox((4, 2), words, font=font)
    draw.rectangle((0, 0, shown.shape[1], bottom + 3), fill=(0, 0, 0))
    draw.text((4, 2), words, font=font, fill=(255, 255, 0))
    return np.asarray(canvas, dtype=np.uint8)
