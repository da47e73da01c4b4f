"""Pictures for people: the console and the PACS show the same evidence in the same colours."""

import io
from datetime import UTC, datetime

import numpy as np
from PIL import Image
from pydicom import dcmread

from dicom_node.encoding import open_file
from dicom_node.pixels import picture
from dicom_node.results import RESULTS
from dicom_node.synthesise import ChestXRay, chest_x_ray
from inference.contract import ModelIdentity, Prediction, Subject
from inference.testing import heat_map
from service.flows.pictures import overlay_png

MODEL = ModelIdentity(
    name="m",
    version="1",
    digest="ab" * 32,
    title="M",
    intended_use="tests",
    owner="Ausculta",
    demonstration=True,
    card="",
    status="active",
)


def test_the_console_and_the_pacs_show_a_heat_map_in_the_same_colours() -> None:
    source = chest_x_ray(ChestXRay(rows=480, columns=400))
    heat = np.linspace(0, 1, 480 * 400, dtype=np.float32).reshape(480, 400)
    subject = Subject(reference="Patient/1", birth_date=None, sex=None, identifier=None)
    outcome = Prediction(
        model=MODEL,
        subject=subject,
        outputs=(),
        inputs=(),
        input_versions=("urn:oid:1.2#ab",),
        at=datetime(2026, 1, 15, tzinfo=UTC),
        artefacts=(heat_map(heat),),
    )
    capture = dcmread(io.BytesIO(RESULTS["heat-map"](outcome, [source]) or b"")).pixel_array
    shown = np.asarray(Image.open(io.BytesIO(overlay_png(picture(open_file(source)), heat))))
    below_the_banner = slice(130, None)  # it takes a quarter at most
    assert shown.shape == capture.shape
    assert np.array_equal(shown[below_the_banner], capture[below_the_banner])
