"""What runners of tabular models share: features in, or the names of every missing one."""

from datetime import timedelta

from inference.age import measured_apart, oldest_value
from inference.contract import FactsInput, ModelInput
from inference.features.extract import Extraction, Extractor
from inference.manifest import Limits
from inference.runners.base import Declined, Decoded
from kernel.errors import Category, Problem


def decode_features(extract: Extractor, given: ModelInput, limits: Limits) -> Decoded[Extraction]:
    """Extract a model's features.

    Parameters
    ----------
    extract
        The model's compiled features (:func:`~inference.features.extract.compile_features`).
    given
        The input; it must be a :class:`~inference.contract.FactsInput`.

    limits
        Of the model; ``spread_hours`` says how far apart the values may have been measured.

    Raises
    ------
    Declined
        When features are missing that the model cannot do without, or were measured too far apart.
    Problem
        ``fault`` when the input is not one of facts.
    """
    if not isinstance(given, FactsInput):
        raise Problem(Category.FAULT, "a model of facts was given another kind of input")
    found = extract(given)
    if found.missing:
        raise Declined(found.reason, missing=found.missing, inputs=found.inputs, features=found.features)
    apart = measured_apart(found.inputs)
    if limits.spread_hours is not None and apart > timedelta(hours=float(limits.spread_hours)):
        oldest = oldest_value(found.inputs)
        titles = found.titles.get(oldest.name, oldest.name) if oldest else ""
        raise Declined(
            f"the values were measured more than {limits.spread_hours} hours apart; the oldest is {titles}",
            inputs=found.inputs,
            features=found.features,
        )
    return Decoded(item=found, inputs=found.inputs, shape=(), features=found.features)
