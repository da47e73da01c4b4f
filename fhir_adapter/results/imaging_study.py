"""The DICOM study as an ImagingStudy (R4, imagingstudy.html): what an imaging result is derived from."""

from typing import Final

from fhir_adapter.results.common import URI, about, derived_id, when
from fhir_adapter.results.context import ResultContext, SeriesSummary, StudySummary
from fhir_adapter.store.document import Json
from fhir_adapter.store.patients import DICOM_UID
from inference.contract import Outcome

_MODALITY: Final = "http://dicom.nema.org/resources/ontology/DCM"
_ACCESSION: Final = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}


def study_id(StudyInstanceUID: str) -> str:
    """Id of the ImagingStudy of a DICOM study."""
    return derived_id("ImagingStudy", StudyInstanceUID)


def study_reference(study: StudySummary) -> Json:
    """Refer to a study."""
    return {"reference": f"ImagingStudy/{study_id(study.StudyInstanceUID)}"}


def build(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:
    """Build the ImagingStudy of an imaging result, none for any other; it is no AI result and not labelled as one.

    Parameters as for :func:`fhir_adapter.results.resources_for`.
    """
    study = context.study
    if study is None:
        return ()
    identifiers: list[Json] = [{"system": DICOM_UID, "value": f"urn:oid:{study.StudyInstanceUID}"}]
    if study.accession:
        identifiers.append({"type": {"coding": [_ACCESSION]}, "value": study.accession})
    built: Json = {
        "resourceType": "ImagingStudy",
        "id": study_id(study.StudyInstanceUID),
        "identifier": identifiers,
        "status": "available",
        **about(outcome, context),
        "numberOfSeries": len(study.series),
        "numberOfInstances": sum(len(series.instances) for series in study.series),
    }
    optional = {
        "started": when(study.started) if study.started else None,
        "description": study.description,
        "series": [_series(series) for series in study.series],
    }
    return (built | {key: value for key, value in optional.items() if value},)


def _series(series: SeriesSummary) -> Json:
    built: Json = {
        "uid": series.SeriesInstanceUID,
        "modality": {"system": _MODALITY, "code": series.modality},
        "numberOfInstances": len(series.instances),
    }
    if series.body_part:
        built["bodySite"] = {"display": series.body_part}
    instances = [
        {"uid": it.SOPInstanceUID, "sopClass": {"system": URI, "code": f"urn:oid:{it.SOPClassUID}"}}
        for it in series.instances
    ]
    return built | ({"instance": instances} if instances else {})
