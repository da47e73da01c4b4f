"""Golden cases from the declarations alone: each feature low, in the middle and high within its plausible range."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from inference.features.spec import FeatureSpec
from inference.golden import FOLDER, case_content, case_file, case_names
from inference.manifest import Manifest
from kernel.errors import Category, Problem

_PLACES: Final[Mapping[str, Decimal]] = {"low": Decimal("0.25"), "middle": Decimal("0.5"), "high": Decimal("0.75")}
_AT: Final = "2026-01-15T12:00:00+00:00"


def make_cases(files: Iterable[str], manifest: Manifest, features: tuple[FeatureSpec, ...]) -> Mapping[str, bytes]:
    """Return golden cases, without answers, for a folder that has none: name in the folder -> content.

    Parameters
    ----------
    files
        Names of the folder's files.
    manifest
        Its declaration.
    features
        Its features.

    Raises
    ------
    Problem
        ``incorrect`` when the folder has no case and none can be made: of images, or without plausible ranges.
    """
    if case_names(files):
        return {}
    if manifest.input.kind != "facts":
        raise Problem(Category.INCORRECT, f"{FOLDER} must hold a case, such as golden/one.json: the input of a patient")
    age = max(manifest.limits.min_age_years or 0, min(60, manifest.limits.max_age_years or 60))
    subject = {"reference": "Patient/golden", "birth_date": f"{2025 - age}-01-02", "sex": "female"}
    cases = {
        name: {"subject": subject, "at": _AT, "facts": [_fact(spec, part) for spec in features if spec.sources]}
        for name, part in _PLACES.items()
    }
    return {case_file(name): case_content({"input": given}) for name, given in cases.items()}


def _fact(spec: FeatureSpec, part: Decimal) -> dict[str, Any]:
    source = spec.sources[0]
    if source.answers:
        return {"system": source.system, "code": source.code, "answer": next(iter(source.answers))}
    if source.plausible is None:
        detail = f"{spec.name} needs a plausible range, from which golden cases are made"
        raise Problem(Category.INCORRECT, f"features.yaml: {detail}; or write a case into {FOLDER}")
    low, high = source.plausible
    value = str(low + (high - low) * part)
    return {"system": source.system, "code": source.code, "value": value, "unit": source.unit}
