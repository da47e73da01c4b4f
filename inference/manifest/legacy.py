"""Manifests of the first form, which registered declarations still have, brought to the present form.

The first form had ``trigger: {kind: facts, codes}`` or ``trigger: {kind: image, modalities, body_parts}``, no
``inputs``, and kept ``views``, ``min_side`` and ``min_contrast`` among the limits.
"""

from collections.abc import Mapping
from typing import Any, Final

_IMAGE_LIMITS: Final = ("views", "min_side", "min_contrast")


def normalise(content: object) -> object:
    """Return the content of ``model.yaml`` in the present form; anything but the first form is returned as it is.

    Parameters
    ----------
    content
        What YAML or JSON holds; it is not changed.
    """
    if not isinstance(content, Mapping) or "inputs" in content or not isinstance(content.get("trigger"), Mapping):
        return content
    trigger: Mapping[str, Any] = content["trigger"]
    limits = content.get("limits")
    if trigger.get("kind") not in {"facts", "image"} or not isinstance(limits, Mapping):
        return content
    moved = {key: limits[key] for key in _IMAGE_LIMITS if key in limits}
    rest = {key: value for key, value in trigger.items() if key != "kind"}
    kept = {key: value for key, value in limits.items() if key not in _IMAGE_LIMITS}
    if trigger["kind"] == "facts":
        return {**content, "trigger": {"kind": "codes", **rest}, "limits": kept, "inputs": [_input("facts", {})]}
    inputs = [_input("image", rest | moved)]
    return {**content, "trigger": {"kind": "study"}, "limits": kept, "inputs": inputs}


def _input(kind: str, rules: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": kind, "kind": kind, **rules}
