"""Every failure as an OperationOutcome, and the HTTP status that goes with it (FHIR R4, operationoutcome.html).

A peer gets only the ``detail`` of a Problem: no text of an exception, and no value that was sent.

    Problem
      HttpProblem   a problem that exists in HTTP only: 404 for a route, 405, 406, 408, 413, 415
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from fhir_adapter.store.document import Json
from fhir_adapter.store.problems import Gone, Invalid, Issue, PatchFailed, PreconditionFailed, TooCostly
from kernel.errors import HTTP_STATUS, ISSUE_CODE, Category, Problem

_REFINED: Final[Mapping[type[Problem], int]] = MappingProxyType(
    {Invalid: 422, Gone: 410, PreconditionFailed: 412, PatchFailed: 422, TooCostly: 403}
)
_CODES: Final[Mapping[int, str]] = MappingProxyType({408: "timeout", 410: "deleted", 413: "too-long"})


class HttpProblem(Problem):
    """A failure of the HTTP exchange itself.

    Parameters
    ----------
    status
        Its HTTP status.
    category, detail
        As for :class:`~kernel.errors.Problem`.
    headers
        Headers that the status requires, such as ``Allow``.
    """

    def __init__(
        self, status: int, category: Category, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(category, detail)
        self.status = status
        self.headers = dict(headers or {})


def status_of(problem: Problem) -> int:
    """Return the HTTP status of a problem (R4, http.html#Status-Codes)."""
    if isinstance(problem, HttpProblem):
        return problem.status
    return _REFINED.get(type(problem), HTTP_STATUS[problem.category])


def outcome(problem: Problem, request_id: str = "") -> Json:
    """Return the OperationOutcome of a problem.

    Parameters
    ----------
    problem
        The problem.
    request_id
        Id by which an engineer finds the request in the log.
    """
    if isinstance(problem, Invalid):
        issues = [_issue(it) for it in problem.issues]
    else:
        severity = "fatal" if problem.category is Category.FAULT else "error"
        code = _CODES.get(status_of(problem), ISSUE_CODE[problem.category])
        code = "too-costly" if isinstance(problem, TooCostly) else code
        issues = [{"severity": severity, "code": code, "details": {"text": problem.detail}}]
    if request_id:
        issues[0]["diagnostics"] = f"X-Request-Id {request_id}"
    return {"resourceType": "OperationOutcome", "issue": issues}


def _issue(issue: Issue) -> Json:
    return {
        "severity": issue.severity,
        "code": issue.code,
        "details": {"text": issue.text},
        "expression": [issue.expression],
    }


def validation(issues: Sequence[Issue]) -> Json:
    """Return the OperationOutcome of ``$validate``; one that finds nothing says so."""
    if not issues:
        return success("nothing is wrong with the resource")
    return {"resourceType": "OperationOutcome", "issue": [_issue(it) for it in issues]}


def success(detail: str) -> Json:
    """Return the OperationOutcome of a success, for ``Prefer: return=OperationOutcome``."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "information", "code": "informational", "details": {"text": detail}}],
    }
