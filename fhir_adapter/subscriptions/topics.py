"""The catalogue of topics to which a client of the R5 backport can subscribe: what happens to results of models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fhir_adapter.results.common import AIAST, RESULT_SYSTEM
from fhir_adapter.store.document import Json

_RESULTS: Final = ("DiagnosticReport", "Observation", "RiskAssessment")
_WITHDRAWN: Final = "entered-in-error"
_NONE: Final = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One entry of the catalogue."""

    url: str
    title: str
    #: The resource types of which a change may be an event.
    types: tuple[str, ...]
    #: Whether a resource, as it was stored just now in a version, is an event.
    is_event: Callable[[Json, int], bool]


def _is_result(resource: Json) -> bool:
    identifiers = resource.get("identifier", [])
    stated = identifiers if isinstance(identifiers, list) else [identifiers]
    labels = resource.get("meta", {}).get("security", ())
    return any(it.get("system") == RESULT_SYSTEM for it in stated) and any(
        (it.get("system"), it.get("code")) == (AIAST["system"], AIAST["code"]) for it in labels
    )


def _says_nothing(resource: Json) -> bool:
    return resource.get("status") == _NONE or "dataAbsentReason" in resource


def _is_new(resource: Json, version: int) -> bool:
    stated = resource.get("status") != _WITHDRAWN and not _says_nothing(resource)
    return version == 1 and _is_result(resource) and stated


def _is_missing(resource: Json, version: int) -> bool:
    return version == 1 and _is_result(resource) and _says_nothing(resource)


def _is_replaced(resource: Json, version: int) -> bool:
    if resource["resourceType"] != "Provenance":
        return _is_result(resource) and resource.get("status") == _WITHDRAWN
    reasons = [coding for reason in resource.get("reason", ()) for coding in reason.get("coding", ())]
    of_model = any(coding.get("code") == AIAST["code"] for coding in reasons)
    return version == 1 and of_model and any(it.get("role") == "revision" for it in resource.get("entity", ()))


_URN: Final = "urn:ausculta:topic:"
TOPICS: Final[Mapping[str, Topic]] = MappingProxyType(
    {
        topic.url: topic
        for topic in (
            Topic(url=f"{_URN}new-result", title="A model has a result", types=_RESULTS, is_event=_is_new),
            Topic(
                url=f"{_URN}result-replaced",
                title="A result of a model is replaced (its Provenance names the earlier one) or entered in error",
                types=(*_RESULTS, "Provenance"),
                is_event=_is_replaced,
            ),
            Topic(
                url=f"{_URN}no-result",
                title="A model was asked and has no result; the resource says why",
                types=_RESULTS,
                is_event=_is_missing,
            ),
        )
    }
)
"""Canonical URL -> topic."""
