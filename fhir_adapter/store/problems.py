"""Problems for which FHIR is more specific than the nine categories of ``kernel.errors`` (FHIR R4, http.html).

Problem
  Invalid (incorrect)             JSON, but not a valid R4 resource: one issue for each fault
  Gone (not-found)                the resource has been deleted
  PatchFailed (incorrect)         a patch that does not fit what is stored
  TooCostly (incorrect)           more matches, bytes or seconds than one answer may take
  PreconditionFailed (conflict)   If-Match, or a condition that several resources match
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One fault of a resource, described without repeating its content."""

    #: ``OperationOutcome.issue.code`` (value set issue-type).
    code: str
    #: What is wrong; names rules and elements, never values.
    text: str
    #: FHIRPath of the element, such as ``Observation.component[0].code``.
    expression: str
    #: ``error``, ``warning`` or ``information``; only ``$validate`` has the others.
    severity: str = "error"


class Invalid(Problem):
    """The content is not a valid R4 resource.

    Parameters
    ----------
    issues
        The faults, at least one.
    """

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__(Category.INCORRECT, f"not a valid FHIR R4 resource: {issues[0].text} ({issues[0].expression})")
        self.issues = tuple(issues)


class Gone(Problem):
    """The resource has been deleted."""

    def __init__(self) -> None:
        super().__init__(Category.NOT_FOUND, "the resource has been deleted")


class PatchFailed(Problem):
    """A patch that does not fit what is stored.

    Parameters
    ----------
    detail
        Why it does not; names no value.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Category.INCORRECT, detail)


class TooCostly(Problem):
    """An answer that would take more than one client may cost the others.

    Parameters
    ----------
    detail
        Which limit it would exceed.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Category.INCORRECT, detail)


class PreconditionFailed(Problem):
    """A condition of the request does not hold."""

    def __init__(self, detail: str) -> None:
        super().__init__(Category.CONFLICT, detail)
