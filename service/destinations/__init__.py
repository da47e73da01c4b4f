"""The receivers of results: one file for each kind, listed in :data:`KINDS`; a kind has any number of instances.

A destination renders a result into what it sends (pure, at the time of the result, so that every retry sends the same
bytes) and sends it (an effect, from the outbox). Its idempotency keys make a repeated delivery converge at the peer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from kernel.errors import Category, Problem
from service.destinations import dicom, fhir, mllp, webhook
from service.destinations.contract import Destination, Rendered, SiteContext
from service.destinations.leave_out import EVERYTHING_LEAVES, LeaveOut, read_leave_out
from service.destinations.table import DestinationTable

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A destination's name stands in metrics, locks and audit events."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How the instances of one kind are read and built."""

    read: Callable[[DestinationTable], Any]
    build: Callable[[str, Any, SiteContext], Destination]


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "fhir": Kind(read=fhir.read, build=fhir.build),
        "mllp": Kind(read=mllp.read, build=mllp.build),
        "dicom": Kind(read=dicom.read, build=dicom.build),
        "webhook": Kind(read=webhook.read, build=webhook.build),
    }
)
"""Every kind of destination; each kind has the file of its name."""


@dataclass(frozen=True, kw_only=True)
class ConfiguredDestination:
    """One instance, its settings checked."""

    name: str
    kind: str
    settings: Any
    leave_out: LeaveOut = EVERYTHING_LEAVES


def read_destinations(tables: Sequence[Any]) -> tuple[ConfiguredDestination, ...]:
    """Read ``[[destination]]`` tables.

    Raises
    ------
    Problem
        ``incorrect``, naming the destination and the key, for a name that is missing or not unique, an unknown kind,
        and a key that is missing, malformed or unknown.
    """
    configured = tuple(_read(number, table) for number, table in enumerate(tables, start=1))
    check_names(configured)
    return configured


def check_names(configured: Sequence[ConfiguredDestination]) -> None:
    """Refuse two destinations of one name, upper or lower case.

    Raises
    ------
    Problem
        ``incorrect``, with the name.
    """
    names: set[str] = set()
    for one in configured:
        if one.name.casefold() in names:
            raise Problem(Category.INCORRECT, f"there are two destinations named {one.name}")
        names.add(one.name.casefold())


def build_destination(configured: ConfiguredDestination, site: SiteContext) -> Destination:
    """Build one destination.

    Parameters
    ----------
    configured
        Name, kind and checked settings of the instance.
    site
        What the instance may need to know of this server.
    """
    destination = KINDS[configured.kind].build(configured.name, configured.settings, site)
    destination.leave_out = configured.leave_out
    return destination


def _read(number: int, table: Any) -> ConfiguredDestination:
    keys = dict(table) if isinstance(table, Mapping) else {}
    name, kind = keys.pop("name", None), keys.pop("kind", None)
    if not isinstance(name, str) or not name:
        raise Problem(Category.INCORRECT, f"destination number {number} lacks the key name")
    if _NAME.fullmatch(name) is None:
        raise Problem(
            Category.INCORRECT,
            f"destination number {number}: name must be letters, digits, '-', '_' or '.', 64 at most",
        )
    if not isinstance(kind, str) or kind not in KINDS:
        raise Problem(Category.INCORRECT, f"destination {name}: kind must be one of {', '.join(KINDS)}")
    read = DestinationTable(name, keys)
    settings = KINDS[kind].read(read)
    leave_out = read_leave_out(name, read.texts("leave_out"))
    read.finish()
    return ConfiguredDestination(name=name, kind=kind, settings=settings, leave_out=leave_out)


__all__ = [
    "KINDS",
    "ConfiguredDestination",
    "Destination",
    "DestinationTable",
    "Kind",
    "Rendered",
    "SiteContext",
    "build_destination",
    "check_names",
    "read_destinations",
]
