"""Input of kind facts: what is stored of a patient in the codes and windows of the model's features."""

from fhir_adapter.facts import patient_facts
from inference.contract import FactsInput
from inference.manifest import InputSpec
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest


def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> FactsInput:  # noqa: ARG001 - facts have no rules
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
    model, subject, at = request.model, request.subject, request.at
    with core.database.read() as connection:
        facts = patient_facts(connection, core.store, subject.reference, model.codes, at - model.lookback)
    return FactsInput(subject=subject, facts=facts, at=at)
