"""A model of each kind of output: its result is right at the EHR, at the interface engine and in the PACS."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite

from dicom_node.results import RESULTS
from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.hl7v2.message import Segment
from inference import registry
from inference.artefacts import decode
from inference.contract import Artefact, ImageInput, ModelInput, Output, VolumeInput
from inference.folder import ModelFolder
from inference.runners.base import Answer, Decoded, Runner
from inference.testing import heat_map, mask, output_of_each_kind, toy_folder
from service.destinations import dicom
from service.results import StoredResult

from .hospital import Hospital
from .test_dicom_path import CHEST, known_to_the_ehr

FILM = {"name": "film", "kind": "image", "modalities": ["DX"]}
CT = {"name": "ct", "kind": "volume", "modalities": ["CT"], "min_slices": 3}
KINDS = tuple(output_of_each_kind())


class KindsRunner(Runner[tuple[int, ...], Sequence[tuple[int, ...]], tuple[int, ...]]):
    """Gives fixed outputs, and a mask over the part of its input that has the lowest indices."""

    def __init__(self, model: ModelFolder, outputs: tuple[Output, ...]) -> None:
        super().__init__(model)
        self._outputs = outputs

    def setup(self, device: str) -> None:
        pass

    def decode(self, given: ModelInput) -> Decoded[tuple[int, ...]]:
        assert isinstance(given, ImageInput | VolumeInput)
        shape = given.pixels.shape if isinstance(given, ImageInput) else given.voxels.shape
        return Decoded(item=shape, inputs=(), shape=())

    def batch(self, items: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        return items

    def predict(self, batch: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        return batch

    def encode(self, item: tuple[int, ...], raw: tuple[int, ...]) -> Answer:
        values = np.zeros(raw, dtype=np.uint8)
        values[0] = 1
        artefacts: tuple[Artefact, ...] = (mask(values),)
        if len(item) == 2:
            artefacts = (*artefacts, heat_map(np.zeros(item, dtype=np.float32)))
        return Answer(outputs=self._outputs, artefacts=artefacts)


def install(hospital: Hospital, declared: dict[str, Any], *kinds: str, future: bool = False) -> None:
    """Make a toy the only model of the hospital."""
    given = output_of_each_kind(future=future)
    outputs = tuple(given[kind] for kind in kinds)  # type: ignore[index]
    manifest = [
        {"name": one.name, "system": one.system, "code": one.code, "display": one.display, "kind": one.kind}
        | {"future": future, "bands": [{"name": name, "at_least": at} for name, at in (("low", 0), ("high", 0.1))]}
        | ({"unit": one.unit} if one.unit else {})
        for one in outputs
    ]
    folder = toy_folder(inputs=[declared], trigger={"kind": "study"}, outputs=manifest)
    hospital.set_model("cxr-pneumonia", "retired")
    at = hospital.clock.now()
    hospital.application.database.write(lambda tx: registry.register(tx, folder, "active", by="test", at=at))
    hospital.application.runtime._load = lambda *_registered, device: KindsRunner(folder, outputs)


def stored(hospital: Hospital) -> StoredResult:
    with hospital.application.database.read() as connection:
        return hospital.application.results.newest(connection, limit=1)[0]


def reports(hospital: Hospital) -> list[Any]:
    sent = [hospital.pacs.dataset(uid) for uid in hospital.pacs.arrivals]
    return [one for one in sent if one.SOPClassUID.name == "Comprehensive 3D SR Storage"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_each_kind_reaches_everybody(hospital: Hospital, kind: str) -> None:
    known_to_the_ehr(hospital)
    install(hospital, FILM, kind)
    hospital.dicom(CHEST)
    hospital.rest()

    assert hospital.parked() == []
    assert stored(hospital).kind == "prediction", stored(hospital).reason
    (observation,) = hospital.ehr.received("Observation")
    assert observation["code"]["coding"][0]["code"] == f"toy-{kind}"
    values = {
        "category": "valueCodeableConcept",
        "class-set": "valueCodeableConcept",
        "spans": "valueInteger",
    }
    assert values.get(kind, "valueQuantity") in observation
    (message,) = hospital.engine.received()
    obx = message.first("OBX")
    assert obx is not None
    assert obx.get(2) == ("CWE" if kind in {"category", "class-set"} else "NM")
    *said, study = message.all("OBX")
    assert study.get(3) == "110180"
    assert len(said) == 1 + len(observation.get("component", ())) + (2 if kind == "time-series" else 0)
    (report,) = reports(hospital)
    assert f"Toy {kind}" in str(report)


def test_all_kinds_at_once_are_one_valid_result(hospital: Hospital) -> None:
    known_to_the_ehr(hospital)
    install(hospital, FILM, *KINDS, future=True)
    hospital.dicom(CHEST)
    hospital.rest()
    assert hospital.parked() == []
    assert len(hospital.ehr.received("Observation")) == len(KINDS)
    (assessment,) = hospital.ehr.received("RiskAssessment")
    assert len(assessment["prediction"]) == len(KINDS) + 2  # a class set makes one for each of its three classes
    assert [output["kind"] for output in stored(hospital).outputs] == list(KINDS)


def test_a_row_names_its_artefacts_and_holds_no_voxels(hospital: Hospital) -> None:
    install(hospital, FILM, "mask")
    hospital.dicom(CHEST)
    hospital.rest()
    row = stored(hospital)
    found = {one["name"]: one for one in row.artefacts}
    assert {name: (one["kind"], one["media_type"]) for name, one in found.items()} == {
        "lesion": ("mask", "image/png"),
        "heat-map": ("heat-map", "image/png"),
    }
    values = decode("image/png", hospital.application.blobs.get(found["lesion"]["blob"]))
    assert values.shape == tuple(found["lesion"]["shape"]) == (256, 256)
    assert values[0].all()
    assert not values[1:].any()
    assert row.outputs[0]["detail"] == {"artefact": "lesion"}
    assert len(json.dumps(row.artefacts)) < 1000


def test_the_console_shows_each_kind(hospital: Hospital) -> None:
    install(hospital, FILM, *KINDS)
    hospital.dicom(CHEST)
    hospital.rest()
    address = f"{hospital.web.url}/console/results/{stored(hospital).id}"
    page = httpx.get(address).text
    for said in ("71.0%", "8.1 to 19 h", "Toy time-series over time, from 0.42 to 0.77", "0 to 4 characters"):
        assert said in page, said
    assert re.findall(r'<img src="[^"]+/([^/"]+)"', page) == ["image.png", "heat-map.png", "lesion.png"]
    picture = np.asarray(Image.open(BytesIO(httpx.get(f"{address}/masks/lesion.png").content)))
    assert (picture.shape, picture[0].min(), picture[1:].max()) == ((256, 256), 255, 0)
    assert httpx.get(f"{address}/masks/other.png").status_code == 404


def test_a_refusal_takes_back_every_obx_that_was_sent_before(hospital: Hospital) -> None:
    install(hospital, FILM, *KINDS)
    hospital.dicom(CHEST)
    hospital.rest()
    sent = values_sent(hospital)
    assert {obx.get(11) for obx in sent} == {"P"}
    assert len(sent) > len(KINDS)
    at = hospital.clock.now()
    hospital.application.database.write(lambda tx: registry.stop(tx, "toy", "drill", by="test", at=at))
    hospital.dicom(replace(CHEST, instance=2))
    hospital.rest()
    assert stored(hospital).summary == "AI result not available: the model was stopped: drill"
    refused = values_sent(hospital)
    assert {(obx.get(11), obx.raw(5)) for obx in refused} == {("X", "")}
    assert places(refused) == places(sent)
    hospital.application.database.write(lambda tx: registry.stop(tx, "toy", "another drill", by="test", at=at))
    hospital.dicom(replace(CHEST, instance=3))
    hospital.rest()
    assert [obx.get(4) for obx in values_sent(hospital)] == [str(number) for number in range(1, len(KINDS) + 1)]


def values_sent(hospital: Hospital) -> list[Segment]:
    """Return the OBX of the newest message but the one that names the study; they are numbered without a gap."""
    found = list(hospital.engine.received()[-1].all("OBX"))
    assert [obx.get(1) for obx in found] == [str(number) for number in range(1, len(found) + 1)]
    return [obx for obx in found if obx.get(3) != "110180"]


def places(segments: Sequence[Segment]) -> set[tuple[str, str, str]]:
    """Return what a receiver files by: code, its system and the sub-id."""
    return {(obx.get(3), obx.get(3, 3), obx.get(4)) for obx in segments}


def test_the_details_of_an_output_are_stored(hospital: Hospital) -> None:
    install(hospital, FILM, "interval", "time-series")
    hospital.dicom(CHEST)
    hospital.rest()
    interval, series = (output["detail"] for output in stored(hospital).outputs)
    assert interval == {"low": 8.1, "high": 19.0, "coverage": 0.9}
    assert (series["times"][0], series["values"]) == ("2026-01-15T12:00:00+00:00", [0.5, 0.77, 0.42])


def test_a_result_keeps_the_version_of_the_software(hospital: Hospital) -> None:
    hospital.hl7(hospital.vitals())
    hospital.work()
    (provenance,) = hospital.all("Provenance")
    recorded = provenance["agent"][1]["who"]["identifier"]["value"]
    assert stored(hospital).software_version == recorded


def ct_slice(number: int, height: float) -> bytes:
    """Write a slice; the SOPInstanceUIDs ascend with ``number``, the places with ``height``."""
    image = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=16, columns=16, instance=number)
    dataset = dcmread(BytesIO(chest_x_ray(image)))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    dataset.Modality = "CT"
    dataset.ImagePositionPatient = [0.0, 0.0, height]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1.0, 1.0]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    file = BytesIO()
    dcmwrite(file, dataset)
    return file.getvalue()


def test_a_builder_gets_the_mask_of_a_volume_and_its_slices_in_order(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_to_the_ehr(hospital)
    install(hospital, CT, "mask")
    given: list[tuple[Any, list[str]]] = []

    def build(outcome: Any, sources: Sequence[bytes], _zone: tzinfo) -> None:
        given.append((outcome, [str(dcmread(BytesIO(file)).SOPInstanceUID) for file in sources]))

    monkeypatch.setattr(dicom, "RESULTS", {**RESULTS, "segmentation": build})
    c_store([ct_slice(number, height) for number, height in enumerate((5.0, 0.0, 10.0))], hospital.peer)
    hospital.rest()

    assert hospital.parked() == []
    ((outcome, slices),) = given
    assert slices == ["1.2.3.1", "1.2.3.0", "1.2.3.2"]
    assert outcome.artefacts[0].values.shape == (3, 16, 16)
    (held,) = stored(hospital).artefacts
    assert (held["media_type"], held["shape"]) == ("application/x-npy+gzip", [3, 16, 16])
    values = decode(held["media_type"], hospital.application.blobs.get(held["blob"]))
    assert np.array_equal(values, outcome.artefacts[0].values)
    (report,) = reports(hospital)
    referenced = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert len(referenced) == 3
