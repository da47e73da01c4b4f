"""Validates documents as R4 4.0.1 resources, by :mod:`fhir_adapter.validation` (ADR 0036)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from fhir_adapter.store.document import Document, Json
from fhir_adapter.store.problems import Invalid, Issue
from fhir_adapter.validation.profiles import Profiles
from fhir_adapter.validation.records import Fault
from fhir_adapter.validation.report import report
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4

MOST_ISSUES: Final = 20
"""Largest number of faults that are reported for one resource."""

_FIRST: Final = {"not-supported": 0, "required": 1}
"""What a sender should read first."""


class Validator:
    """Checks documents against R4 4.0.1; one instance is shared.

    Parameters
    ----------
    packages
        Folder of the profiles that the site has added; None for those that are shipped alone.

    Attributes
    ----------
    types
        The resource types that are served: all of R4.
    """

    def __init__(self, packages: Path | None = None) -> None:
        self._checks = Checks(r4())
        self._profiles = Profiles(r4(), packages)
        self.types = self._checks.definitions.resources

    def warm_up(self, types: Iterable[str]) -> None:
        """Compile the checks of ``types`` now, so that the first request does not wait for it."""
        for kind in types:
            self._checks.structure(kind)

    def check(self, document: Document) -> None:
        """Raise unless the document is a valid R4 resource.

        Raises
        ------
        Invalid
            With an issue for each fault, up to :data:`MOST_ISSUES`; none repeats a value that was sent.
        """
        faults = self._checks.resource(document.plain)
        if faults is not None:
            kind = document.type
            raise Invalid(issues(faults, kind if kind in self.types else "Resource"))

    def issues_of(self, resource: Json, profiles: Sequence[str] = ()) -> list[Issue]:
        """Return all that is to be said of a resource by R4 and by profiles; empty when there is nothing.

        Parameters
        ----------
        resource
            Plain JSON.
        profiles
            Canonicals of profiles, beside those in ``meta.profile``.
        """
        kind = str(resource.get("resourceType", ""))
        root = kind if kind in self.types else "Resource"
        return [
            Issue(code=it.code, text=it.text, expression=root + it.path, severity=it.severity)
            for it in report(self._checks, self._profiles, resource, profiles)
        ]


def issues(faults: Iterable[Fault], root: str) -> list[Issue]:
    """Return the issues of faults, those that matter most first.

    Parameters
    ----------
    faults
        What was found in a resource.
    root
        Its type, with which each path begins.
    """
    first = sorted(faults, key=lambda fault: _FIRST.get(fault.code, len(_FIRST)))[:MOST_ISSUES]
    return [Issue(code=fault.code, text=fault.text, expression=root + fault.path) for fault in first]
