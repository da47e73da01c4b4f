"""The kinds of triggers that a manifest may declare, each with what decides. A new kind is a file and a line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from inference.manifest.records import TriggerKind
from service.triggers import codes, document, schedule, study
from service.triggers.contract import Rule

TRIGGERS: Final[Mapping[TriggerKind, Rule]] = MappingProxyType(
    {
        "codes": codes.RULE,
        "schedule": schedule.RULE,
        "document": document.RULE,
        "study": study.RULE,
    }
)

TYPES: Final = frozenset[str]().union(*(rule.types for rule in TRIGGERS.values()))
"""Every type of resource that a rule looks at."""
