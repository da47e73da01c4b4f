"""What a result's resources say besides the model's outcome: the study, the server, what was asked for.

Also the one place where DICOM's description of a study is put into FHIR's words, since neither face knows the other.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from dicom_node.study import Study
from fhir_adapter.results import ExpectedOutput, InstanceSummary, ResultContext, SeriesSummary, StudySummary
from inference.manifest import Manifest
from kernel.clock import Clock
from service.destinations.contract import ModelResult


@dataclass(frozen=True, kw_only=True)
class ServerContext:
    """What every result says of this server."""

    clock: Clock
    software_version: str

    def about(self, model_result: ModelResult) -> ResultContext:
        """Return what the resources of one result need to know."""
        imaging = model_result.imaging
        return ResultContext(
            now=self.clock.now(),
            software_version=self.software_version,
            study=None if imaging is None else study_summary(imaging.study),
            expected=expected_of(model_result.manifest),
            supersedes=model_result.supersedes,
        )


def expected_of(manifest: Manifest) -> tuple[ExpectedOutput, ...]:
    """Return what a model was asked for, so that its silence is filed where its answer would have been."""
    return tuple(
        ExpectedOutput(system=output.system, code=output.code, display=output.display, future=output.future)
        for output in manifest.outputs
    )


def study_summary(study: Study) -> StudySummary:
    """Describe a study in the words of FHIR's ImagingStudy."""
    return StudySummary(
        StudyInstanceUID=study.StudyInstanceUID,
        started=_started(study),
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


def _started(study: Study) -> datetime | None:
    """Read StudyDate and StudyTime (PS3.5 section 6.2); without an offset they are taken as UTC, or left out."""
    try:
        day = datetime.strptime(study.StudyDate, "%Y%m%d")  # noqa: DTZ007 - the zone is added below
        clock = datetime.strptime(study.StudyTime.partition(".")[0].ljust(6, "0"), "%H%M%S")  # noqa: DTZ007 - likewise
    except ValueError:
        return None
    return datetime.combine(day.date(), clock.time(), tzinfo=_zone(study.TimezoneOffsetFromUTC))


def _zone(offset: str) -> timezone:
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return UTC
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    return timezone(ahead if offset[0] == "+" else -ahead)
