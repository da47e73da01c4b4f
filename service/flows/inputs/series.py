"""Input of kind series: the facts of a patient on the grid that the manifest declares."""

from datetime import timedelta

from inference.contract import FactsInput, SeriesInput
from inference.features.series import find_gap, series_input
from inference.manifest import InputSpec
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput
from service.flows.inputs.observed import admission_for, observed_facts


def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> SeriesInput | NoInput:
    """Read the time series of a patient; there is none when nothing was measured within the grid.

    Parameters
    ----------
    core
        Where resources are stored.
    request
        For which model, patient and time.
    spec
        The declared input: length and step of the grid.
    """
    model, subject, at = request.model, request.subject, request.at
    hours, step_hours = spec.selection.hours, spec.selection.step_hours
    assert hours is not None  # a manifest of a series has both
    assert step_hours is not None
    admission = admission_for(core, request)
    facts = observed_facts(core, request, admission, longest=timedelta(hours=float(hours)))
    if isinstance(facts, NoInput):
        return facts
    given = FactsInput(subject=subject, facts=facts, at=at, clock_tolerance=core.clock_tolerance, admission=admission)
    found = series_input(model.features, given, hours=hours, step_hours=step_hours)
    gap = find_gap(model.features, found, hours)
    if gap is not None:
        return NoInput(
            reason=gap.reason,
            missing=gap.missing,
            sources=found.sources,
            features=found.uses,
            next_usable=found.next_usable,
        )
    return found
