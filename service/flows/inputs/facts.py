"""Input of kind facts: what is stored of a patient in the codes and windows of the model's features."""

from inference.contract import FactsInput
from inference.manifest import InputSpec
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput
from service.flows.inputs.observed import admission_for, observed_facts


def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> FactsInput | NoInput:  # noqa: ARG001 - facts have no rules
    """Read the facts of a patient.

    Parameters
    ----------
    core
        Where resources are stored.
    request
        For which model, patient and time.
    spec
        The declared input; it has no rules of its own.
    """
    admission = admission_for(core, request)
    facts = observed_facts(core, request, admission)
    if isinstance(facts, NoInput):
        return facts
    return FactsInput(
        subject=request.subject,
        facts=facts,
        at=request.at,
        clock_tolerance=core.clock_tolerance,
        admission=admission,
    )
