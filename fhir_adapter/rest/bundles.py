"""Bundles of answers: search results, histories and responses, joined from stored bytes without parsing them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson

from fhir_adapter.store.document import Json, instant
from fhir_adapter.store.versions import StoredVersion


class Found(NamedTuple):
    """One entry of a searchset; a tuple, because a page has many."""

    #: Absolute URL.
    url: str
    #: Stored JSON.
    content: bytes
    #: Why it is there: it matches, or it was included.
    mode: Literal["match", "include"] = "match"


def searchset(
    found: Sequence[Found],
    *,
    self_link: str,
    next_link: str | None,
    total: int | None = None,
    ignored: Sequence[str] = (),
) -> bytes:
    """Build a page of search results (R4, bundle.html#searchset).

    Parameters
    ----------
    found
        Matches and what was included.
    self_link
        URL of the search with the parameters that were applied.
    next_link
        URL of the next page; None on the last.
    total
        How many resources match on all pages; None when it was not counted.
    ignored
        Names of the parameters that were not applied.
    """
    links = [{"relation": "self", "url": self_link}]
    if next_link:
        links.append({"relation": "next", "url": next_link})
    entries: list[Json] = [
        {"fullUrl": it.url, "resource": orjson.Fragment(it.content), "search": {"mode": it.mode}} for it in found
    ]
    if ignored:
        entries.append({"resource": _ignored(len(ignored)), "search": {"mode": "outcome"}})
    return _bundle("searchset", entries, **({} if total is None else {"total": total}), link=links)


def _ignored(number: int) -> Json:
    text = f"{number} search parameters are not supported and were ignored; the self link holds the others"
    issue = {"severity": "warning", "code": "not-supported", "details": {"text": text}}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def history(versions: Sequence[StoredVersion], *, base: str, self_link: str, next_link: str | None) -> bytes:
    """Build a page of a history (R4, http.html#history).

    Parameters
    ----------
    versions
        Versions of the page, newest first.
    base
        Base URL of the API, to which ``/type/id`` is appended.
    self_link
        URL of this page.
    next_link
        URL of the next page; None on the last.
    """
    links = [{"relation": "self", "url": self_link}]
    if next_link:
        links.append({"relation": "next", "url": next_link})
    return _bundle("history", [_past(version, base) for version in versions], link=links)


def response(kind: str, entries: Sequence[Json]) -> bytes:
    """Build the answer to a transaction or batch.

    Parameters
    ----------
    kind
        ``transaction-response`` or ``batch-response``.
    entries
        Entries of the Bundle, in the order of the request.
    """
    return _bundle(kind, entries)


def response_entry(
    status: str, *, location: str | None = None, etag: str | None = None, modified: datetime | None = None
) -> Json:
    """Build one entry of the answer to a transaction or batch; fields that are None are left out.

    Parameters
    ----------
    status
        HTTP status, such as ``201``.
    location
        URL of the version that was written.
    etag
        ETag of the version that was written or read.
    modified
        When the version was stored; aware.
    """
    fields = {
        "status": status,
        "location": location,
        "etag": etag,
        "lastModified": instant(modified) if modified else None,
    }
    return {"response": {key: value for key, value in fields.items() if value is not None}}


def _past(version: StoredVersion, base: str) -> Json:
    method = "DELETE" if version.deleted else "POST" if version.version == 1 else "PUT"
    url = f"{version.type}/{version.id}"
    status = {"DELETE": "204", "POST": "201", "PUT": "200"}[method]
    entry: Json = {"fullUrl": f"{base}/{url}"}
    if not version.deleted:
        entry["resource"] = orjson.Fragment(version.content)
    entry["request"] = {"method": method, "url": version.type if method == "POST" else url}
    return entry | response_entry(status, etag=version.etag, modified=version.last_updated)


def _bundle(kind: str, entries: Sequence[Json], **more: Any) -> bytes:
    bundle = {"resourceType": "Bundle", "type": kind, **more}
    return orjson.dumps(bundle | {"entry": entries} if entries else bundle)
