"""Input of kind study: several named parts, each read as the input of its kind."""

from collections.abc import Mapping
from datetime import datetime

from inference.contract import FactsInput, InputKind, PartInput, SeriesInput, StudyInput
from inference.manifest import InputSpec
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput, PartReader, Reader


def reader(parts: Mapping[InputKind, PartReader]) -> Reader:
    """Return what reads an input of kind study.

    Parameters
    ----------
    parts
        Kind of a part -> what reads it.
    """

    def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> StudyInput | NoInput:
        """Read every part; there is no input when one is missing.

        Parameters
        ----------
        core
            Where resources are stored.
        request
            For which model, patient and time, and from which study or document.
        spec
            The declared input and its parts.
        """
        found = {part.name: _settle(request, parts[part.kind](core, request, part)) for part in spec.parts}
        missing = {name: part for name, part in found.items() if isinstance(part, NoInput)}
        if missing:
            return NoInput(
                reason="; ".join(f"missing {name}: {part.reason}" for name, part in missing.items()),
                missing=tuple(missing),
                sources=tuple(source for part in found.values() for source in part.sources),
                features=tuple(use for part in missing.values() for use in part.features),
                next_usable=min(filter(None, map(_next_usable, found.values())), default=None),
            )
        read_parts = {name: part for name, part in found.items() if not isinstance(part, NoInput)}
        return StudyInput(subject=request.subject, parts=read_parts, at=request.at)

    return read


def _has_content(request: InputRequest, part: PartInput) -> bool:
    if not isinstance(part, FactsInput):
        return bool(part.sources)
    since = part.at - request.model.lookback
    return any(since <= fact.effective and fact.usable_from <= part.latest for fact in part.facts)


def _next_usable(part: PartInput | NoInput) -> datetime | None:
    return part.next_usable if isinstance(part, FactsInput | SeriesInput | NoInput) else None


def _settle(request: InputRequest, part: PartInput | NoInput) -> PartInput | NoInput:
    """Return a part; one that was read from nothing, although its features have codes, is missing."""
    if isinstance(part, NoInput) or _has_content(request, part) or not request.model.codes:
        return part
    return NoInput(reason="nothing that the model reads is stored")
