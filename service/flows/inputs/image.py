"""Input of kind image: one image of the study that made the model run."""

from dicom_node.selection import NothingFits, select_image
from dicom_node.volume import load_image
from inference.contract import ImageInput
from inference.manifest import InputSpec
from kernel.errors import Problem
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput, no_study


def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> ImageInput | NoInput:
    """Read the image that the manifest's rules select.

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
    selected = select_image(files.study, spec.selection)
    if isinstance(selected, NothingFits):
        return NoInput(reason=selected.reason, sources=files.sources, out_of_scope=True)
    content = files.open_instance(selected.instance.SOPInstanceUID)
    try:
        pixels, description = load_image(content, zone=core.zone)
    except Problem as problem:
        return NoInput(reason=problem.detail, sources=files.sources)
    return ImageInput(
        subject=request.subject,
        pixels=pixels,
        modality=description.modality,
        # The selection has checked what the header says, BodyPartExamined included.
        body_part=description.body_part or next(iter(spec.selection.body_parts), ""),
        view=description.view,
        sources=files.sources_of([selected.instance]),
        acquired_at=description.acquired_at,
        at=request.at,
    )
