"""HTTP headers of a FHIR API: media types, character sets, ETags and dates (FHIR R4, http.html#mime-type)."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from fhir_adapter.patch.read import JSON_PATCH
from fhir_adapter.rest.outcome import HttpProblem
from kernel.errors import Category

JSON_TYPES: Final = frozenset(
    {"application/fhir+json", "application/json", "text/json", "application/json+fhir", "json"}
)
FORM_TYPES: Final = frozenset({"application/x-www-form-urlencoded"})
PATCH_TYPES: Final = JSON_TYPES | {JSON_PATCH}
_RETURN: Final = re.compile(r"(?:\A|[,;\s])return\s*=\s*\"?(minimal|representation|OperationOutcome)\"?(?=\Z|[,;\s])")
_ANY: Final = frozenset({"*/*", "application/*"})


def answers_json(accept: str, wanted_format: str) -> None:
    """Check that the client accepts an answer in JSON.

    Parameters
    ----------
    accept
        Value of ``Accept``; empty when absent.
    wanted_format
        Value of ``_format``, which takes precedence over ``Accept``; empty when absent.

    Raises
    ------
    HttpProblem
        406 when neither JSON nor any type is accepted.
    """
    if not accept and not wanted_format:
        return
    offers = wanted_format.replace(" ", "+") or accept or "*/*"
    types = {part.split(";", 1)[0].strip().lower() for part in offers.split(",")}
    if not types & (JSON_TYPES | _ANY):
        raise HttpProblem(406, Category.UNSUPPORTED, "this server answers in application/fhir+json")


def preferred_return(prefer: str) -> str:
    """Return what ``Prefer`` asks a change to return: a value of R4's, empty when it asks for nothing."""
    found = _RETURN.search(prefer) if prefer else None
    return found[1] if found else ""


def check_content_type(value: str, wanted: Collection[str] = JSON_TYPES) -> str:
    """Check that a body is of a type that is expected, in UTF-8 and of FHIR R4.

    Parameters
    ----------
    value
        Value of ``Content-Type``.
    wanted
        The media types that are expected.

    Returns
    -------
    str
        The media type.

    Raises
    ------
    HttpProblem
        415 for another media type, character set or FHIR version.
    """
    kind, *parameters = (part.strip().lower() for part in value.split(";"))
    if kind not in wanted:
        raise HttpProblem(415, Category.UNSUPPORTED, f"a body of type {sorted(wanted)[0]} is expected here")
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        text = text.strip('"')
        if name == "charset" and text not in {"utf-8", "utf8"}:
            raise HttpProblem(415, Category.UNSUPPORTED, "FHIR JSON is written in UTF-8")
        if name == "fhirversion" and text not in {"4.0", "4.0.1"}:
            raise HttpProblem(415, Category.UNSUPPORTED, "this server speaks FHIR 4.0.1")
    return kind


def http_date(moment: datetime) -> str:
    """Write an instant as HTTP does (RFC 9110 section 5.6.7)."""
    return _date(int(moment.timestamp()))


@lru_cache(maxsize=64)
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)


def same_etag(header: str, etag: str) -> bool:
    """Return whether ``If-None-Match`` names an ETag, compared weakly (RFC 9110 section 8.8.3.2).

    Parameters
    ----------
    header
        Value of ``If-None-Match``: ETags separated by commas, or ``*``.
    etag
        ETag of the current version.
    """
    named = {part.strip().removeprefix("W/") for part in header.split(",")}
    return "*" in named or etag.removeprefix("W/") in named
