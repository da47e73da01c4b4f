"""A model's outcome as FHIR R4 resources, one file a resource.

The shape follows HL7 AI Transparency on FHIR 1.0.0-ballot (http://hl7.org/fhir/uv/aitransparency): every result is
labelled AIAST, its Device is the model, a DocumentReference is the model's card, a Provenance ties them to the inputs.
A future risk is a RiskAssessment mirrored as an Observation, since many EHRs take only that; a finding that is
present now is an Observation, grouped in a DiagnosticReport. An outcome that is not available has the same shape and
states why.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from fhir_adapter.results import (
    device,
    diagnostic_report,
    imaging_study,
    model_card,
    observation,
    provenance,
    risk_assessment,
)
from fhir_adapter.results.bundles import NO_IDENTIFIER, for_ehr, identified
from fhir_adapter.results.context import (
    ExpectedOutput,
    InstanceSummary,
    ResultContext,
    SeriesSummary,
    StudySummary,
    expected_of,
)
from fhir_adapter.store.document import Json
from inference.contract import Outcome

__all__ = [
    "BUILDERS",
    "NO_IDENTIFIER",
    "ExpectedOutput",
    "InstanceSummary",
    "ResultContext",
    "SeriesSummary",
    "StudySummary",
    "expected_of",
    "for_ehr",
    "identified",
    "resources_for",
]

Builder: TypeAlias = Callable[[Outcome, ResultContext], tuple[Json, ...]]

BUILDERS: Final[Mapping[str, Builder]] = {
    "DocumentReference": model_card.build,
    "Device": device.build,
    "ImagingStudy": imaging_study.build,
    "Observation": observation.build,
    "RiskAssessment": risk_assessment.build,
    "DiagnosticReport": diagnostic_report.build,
    "Provenance": provenance.build,
}
"""Resource type -> what builds it, in the order in which one refers to another."""


def resources_for(outcome: Outcome, context: ResultContext) -> tuple[Json, ...]:
    """Build every resource of one outcome.

    Parameters
    ----------
    outcome
        The model's prediction, or why there is none.
    context
        Time, software version, study and encounter of the result.

    Returns
    -------
    tuple of dict
        Valid R4 with ids and relative references. The same outcome always gives the same ids.
    """
    return tuple(resource for build in BUILDERS.values() for resource in build(outcome, context))
