"""A result as a Comprehensive 3D SR document (PS3.3 A.35.13): TID 1500 Measurement Report of PS3.16.

An output becomes a measurement group (TID 1501) with the algorithm that made it (TID 4019), its measurements by its
kind and its qualitative evaluation. The document is COMPLETE, PRELIMINARY and UNVERIFIED: nobody has signed it. A
result that is not available becomes a group that says so in words, so that the absence is read.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, tzinfo
from typing import Final

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset

from dicom_node.results.header import nameless
from dicom_node.results.measurements import LONGEST_MEANING, PRIVATE, measurements_of
from dicom_node.results.provenance import (
    MANUFACTURER,
    REPORT_INSTANCE,
    SERIES_NUMBER,
    derived_uid,
    device_uid,
    evidence,
    finish,
    inherit,
    offset_of,
)
from inference.bands import codes_of
from inference.contract import NotAvailable, Outcome, Output, notice, opened
from inference.wording import refusal

_SCHEMES: Final = {
    "http://snomed.info/sct": "SCT",
    "http://loinc.org": "LN",
    "http://dicom.nema.org/resources/ontology/DCM": "DCM",
    "http://radlex.org": "RADLEX",
}
"""FHIR's name of a code system -> DICOM's (PS3.16 section 8)."""

_DEVICE: Final = CodedConcept("121007", "DCM", "Device")
_COMMENT: Final = CodedConcept("121106", "DCM", "Comment")
_PROCEDURES: Final = {
    "CR": CodedConcept("363680008", "SCT", "Radiographic imaging procedure"),
    "DX": CodedConcept("363680008", "SCT", "Radiographic imaging procedure"),
    "CT": CodedConcept("77477000", "SCT", "Computed tomography"),
    "MR": CodedConcept("113091000", "SCT", "Magnetic resonance imaging"),
}
"""Modality -> the procedure that the report is about (TID 1500, Procedure reported)."""
_CHEST_RADIOGRAPH: Final = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_IMAGING: Final = CodedConcept("363679005", "SCT", "Imaging procedure")
_AI_RESULT: Final = CodedConcept("AI_RESULT", PRIVATE, "AI result")
_NOT_AVAILABLE: Final = CodedConcept("NOT_AVAILABLE", PRIVATE, "Not available")


class _Report(Comprehensive3DSR):  # type: ignore[misc]  # the library has no types
    """A document about an object of any SOP class, also of one that the library does not know."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        with suppress(KeyError):
            super().copy_patient_and_study_information(dataset)


def build(outcome: Outcome, sources: Sequence[bytes], zone: tzinfo = UTC) -> bytes:
    """Write a result as a structured report.

    Parameters
    ----------
    outcome
        What the runtime answered.
    sources
        DICOM files of the instances that the result rests on, one at least; patient and study are taken from them.
    zone
        Time zone of the site: of a source that states no offset.

    Returns
    -------
    bytes
        DICOM file format; the same for the same arguments.

    Raises
    ------
    Problem
        ``incorrect`` when a source cannot be read.
    """
    images = evidence(sources)
    document = _Report(
        evidence=[nameless(images[0]), *images[1:]],
        content=_report(outcome, images)[0],
        series_instance_uid=derived_uid(outcome, "sr/series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid(outcome, REPORT_INSTANCE),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=f"AI result: {outcome.model.title}"[:LONGEST_MEANING],
    )
    inherit(document, images[0])
    return finish(document, outcome.at, offset_of(images[0], zone))


def _report(outcome: Outcome, images: Sequence[Dataset]) -> MeasurementReport:
    model = outcome.model
    observer = DeviceObserverIdentifyingAttributes(
        uid=device_uid(model),
        name=model.name,
        manufacturer_name=model.owner or MANUFACTURER,
        model_name=model.title,
        serial_number=model.version,
    )
    if isinstance(outcome, NotAvailable):
        groups = [_absence(outcome)]
    else:
        groups = [_finding(outcome, output, images) for output in outcome.outputs]
    return MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=ObserverContext(observer_type=_DEVICE, observer_identifying_attributes=observer)
        ),
        procedure_reported=_procedure(images[0]),
        imaging_measurements=groups,
    )


def _procedure(image: Dataset) -> CodedConcept:
    modality, body_part = str(image.get("Modality", "")), str(image.get("BodyPartExamined", "")).upper()
    if modality in {"CR", "DX"} and body_part == "CHEST":
        return _CHEST_RADIOGRAPH
    return _PROCEDURES.get(modality, _IMAGING)


def _finding(outcome: Outcome, output: Output, images: Sequence[Dataset]) -> MeasurementsAndQualitativeEvaluations:
    finding = _concept(output)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(outcome, f"sr/{output.name}"), identifier=output.display
        ),
        finding_type=finding,
        algorithm_id=_algorithm(outcome),
        measurements=measurements_of(output) or None,
        qualitative_evaluations=[QualitativeEvaluation(name=finding, value=_band(output.band))],
        source_images=[SourceImageForMeasurementGroup.from_source_image(image) for image in images],
    )
    return _with_comment(group, opened(output.text, demonstration=outcome.model.demonstration))


def _band(band: str) -> CodedConcept:
    qualifier = codes_of(band).qualifier
    if qualifier is None:
        return CodedConcept(band.upper()[:16], PRIVATE, band[:LONGEST_MEANING])
    return CodedConcept(qualifier[0], "SCT", qualifier[1])


def _absence(outcome: NotAvailable) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=derived_uid(outcome, "sr/absence"), identifier=outcome.model.title),
        algorithm_id=_algorithm(outcome),
        qualitative_evaluations=[QualitativeEvaluation(name=_AI_RESULT, value=_NOT_AVAILABLE)],
    )
    return _with_comment(group, f"{refusal(outcome.reason)}. {notice(demonstration=outcome.model.demonstration)}")


def _algorithm(outcome: Outcome) -> AlgorithmIdentification:
    model = outcome.model
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"sha256:{model.digest}"],
        manufacturer=model.owner or MANUFACTURER,
    )


def _concept(output: Output) -> CodedConcept:
    scheme = _SCHEMES.get(output.system, PRIVATE)
    return CodedConcept(output.code, scheme, output.display[:LONGEST_MEANING])


def _with_comment(group: MeasurementsAndQualitativeEvaluations, words: str) -> MeasurementsAndQualitativeEvaluations:
    """Add words to a measurement group, which TID 1501 leaves open to additions."""
    comment = TextContentItem(name=_COMMENT, value=words, relationship_type=RelationshipTypeValues.CONTAINS)
    group[0].ContentSequence.append(comment)
    return group
