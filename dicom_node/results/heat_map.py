"""Where a model saw its evidence, as a Secondary Capture picture (PS3.3 A.8.1): colour over the grey image."""

from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Final, TypeAlias

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
_SMALLEST: Final = 8
_MARGIN: Final = 4

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


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
        patient_orientation=("L", "F"),  # required here; what the image states replaces it below
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"AI heat map: {outcome.model.title}"[:64],
    )
    inherit(capture, source)
    capture.PatientOrientation = source.get("PatientOrientation") or []
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
    """Write ``words`` across the top, on as many lines as they need: no copy of the picture goes without them."""
    canvas = Image.fromarray(shown)
    draw = ImageDraw.Draw(canvas)
    height, width = shown.shape[:2]
    text, font = _fitted(draw, words, width=width, height=height)
    _, _, _, bottom = draw.multiline_textbbox((_MARGIN, 2), text, font=font)
    draw.rectangle((0, 0, width, bottom + 3), fill=(0, 0, 0))
    draw.multiline_text((_MARGIN, 2), text, font=font, fill=(255, 255, 0))
    return np.asarray(canvas, dtype=np.uint8)


def _fitted(draw: ImageDraw.ImageDraw, words: str, *, width: int, height: int) -> tuple[str, _Font]:
    """Return the words in lines that fit the width, in the greatest letters with which they fill a quarter at most."""
    size = max(_SMALLEST, round(height * _BANNER_SHARE))
    while True:
        font = ImageFont.load_default(size)
        text = _wrapped(draw, words, font, width - 2 * _MARGIN)
        _, _, right, bottom = draw.multiline_textbbox((_MARGIN, 2), text, font=font)
        if size <= _SMALLEST or (right <= width - _MARGIN and bottom <= height / 4):
            return text, font
        size -= 1


def _wrapped(draw: ImageDraw.ImageDraw, words: str, font: _Font, width: int) -> str:
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
