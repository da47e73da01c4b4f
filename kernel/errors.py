"""One vocabulary of errors, and its translation into each protocol.

Below the protocol layers every failure is a :class:`Problem` in one of nine categories. The protocol layers translate a
category into their own form with the tables here: an HTTP status and OperationOutcome issue code (FHIR R4,
http.html#summary), an acknowledgement code (HL7 v2 table 0008), a DIMSE status (DICOM PS3.7 Annex C and PS3.4 Table
B.2-1) and a decision about the job that failed.

    Problem
      incorrect    what was sent cannot be accepted as it is
      not-found    what was requested does not exist
      conflict     what was sent contradicts what is stored
      forbidden    the peer may not do this
      unsupported  this server does not do this
      busy         too much at once; the same request may succeed later
      unavailable  something that this server needs cannot be reached; it may succeed later
      interrupted  the request ended before its answer
      fault        an error of this server
"""

import traceback
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Category(StrEnum):
    """The kind of failure, independent of any protocol."""

    INCORRECT = "incorrect"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    UNSUPPORTED = "unsupported"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    INTERRUPTED = "interrupted"
    FAULT = "fault"


class Decision(StrEnum):
    """What happens to a job that failed with a problem."""

    PARK = "park"
    RETRY = "retry"
    RETRY_THEN_PARK = "retry, then park"


class Problem(Exception):
    """A failure that is reported to a peer.

    Parameters
    ----------
    category
        One of the nine kinds.
    detail
        One sentence that is safe to send to a peer: no PHI, no internals.
    diagnostics
        Text for an engineer on this host; may contain PHI and never leaves the host.
    """

    def __init__(self, category: Category, detail: str, *, diagnostics: str = "") -> None:
        super().__init__(detail)
        self.category = category
        self.detail = detail
        self.diagnostics = diagnostics


class PeerProblem(Problem):
    """A failure that the receiver of a delivery caused or reported.

    Parameters
    ----------
    category
        One of the nine kinds.
    detail
        One sentence that is safe to show: no PHI, none of the peer's own words.
    diagnostics
        The peer's own words, such as an OperationOutcome or an ERR segment; may contain PHI.
    whole
        Whether it concerns everything that is sent to this peer, and not this delivery alone.
    retry_after
        The ``Retry-After`` of the answer, as it was written; empty when there was none.
    """

    def __init__(
        self, category: Category, detail: str, *, diagnostics: str = "", whole: bool = False, retry_after: str = ""
    ) -> None:
        super().__init__(category, detail, diagnostics=diagnostics)
        self.whole = whole
        self.retry_after = retry_after


class ObjectRefused(PeerProblem):
    """A refusal of one kind of object, which says nothing about what else the receiver takes."""


def as_problem(failure: BaseException) -> Problem:
    """Convert any exception to a problem that a protocol layer can report.

    Parameters
    ----------
    failure
        The exception that was raised.

    Returns
    -------
    Problem
        The same object when it is a problem; ``incorrect`` for a ``RecursionError``; otherwise a ``fault`` whose
        detail reveals nothing to a peer.
    """
    if isinstance(failure, Problem):
        return failure
    if isinstance(failure, RecursionError):
        return Problem(Category.INCORRECT, "the input is nested too deeply")
    text = "".join(traceback.format_exception(failure))
    return Problem(Category.FAULT, "internal error", diagnostics=text)


HTTP_STATUS: Final[Mapping[Category, int]] = MappingProxyType(
    {
        Category.INCORRECT: 400,
        Category.NOT_FOUND: 404,
        Category.CONFLICT: 409,
        Category.FORBIDDEN: 403,
        Category.UNSUPPORTED: 501,
        Category.BUSY: 429,
        Category.UNAVAILABLE: 503,
        Category.INTERRUPTED: 503,
        Category.FAULT: 500,
    }
)
"""HTTP status of a category; the FHIR layer refines it where the specification requires 405, 412 or 422."""

ISSUE_CODE: Final[Mapping[Category, str]] = MappingProxyType(
    {
        Category.INCORRECT: "invalid",
        Category.NOT_FOUND: "not-found",
        Category.CONFLICT: "conflict",
        Category.FORBIDDEN: "forbidden",
        Category.UNSUPPORTED: "not-supported",
        Category.BUSY: "throttled",
        Category.UNAVAILABLE: "transient",
        Category.INTERRUPTED: "incomplete",
        Category.FAULT: "exception",
    }
)
"""``OperationOutcome.issue.code`` (FHIR R4 value set issue-type)."""

ACK_CODE: Final[Mapping[Category, str]] = MappingProxyType(
    {
        Category.INCORRECT: "AE",
        Category.NOT_FOUND: "AE",
        Category.CONFLICT: "AE",
        Category.FORBIDDEN: "AR",
        Category.UNSUPPORTED: "AR",
        Category.BUSY: "AR",
        Category.UNAVAILABLE: "AR",
        Category.INTERRUPTED: "AR",
        Category.FAULT: "AR",
    }
)
"""``MSA-1``, HL7 v2 table 0008. AE: the message must be corrected. AR: it may be sent again later or elsewhere."""

DIMSE_STATUS: Final[Mapping[Category, int]] = MappingProxyType(
    {
        Category.INCORRECT: 0xC000,
        Category.NOT_FOUND: 0x0112,
        Category.CONFLICT: 0x0111,
        Category.FORBIDDEN: 0x0124,
        Category.UNSUPPORTED: 0x0122,
        Category.BUSY: 0xA700,
        Category.UNAVAILABLE: 0xA700,
        Category.INTERRUPTED: 0xFE00,
        Category.FAULT: 0x0110,
    }
)
"""C-STORE response status (PS3.4 Table B.2-1, PS3.7 Annex C)."""

JOB_DECISION: Final[Mapping[Category, Decision]] = MappingProxyType(
    {
        Category.INCORRECT: Decision.PARK,
        Category.NOT_FOUND: Decision.PARK,
        Category.CONFLICT: Decision.PARK,
        Category.FORBIDDEN: Decision.PARK,
        Category.UNSUPPORTED: Decision.PARK,
        Category.BUSY: Decision.RETRY,
        Category.UNAVAILABLE: Decision.RETRY,
        Category.INTERRUPTED: Decision.RETRY,
        Category.FAULT: Decision.RETRY_THEN_PARK,
    }
)
"""A job is retried only where waiting can help; in every other case it is parked for a person to decide."""
