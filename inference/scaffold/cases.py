"""Golden cases from the declarations alone: each feature low, in the middle and high within its plausible range."""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from inference.features.spec import FeatureSpec
from inference.golden import FOLDER
from inference.manifest import Manifest
from kernel.errors import Category, Problem

_PLACES: Final[Mapping[str, Decimal]] = {"low": Decimal("0.25"), "middle": Decimal("0.5"), "high": Decimal("0.75")}
_AT: Final = "2026-01-15T12:00:00+00:00"


def make_cases(folder: Path, manifest: Manifest, features: tuple[FeatureSpec, ...]) -> tuple[str, ...]:
    """Write golden cases where the folder has none, and return the names of those written.

    Parameters
    ----------
    folder
        The model folder.
    manifest
        Its declaration.
    features
        Its features.

    Raises
    ------
    Problem
        ``incorrect`` when the folder has no case and none can be made: of images, or without plausible ranges.
    """
    target = folder / FOLDER
    if target.is_dir() and any(target.glob("*.json")):
        return ()
    if manifest.input.kind != "facts":
        raise Problem(Category.INCORRECT, f"{FOLDER} must hold a case, such as golden/one.json: the input of a patient")
    age = max(manifest.limits.min_age_years or 0, min(60, manifest.limits.max_age_years or 60))
    subject = {"reference": "Patient/golden", "birth_date": f"{2025 - age}-01-02", "sex": "female"}
    cases = {
        name: {"subject": subject, "at": _AT, "facts": [_fact(spec, part) for spec in features if spec.sources]}
        for name, part in _PLACES.items()
    }
    target.mkdir(exist_ok=True)
    for name, given in cases.items():
        (target / f"{name}.json").write_text(json.dumps({"input": given}, indent=1) + "\n", encoding="utf-8")
    return tuple(cases)


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
