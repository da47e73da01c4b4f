"""The declared input of a model, read from stored resources and studies: one reader for each kind of input.

To add a kind is to write a file and a line of :data:`PARTS`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from inference.contract import InputKind, ModelInput
from service.core import CoreServices
from service.flows.inputs import facts, image, series, study, text, volume
from service.flows.inputs.contract import InputRequest, NoInput, PartReader, Reader

PARTS: Final[Mapping[InputKind, PartReader]] = MappingProxyType(
    {
        "facts": facts.read,
        "series": series.read,
        "text": text.read,
        "image": image.read,
        "volume": volume.read,
    }
)
"""Kind of an input that can be a part of a study -> what reads it."""

READERS: Final[Mapping[InputKind, Reader]] = MappingProxyType({**PARTS, "study": study.reader(PARTS)})
"""Kind of an input -> what reads it."""


def read_input(core: CoreServices, request: InputRequest) -> ModelInput | NoInput:
    """Read what the manifest declares, and nothing else.

    Parameters
    ----------
    core
        What every flow uses.
    request
        For which model, patient and time, and from which study or document.
    """
    spec = request.model.manifest.input
    return READERS[spec.kind](core, request, spec)
