"""Each kind of output as measurements of a structured report, read back by pydicom and highdicom."""

from dataclasses import replace
from io import BytesIO

import pytest
from highdicom.sr import Comprehensive3DSR
from pydicom import dcmread

from dicom_node.results import RESULTS
from dicom_node.results.measurements import MEASUREMENTS
from inference.testing import output_of_each_kind

from .test_results import FOUND, SOURCE, by_meaning, items, read

OUTPUTS = output_of_each_kind()

EXPECTED = {
    "score": [("Score", 7.0, "{score}")],
    "probability": [("Probability of the finding", 0.873, "1")],
    "category": [],
    "class-set": [
        ("Probability of low", 0.2, "1"),
        ("Probability of high", 0.71, "1"),
        ("Probability of other", 0.09, "1"),
    ],
    "interval": [
        ("Point estimate", 12.3, "h"),
        ("Lower limit of the 90 % interval", 8.1, "h"),
        ("Upper limit of the 90 % interval", 19.0, "h"),
    ],
    "time-series": [
        ("Value at 2026-01-15 14:00 UTC, the last", 0.42, "mg/dL"),
        ("Value at 2026-01-15 13:00 UTC, the highest", 0.77, "mg/dL"),
    ],
    "mask": [("Segmented fraction of the image", 0.124, "1")],
    "spans": [
        ("Passages", 2.0, "{passages}"),
        ("Passages labelled dose", 1.0, "{passages}"),
        ("Passages labelled drug", 1.0, "{passages}"),
    ],
}


def report_of(kind: str) -> bytes:
    content = RESULTS["comprehensive-3d-sr"](replace(FOUND, outputs=(OUTPUTS[kind],)), [SOURCE])
    assert content
    return content


def test_every_kind_is_listed() -> None:
    assert set(MEASUREMENTS) == set(OUTPUTS) == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_kind_has_its_measurements(kind: str) -> None:
    report = read(report_of(kind))
    found = [
        (
            item.ConceptNameCodeSequence[0].CodeMeaning,
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in items(report)
        if item.ValueType == "NUM"
    ]
    assert found == EXPECTED[kind]
    assert by_meaning(report, f"Toy {kind}").ConceptCodeSequence[0].CodeMeaning == "high"


@pytest.mark.parametrize("kind", EXPECTED)
def test_highdicom_finds_the_group_and_its_measurements(kind: str) -> None:
    report = Comprehensive3DSR.from_dataset(dcmread(BytesIO(report_of(kind))))
    (group,) = report.content.get_image_measurement_groups()
    assert len(group.get_measurements()) == len(EXPECTED[kind])
    assert len(group.get_qualitative_evaluations()) == 1


@pytest.mark.parametrize(
    ("modality", "body_part", "procedure"),
    [
        ("DX", "CHEST", "Plain chest X-ray"),
        ("CR", "HAND", "Radiographic imaging procedure"),
        ("CT", "CHEST", "Computed tomography"),
        ("NM", "", "Imaging procedure"),
    ],
)
def test_the_report_names_the_procedure_that_was_done(modality: str, body_part: str, procedure: str) -> None:
    source = dcmread(BytesIO(SOURCE))
    source.Modality, source.BodyPartExamined = modality, body_part
    stream = BytesIO()
    source.save_as(stream)
    report = read(RESULTS["comprehensive-3d-sr"](FOUND, [stream.getvalue()]))
    assert by_meaning(report, "Procedure reported").ConceptCodeSequence[0].CodeMeaning == procedure
