"""Input of kind volume: the slices of one series of the study that made the model run."""

from dicom_node.selection import NothingFits, select_volume
from dicom_node.volume import load_volume
from inference.contract import VolumeInput
from inference.manifest import InputSpec
from kernel.errors import Problem
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput, no_study


def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> VolumeInput | NoInput:
    """Read the series that the manifest's rules select.

    Parameters
    ----------
    core
        The time zone of the site.
    request
        The study.
    spec
        The declared input: its selection rules.
    """
    files = request.files
    if files is None:
        return no_study(spec)
    selected = select_volume(files.study, spec.selection)
    if isinstance(selected, NothingFits):
        return NoInput(reason=selected.reason, sources=files.sources, out_of_scope=True)
    try:
        volume = load_volume(selected.series, files.open_instance, zone=core.zone)
    except Problem as problem:
        return NoInput(reason=problem.detail, sources=files.sources)
    return VolumeInput(
        subject=request.subject,
        modality=selected.series.Modality,
        # The selection has checked what the header says, BodyPartExamined included.
        body_part=selected.series.BodyPartExamined or next(iter(spec.selection.body_parts), ""),
        sources=files.sources_of(selected.series.instances),
        at=request.at,
        **vars(volume),
    )
