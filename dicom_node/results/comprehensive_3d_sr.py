"""A result as a Comprehensive 3D SR document (PS3.3 A.35.13): TID 1500 Measurement Report of PS3.16.

A finding becomes a measurement group (TID 1501) with the algorithm that made it (TID 4019), its probability and its
qualitative evaluation. The document is COMPLETE, PRELIMINARY and UNVERIFIED: nobody has signed it. A result that is
not available becomes a group that says so in words, so that the absence is read.
"""

from collections.abc import Sequence
from typing import Final

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
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

from dicom_node.results.provenance import (
    MANUFACTURER,
    SERIES_NUMBER,
    derived_uid,
    device_uid,
    evidence,
    finish,
    inherit,
)
from inference.bands import codes_of
from inference.contract import NotAvailable, Outcome, Output, notice, opened
from inference.wording import refusal

_PRIVATE: Final = "99AUSCULTA"
_SCHEMES: Final = {
    "http://snomed.info/sct": "SCT",
    "http://loinc.org": "LN",
    "http://dicom.nema.org/resources/ontology/DCM": "DCM",
    "http://radlex.org": "RADLEX",
}
"""FHIR's name of a code system -> DICOM's (PS3.16 section 8)."""

_DEVICE: Final = CodedConcept("121007", "DCM", "Device")
_COMMENT: Final = CodedConcept("121106", "DCM", "Comment")
_CHEST_RADIOGRAPH: Final = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_PROBABILITY: Final = CodedConcept("PROBABILITY", _PRIVATE, "Probability of the finding")
_SCORE: Final = CodedConcept("SCORE", _PRIVATE, "Score")
_NO_UNIT: Final = CodedConcept("1", "UCUM", "no units")
_AI_RESULT: Final = CodedConcept("AI_RESULT", _PRIVATE, "AI result")
_NOT_AVAILABLE: Final = CodedConcept("NOT_AVAILABLE", _PRIVATE, "Not available")
_LONGEST_MEANING: Final = 64


def build(outcome: Outcome, sources: Sequence[bytes]) -> bytes:
    """Write a result as a structured report.

    Parameters
    ----------
    outcome
        What the runtime answered.
    sources
        DICOM files of the instances that the result rests on, one at least; patient and study are taken from them.

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
    document = Comprehensive3DSR(
        evidence=images,
        content=_report(outcome, images)[0],
        series_instance_uid=derived_uid(outcome, "sr/series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid(outcome, "sr/instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=f"AI result: {outcome.model.title}"[:_LONGEST_MEANING],
    )
    inherit(document, images[0])
    return finish(document, outcome.at)


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
        procedure_reported=_CHEST_RADIOGRAPH,
        imaging_measurements=groups,
    )


def _finding(outcome: Outcome, output: Output, images: Sequence[Dataset]) -> MeasurementsAndQualitativeEvaluations:
    finding = _concept(output)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(outcome, f"sr/{output.name}"), identifier=output.display
        ),
        finding_type=finding,
        algorithm_id=_algorithm(outcome),
        measurements=[_measurement(output)] if output.value is not None else None,
        qualitative_evaluations=[QualitativeEvaluation(name=finding, value=_band(output.band))],
        source_images=[SourceImageForMeasurementGroup.from_source_image(image) for image in images],
    )
    return _with_comment(group, opened(output.text, demonstration=outcome.model.demonstration))


def _band(band: str) -> CodedConcept:
    qualifier = codes_of(band).qualifier
    if qualifier is None:
        return CodedConcept(band.upper()[:16], _PRIVATE, band[:_LONGEST_MEANING])
    return CodedConcept(qualifier[0], "SCT", qualifier[1])


def _absence(outcome: NotAvailable) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=derived_uid(outcome, "sr/absence"), identifier=outcome.model.title),
        algorithm_id=_algorithm(outcome),
        qualitative_evaluations=[QualitativeEvaluation(name=_AI_RESULT, value=_NOT_AVAILABLE)],
    )
    return _with_comment(group, f"{refusal(outcome.reason)}. {notice(demonstration=outcome.model.demonstration)}")


def _measurement(output: Output) -> Measurement:
    name = _PROBABILITY if output.kind == "probability" else _SCORE
    unit = _NO_UNIT if output.unit in {None, "", "1"} else CodedConcept(output.unit, "UCUM", output.unit)
    return Measurement(name=name, value=round(float(output.value or 0.0), 6), unit=unit)


def _algorithm(outcome: Outcome) -> AlgorithmIdentification:
    model = outcome.model
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"sha256:{model.digest}"],
        manufacturer=model.owner or MANUFACTURER,
    )


def _concept(output: Output) -> CodedConcept:
    scheme = _SCHEMES.get(output.system, _PRIVATE)
    return CodedConcept(output.code, scheme, output.display[:_LONGEST_MEANING])


def _with_comment(group: MeasurementsAndQualitativeEvaluations, words: str) -> MeasurementsAndQualitativeEvaluations:
    """Add words to a measurement group, which TID 1501 leaves open to additions."""
    comment = TextContentItem(name=_COMMENT, value=words, relationship_type=RelationshipTypeValues.CONTAINS)
    group[0].ContentSequence.append(comment)
    return group
