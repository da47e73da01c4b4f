"""The table of the supported search parameters of each type, used by indexing, queries and ``/metadata``.

Names, kinds and meanings are R4's own SearchParameters; a path may name several elements, as ``effective[x]`` does.
``_id``, ``_lastUpdated`` and ``_tag`` apply to every type; the first two need no index.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["token", "reference", "date", "string"]


@dataclass(frozen=True)
class Parameter:
    """One search parameter of one type."""

    #: Name in a query.
    name: str
    #: How its values are indexed and compared.
    kind: Kind
    #: Paths of its elements, with dots between the steps.
    paths: tuple[str, ...]
    #: For a reference: the possible types of an id without a type; the only types indexed when restricted.
    targets: tuple[str, ...] = ()
    #: For a reference: leave out references to other types.
    restrict_to_targets: bool = False


def _patient(*paths: str) -> Parameter:
    return Parameter("patient", "reference", paths, ("Patient",), restrict_to_targets=True)


def _subject(path: str = "subject", *others: str) -> Parameter:
    return Parameter("subject", "reference", (path,), ("Patient", *others))


_IDENTIFIER: Final = Parameter("identifier", "token", ("identifier",))
_STATUS: Final = Parameter("status", "token", ("status",))
_CODE: Final = Parameter("code", "token", ("code",))
_CATEGORY: Final = Parameter("category", "token", ("category",))
_ENCOUNTER: Final = Parameter("encounter", "reference", ("encounter",), ("Encounter",))
_BASED_ON: Final = Parameter("based-on", "reference", ("basedOn",), ("ServiceRequest", "CarePlan"))

ID: Final = "_id"
LAST_UPDATED: Final = "_lastUpdated"
TAG: Final = "_tag"
_TAG: Final = Parameter(TAG, "token", ("meta.tag",))
EVERYWHERE: Final = (Parameter(ID, "token", ("id",)), Parameter(LAST_UPDATED, "date", ("meta.lastUpdated",)), _TAG)
"""Parameters of every type."""

PARAMETERS: Final[Mapping[str, tuple[Parameter, ...]]] = {
    "AuditEvent": (
        Parameter("action", "token", ("action",)),
        Parameter("date", "date", ("recorded",)),
        Parameter("entity", "reference", ("entity.what",), ()),
        Parameter("patient", "reference", ("entity.what",), ("Patient",), restrict_to_targets=True),
    ),
    "Condition": (
        _IDENTIFIER,
        _CODE,
        _CATEGORY,
        _patient("subject"),
        _subject("subject", "Group"),
        _ENCOUNTER,
        Parameter("clinical-status", "token", ("clinicalStatus",)),
        Parameter("onset-date", "date", ("onsetDateTime", "onsetPeriod")),
    ),
    "Device": (
        _IDENTIFIER,
        _STATUS,
        _patient("patient"),
        Parameter("type", "token", ("type",)),
        Parameter("device-name", "string", ("deviceName.name", "type.text")),
        Parameter("model", "string", ("modelNumber",)),
    ),
    "DiagnosticReport": (
        _IDENTIFIER,
        _STATUS,
        _CODE,
        _CATEGORY,
        _patient("subject"),
        _subject("subject", "Group", "Device", "Location"),
        _ENCOUNTER,
        _BASED_ON,
        Parameter("date", "date", ("effectiveDateTime", "effectivePeriod")),
        Parameter("issued", "date", ("issued",)),
        Parameter("result", "reference", ("result",), ("Observation",)),
    ),
    "DocumentReference": (
        _IDENTIFIER,
        _STATUS,
        _CATEGORY,
        _patient("subject"),
        _subject("subject", "Practitioner", "Group", "Device"),
        Parameter("type", "token", ("type",)),
        Parameter("date", "date", ("date",)),
    ),
    "Encounter": (
        _IDENTIFIER,
        _STATUS,
        Parameter("class", "token", ("class",)),
        _patient("subject"),
        _subject("subject", "Group"),
        Parameter("date", "date", ("period",)),
    ),
    "ImagingStudy": (
        _IDENTIFIER,
        _STATUS,
        _patient("subject"),
        _subject("subject", "Device", "Group"),
        _ENCOUNTER,
        Parameter("basedon", "reference", ("basedOn",), ("ServiceRequest",)),
        Parameter("started", "date", ("started",)),
        Parameter("modality", "token", ("series.modality",)),
        Parameter("series", "token", ("series.uid",)),
        Parameter("instance", "token", ("series.instance.uid",)),
    ),
    "Location": (_IDENTIFIER, _STATUS, Parameter("name", "string", ("name", "alias"))),
    "Observation": (
        _IDENTIFIER,
        _STATUS,
        _CODE,
        _CATEGORY,
        Parameter("combo-code", "token", ("code", "component.code")),
        Parameter("component-code", "token", ("component.code",)),
        Parameter("value-concept", "token", ("valueCodeableConcept",)),
        Parameter("data-absent-reason", "token", ("dataAbsentReason",)),
        _patient("subject"),
        _subject("subject", "Group", "Device", "Location"),
        _ENCOUNTER,
        _BASED_ON,
        Parameter("device", "reference", ("device",), ("Device",)),
        Parameter("derived-from", "reference", ("derivedFrom",), ("Observation", "ImagingStudy")),
        Parameter(
            "date", "date", ("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming.event")
        ),
    ),
    "Organization": (_IDENTIFIER, Parameter("name", "string", ("name", "alias"))),
    "Patient": (
        _IDENTIFIER,
        Parameter("name", "string", ("name",)),
        Parameter("family", "string", ("name.family",)),
        Parameter("given", "string", ("name.given",)),
        Parameter("gender", "token", ("gender",)),
        Parameter("birthdate", "date", ("birthDate",)),
    ),
    "Practitioner": (_IDENTIFIER, Parameter("name", "string", ("name",))),
    "Provenance": (
        Parameter("target", "reference", ("target",)),
        Parameter("patient", "reference", ("target",), ("Patient",), restrict_to_targets=True),
        Parameter("recorded", "date", ("recorded",)),
        Parameter("agent", "reference", ("agent.who",), ("Device", "Practitioner", "Organization")),
        Parameter("entity", "reference", ("entity.what",)),
    ),
    "RiskAssessment": (
        _IDENTIFIER,
        _patient("subject"),
        _subject("subject", "Group"),
        _ENCOUNTER,
        Parameter("date", "date", ("occurrenceDateTime", "occurrencePeriod")),
        Parameter("method", "token", ("method",)),
        Parameter("performer", "reference", ("performer",), ("Device", "Practitioner")),
        Parameter("risk", "token", ("prediction.qualitativeRisk",)),
    ),
    "ServiceRequest": (
        _IDENTIFIER,
        _STATUS,
        _CODE,
        _CATEGORY,
        _patient("subject"),
        _subject("subject", "Group", "Device", "Location"),
        _ENCOUNTER,
        Parameter("authored", "date", ("authoredOn",)),
    ),
    "Specimen": (_IDENTIFIER, _STATUS, _patient("subject"), _subject("subject", "Group", "Device", "Substance")),
}
"""Type -> its parameters; every type that is not listed has those of :data:`EVERYWHERE`."""


def indexed(kind: str) -> tuple[Parameter, ...]:
    """Return the parameters for which a type's elements are indexed."""
    return (_TAG, *PARAMETERS.get(kind, ()))


def of(kind: str) -> Mapping[str, Parameter]:
    """Return the parameters of a type by name."""
    return _BY_NAME.get(kind, _COMMON)


_COMMON: Final = {parameter.name: parameter for parameter in EVERYWHERE}
_BY_NAME: Final = {
    kind: _COMMON | {parameter.name: parameter for parameter in parameters} for kind, parameters in PARAMETERS.items()
}
