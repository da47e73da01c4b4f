"""From what a model answered, or why it did not, to the outcome that the caller gets."""

from typing import Literal, TypeAlias

from inference.age import with_age
from inference.contract import (
    FactsInput,
    FeatureUse,
    InputUsed,
    ModelIdentity,
    ModelInput,
    NotAvailable,
    Output,
)
from inference.gaps import imputed_in_words, with_gaps
from inference.loading import AnyRunner
from inference.runners.base import Answer

Kind: TypeAlias = Literal["declined", "failed", "stopped"]


def with_inputs(
    runner: AnyRunner,
    answer: Answer,
    inputs: tuple[InputUsed, ...],
    features: tuple[FeatureUse, ...],
    model_input: ModelInput,
) -> tuple[Output, ...]:
    """Return the outputs, with what their texts say of the values that they rest on.

    Parameters
    ----------
    runner
        Of the model.
    answer
        As the runner expressed it.
    inputs, features
        What was read, and what became of each feature.
    model_input
        What the model was given.
    """
    specs = runner.model.features
    titles = {spec.declared: spec.title for spec in specs} | {spec.name: spec.title for spec in specs}
    imputed = imputed_in_words(runner.model.manifest.limits, specs, features)
    return tuple(
        with_age(with_gaps(output, features, titles, imputed), inputs, model_input.at, titles)
        for output in answer.outputs
    )


def not_available(
    model: ModelIdentity,
    model_input: ModelInput,
    kind: Kind,
    reason: str,
    *,
    inputs: tuple[InputUsed, ...] = (),
    missing: tuple[str, ...] = (),
) -> NotAvailable:
    """Return the outcome of a run without a prediction.

    Parameters
    ----------
    model
        Which model.
    model_input
        What it was given.
    kind, reason
        Why there is no prediction; safe to show.
    inputs
        What was read all the same.
    missing
        Names of the inputs that would be needed.
    """
    return NotAvailable(
        model=model,
        subject=model_input.subject,
        kind=kind,
        reason=reason,
        missing=missing,
        inputs=inputs,
        input_versions=versions_of(model_input, inputs),
        at=model_input.at,
    )


def with_gaps_named(versions: tuple[str, ...], features: tuple[FeatureUse, ...]) -> tuple[str, ...]:
    """Return versions together with those of values that could not be used: another such value is another result.

    Parameters
    ----------
    versions
        Of what was used.
    features
        What became of each feature.
    """
    return tuple(sorted({use.source for use in features if use.source is not None}.union(versions)))


def versions_of(model_input: ModelInput, inputs: tuple[InputUsed, ...]) -> tuple[str, ...]:
    """Return the versions of what was used, or of all that was available when nothing could be used.

    Parameters
    ----------
    model_input
        What the model was given.
    inputs
        What of it was read.
    """
    if isinstance(model_input, FactsInput) and inputs:
        return tuple(sorted({used.source for used in inputs}))
    return tuple(sorted(set(model_input.sources)))
