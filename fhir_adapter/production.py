"""Whether a resource is of production, or labelled as test data (R4, security-labels.html: HTEST)."""

from collections.abc import Mapping
from typing import Any, Final

_TEST_DATA: Final = "HTEST"
_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def is_production(resource: Mapping[str, Any]) -> bool:
    """Return whether a resource may be read by models: ``meta.security`` does not say that it is test health data."""
    labels = resource.get("meta", {}).get("security", ())
    return not any(label.get("code") == _TEST_DATA and label.get("system", _SYSTEM) == _SYSTEM for label in labels)
