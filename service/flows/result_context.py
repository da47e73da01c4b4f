"""What a result's resources say besides the model's outcome: the study, the server, what was asked for.

Also the one place where DICOM's description of a study is put into FHIR's words, since neither face knows the other.
"""

from dataclasses import dataclass
from datetime import UTC, tzinfo

from dicom_node.study import Study
from dicom_node.times import started
from fhir_adapter.results import InstanceSummary, ResultContext, SeriesSummary, StudySummary, expected_of
from kernel.clock import Clock
from service.destinations.contract import ModelResult


@dataclass(frozen=True, kw_only=True)
class ServerContext:
    """How every result describes this server."""

    clock: Clock
    software_version: str
    zone: tzinfo = UTC
    """Of studies that state no offset."""

    def about(self, model_result: ModelResult) -> ResultContext:
        """Return what the resources of one result need to know."""
        imaging, filing = model_result.imaging, model_result.filing
        number = None if filing.visit is None else filing.visit.number
        return ResultContext(
            now=self.clock.now(),
            software_version=self.software_version,
            observed=filing.observed,
            study=None if imaging is None else study_summary(imaging.study, self.zone),
            encounter=filing.encounter,
            visit_number=None if number is None or not number.system else (number.system, number.value),
            expected=expected_of(model_result.manifest),
            supersedes=model_result.supersedes,
        )


def study_summary(study: Study, zone: tzinfo) -> StudySummary:
    """Describe a study in the words of FHIR's ImagingStudy.

    Parameters
    ----------
    study
        Its description.
    zone
        Time zone of a study that states no offset.
    """
    return StudySummary(
        StudyInstanceUID=study.StudyInstanceUID,
        started=started(study.StudyDate, study.StudyTime, study.TimezoneOffsetFromUTC, zone=zone),
        description=study.StudyDescription,
        accession=study.AccessionNumber,
        series=tuple(
            SeriesSummary(
                SeriesInstanceUID=series.SeriesInstanceUID,
                modality=series.Modality,
                body_part=series.BodyPartExamined,
                instances=tuple(
                    InstanceSummary(SOPInstanceUID=instance.SOPInstanceUID, SOPClassUID=instance.SOPClassUID)
                    for instance in series.instances
                ),
            )
            for series in study.series
        ),
    )
