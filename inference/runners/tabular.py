"""What runners of tabular models share: features in, or the names of every missing one."""

from inference.contract import FactsInput, ModelInput
from inference.features.extract import Extraction, Extractor
from inference.runners.base import Declined, Decoded
from kernel.errors import Category, Problem


def decode_features(extract: Extractor, given: ModelInput) -> Decoded[Extraction]:
    """Extract a model's features.

    Parameters
    ----------
    extract
        The model's compiled features (:func:`~inference.features.extract.compile_features`).
    given
        The input; it must be a :class:`~inference.contract.FactsInput`.

    Raises
    ------
    Declined
        When features are missing that the model cannot do without.
    Problem
        ``fault`` when the input is not one of facts.
    """
    if not isinstance(given, FactsInput):
        raise Problem(Category.FAULT, "a model of facts was given another kind of input")
    found = extract(given)
    if found.missing:
        raise Declined(found.reason, missing=found.missing, inputs=found.inputs, features=found.features)
    return Decoded(item=found, inputs=found.inputs, shape=(), features=found.features)
