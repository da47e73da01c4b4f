"""Results as DICOM objects: read back by pydicom and, where it is installed, by DCMTK."""

import importlib
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from dicom_node import results
from dicom_node.results import RESULTS
from dicom_node.synthesise import ChestXRay, chest_x_ray, study_uid
from inference.colour import overlay
from inference.contract import ModelIdentity, NotAvailable, Output, Prediction, Subject
from inference.testing import heat_map
from kernel.errors import Problem

XRAY = ChestXRay(rows=96, columns=80, PatientName="Müller^Zoë", consolidation=True)
SOURCE = chest_x_ray(XRAY)
AT = datetime(2026, 1, 15, 12, 0, 0, 250000, tzinfo=UTC)
MODEL = ModelIdentity(
    name="cxr-pneumonia",
    version="1.0.0",
    digest="ab" * 32,
    title="Pneumonia on a chest radiograph",
    intended_use="demonstration",
    owner="Ausculta",
    demonstration=True,
    card="# card",
    status="active",
)
PNEUMONIA = Output(
    name="pneumonia",
    system="http://snomed.info/sct",
    code="233604007",
    display="Pneumonia",
    kind="probability",
    value=0.873,
    unit="1",
    band="positive",
    text="Pneumonia is likely on this radiograph.",
    future=False,
)
SUBJECT = Subject(reference="Patient/abc", birth_date=None, sex=None, identifier=None)
COMMON = {"model": MODEL, "subject": SUBJECT, "inputs": (), "input_versions": ("urn:oid:1.2#ab",), "at": AT}
FOUND = Prediction(outputs=(PNEUMONIA,), artefacts=(heat_map(np.eye(96, 80, dtype=np.float32)),), **COMMON)
STOPPED = NotAvailable(kind="stopped", reason="the model has been stopped", missing=(), **COMMON)


def read(content: bytes | None) -> Dataset:
    assert content
    return dcmread(BytesIO(content))


def items(container: Dataset) -> list[Dataset]:
    """Every content item of a document, depth first."""
    found = []
    for item in container.get("ContentSequence", ()):
        found += [item, *items(item)]
    return found


def by_meaning(document: Dataset, meaning: str) -> Dataset:
    (item,) = [i for i in items(document) if i.get("ConceptNameCodeSequence", [{}])[0].get("CodeMeaning") == meaning]
    return item


@pytest.fixture(scope="module")
def report() -> Dataset:
    return read(RESULTS["comprehensive-3d-sr"](FOUND, [SOURCE]))


def test_the_report_is_a_preliminary_unverified_comprehensive_3d_sr(report: Dataset) -> None:
    assert report.SOPClassUID == Comprehensive3DSRStorage
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")


def test_the_report_follows_tid_1500(report: Dataset) -> None:
    template = report.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"  # Imaging Measurement Report
    assert by_meaning(report, "Measurement Group").ContentTemplateSequence[0].TemplateIdentifier == "1501"


def test_the_report_belongs_to_its_patient_and_study(report: Dataset) -> None:
    assert (report.PatientID, report.IssuerOfPatientID) == (XRAY.PatientID, XRAY.IssuerOfPatientID)
    assert report.PatientName == "Müller^Zoë"
    assert (report.StudyInstanceUID, report.AccessionNumber) == (study_uid(XRAY), XRAY.AccessionNumber)


def test_the_report_says_what_was_found(report: Dataset) -> None:
    assert by_meaning(report, "Finding").ConceptCodeSequence[0].CodeValue == "233604007"
    measured = by_meaning(report, "Probability of the finding").MeasuredValueSequence[0]
    assert (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue) == (0.873, "1")
    assert by_meaning(report, "Pneumonia").ConceptCodeSequence[0].CodeMeaning == "Present"


def test_the_report_names_its_algorithm(report: Dataset) -> None:
    assert by_meaning(report, "Algorithm Name").TextValue == MODEL.name
    assert by_meaning(report, "Algorithm Version").TextValue == MODEL.version
    assert by_meaning(report, "Algorithm Parameters").TextValue == f"sha256:{MODEL.digest}"


def test_the_report_says_that_a_machine_made_it(report: Dataset) -> None:
    comment = by_meaning(report, "Comment").TextValue
    assert comment.startswith("AI-generated, not reviewed by a person. Demonstration model, not for clinical use.")
    assert PNEUMONIA.text in comment


def test_the_report_points_to_its_image(report: Dataset) -> None:
    source = read(SOURCE)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    named = by_meaning(report, "Source of Measurement").ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_a_result_that_is_not_available_says_so(report: Dataset) -> None:
    absent = read(RESULTS["comprehensive-3d-sr"](STOPPED, [SOURCE]))
    assert by_meaning(absent, "AI result").ConceptCodeSequence[0].CodeMeaning == "Not available"
    assert "AI result not available: the model has been stopped" in by_meaning(absent, "Comment").TextValue
    assert absent.SOPInstanceUID != report.SOPInstanceUID
    assert not [item for item in items(absent) if item.ValueType == "NUM"]


@pytest.mark.parametrize("kind", sorted(RESULTS))
def test_the_same_result_is_the_same_bytes(kind: str) -> None:
    first, second = (RESULTS[kind](FOUND, [SOURCE]) for _ in range(2))
    assert first == second
    other = read(RESULTS[kind](replace(FOUND, input_versions=("urn:oid:1.2#cd",)), [SOURCE]))
    assert read(first).SOPInstanceUID != other.SOPInstanceUID


@pytest.mark.parametrize("kind", sorted(RESULTS))
def test_identity_and_date_follow_from_the_result(kind: str) -> None:
    made = read(RESULTS[kind](FOUND, [SOURCE]))
    assert all(re.fullmatch(r"2\.25\.[1-9][0-9]{20,38}", uid) for uid in (made.SOPInstanceUID, made.SeriesInstanceUID))
    assert (made.ContentDate, str(made.ContentTime)) == ("20260115", "120000.250000")


def test_the_heat_map_lies_over_its_image() -> None:
    capture = read(RESULTS["heat-map"](FOUND, [SOURCE]))
    assert capture.SOPClassUID == SecondaryCaptureImageStorage
    assert capture.pixel_array.shape == (96, 80, 3)
    assert capture.StudyInstanceUID == study_uid(XRAY)
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == read(SOURCE).SOPInstanceUID
    assert "AI-generated" in capture.DerivationDescription


def test_a_result_without_a_heat_map_makes_none() -> None:
    assert RESULTS["heat-map"](STOPPED, [SOURCE]) is None


def test_a_heat_map_of_another_size_is_refused() -> None:
    with pytest.raises(Problem, match="size"):
        RESULTS["heat-map"](replace(FOUND, artefacts=(heat_map(np.zeros((5, 5), dtype=np.float32)),)), [SOURCE])


def test_colour_appears_only_where_there_is_heat() -> None:
    image = np.full((1, 2), 0.5, dtype=np.float32)
    shown = overlay(image, np.array([[0.0, 1.0]], dtype=np.float32))
    assert shown[0, 0].tolist() == [128, 128, 128]
    assert shown[0, 1, 0] > shown[0, 1, 2]


def test_a_result_without_evidence_is_refused() -> None:
    with pytest.raises(Problem, match="instances"):
        RESULTS["comprehensive-3d-sr"](FOUND, [])


@pytest.mark.skipif(not shutil.which("/usr/bin/dsrdump"), reason="DCMTK is not installed (Debian package: dcmtk)")
@pytest.mark.parametrize("outcome", [FOUND, STOPPED], ids=["found", "stopped"])
def test_dcmtk_reads_the_report_without_complaint(outcome: Prediction | NotAvailable, tmp_path: Path) -> None:
    file = tmp_path / "sr.dcm"
    file.write_bytes(RESULTS["comprehensive-3d-sr"](outcome, [SOURCE]) or b"")
    dumped = subprocess.run(["/usr/bin/dsrdump", str(file)], capture_output=True, timeout=60, check=True)
    assert b"Comprehensive 3D SR Document" in dumped.stdout
    assert b"E: " not in dumped.stderr


def test_every_kind_is_listed_and_documented() -> None:
    folder = Path(results.__file__).parent
    kinds = {path.stem for path in folder.glob("*.py")} - {"__init__", "header", "measurements", "provenance"}
    assert {kind.replace("_", "-") for kind in kinds} == set(RESULTS)
    for kind in kinds:
        module = importlib.import_module(f"dicom_node.results.{kind}")
        assert "PS3." in (module.__doc__ or "")
        assert module.build.__doc__
