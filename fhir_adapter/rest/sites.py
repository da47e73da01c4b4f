"""Refuses what a page of another site makes a browser send (Fetch Metadata; RFC 6454, section 7).

A browser in the hospital's network can reach this server for any page that it shows. This API is for programs and for
pages of its own origin. A browser names the origin of the page; other clients name none.
"""

from collections.abc import Mapping

from fhir_adapter.rest.outcome import HttpProblem
from kernel.errors import Category


def refuse_other_sites(method: str, headers: Mapping[str, str], public_base: str) -> None:
    """Return when the request is not one that a page of another site made.

    Parameters
    ----------
    method
        The HTTP method.
    headers
        Header names in lower case.
    public_base
        Base URL that peers use; empty when there is none.

    Raises
    ------
    HttpProblem
        403 when the browser says that the page is of another site, and for a write with another ``Origin``.
    """
    if headers.get("sec-fetch-site", "") == "cross-site":
        raise _refused()
    origin = headers.get("origin")
    if origin is None or method in {"GET", "HEAD", "OPTIONS"}:
        return
    own = {f"{scheme}://{headers.get('host', '')}" for scheme in ("http", "https")}
    if public_base:
        own.add("/".join(public_base.split("/", 3)[:3]))
    if origin.lower() not in {address.lower() for address in own}:
        raise _refused()


def _refused() -> HttpProblem:
    return HttpProblem(403, Category.FORBIDDEN, "a page of another site may not use this API")
