"""Makes HTTP answers of replies: what ``Prefer`` asks for, conditional reads, ``_pretty`` and gzip (R4, http.html)."""

import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import orjson
from starlette.concurrency import run_in_threadpool

from fhir_adapter.rest.exchange import HttpAnswer
from fhir_adapter.rest.headers import http_date, preferred_return, same_etag
from fhir_adapter.rest.outcome import success
from fhir_adapter.rest.steps import Reply

FHIR_JSON: Final = "application/fhir+json"
LEAST_COMPRESSED: Final = 4 * 1024
"""A smaller body is sent as it is, in bytes."""
_LARGE: Final = 64 * 1024
"""A larger body is compressed in a thread."""
_LEVEL: Final = 1


def answer_of(reply: Reply, headers: Mapping[str, str], method: str) -> HttpAnswer:
    """Return the answer of a reply.

    Parameters
    ----------
    reply
        What the interaction returned.
    headers
        The headers of the request, their names in lower case.
    method
        Its method.
    """
    made = dict(reply.headers)
    if reply.etag:
        made["ETag"] = reply.etag
    if reply.last_modified:
        made["Last-Modified"] = http_date(reply.last_modified)
    if reply.location:
        made["Location"] = reply.location
    if method in {"GET", "HEAD"} and not_modified(
        reply, headers.get("if-none-match", ""), headers.get("if-modified-since", "")
    ):
        return HttpAnswer(status=304, headers=made)
    if reply.content is not None:
        content = reply.content if method != "HEAD" else iter(())
        return HttpAnswer(
            status=reply.status, content=content, size=reply.size, headers=made, media_type=reply.media_type
        )
    status, body = reply.status, reply.body
    returns = preferred_return(headers.get("prefer", "")) if reply.changed else ""
    if returns == "minimal":
        body = b""
    elif returns == "OperationOutcome":
        status, body = 200 if status == 204 else status, orjson.dumps(success("done"))
    return HttpAnswer(
        status=status, body=body, headers=made, media_type=(reply.media_type or FHIR_JSON) if body else ""
    )


def not_modified(reply: Reply, if_none_match: str, if_modified_since: str) -> bool:
    """Return whether the client has what a read returns (R4, http.html#cread; RFC 9110, section 13.1).

    Parameters
    ----------
    reply
        What the read returned.
    if_none_match
        ``If-None-Match``; when it is there, the other one does not count.
    if_modified_since
        ``If-Modified-Since``, or the instant of a Bundle's entry; what is no date does not count.
    """
    if if_none_match:
        return bool(reply.etag) and same_etag(if_none_match, reply.etag or "")
    if not if_modified_since or reply.last_modified is None:
        return False
    try:
        if if_modified_since[10:11] == "T":
            since = datetime.fromisoformat(if_modified_since)
        else:
            since = parsedate_to_datetime(if_modified_since)
    except (TypeError, ValueError):
        return False
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    # a date of HTTP has no fractions of a second
    return reply.last_modified.replace(microsecond=0) <= since


async def encoded(answer: HttpAnswer, headers: Mapping[str, str], *, pretty: bool) -> HttpAnswer:
    """Return an answer with its body as the client wants it: with line breaks, compressed.

    Parameters
    ----------
    answer
        The answer.
    headers
        The headers of the request.
    pretty
        Whether a person will read it (``_pretty``).
    """
    wants_gzip = len(answer.body) >= LEAST_COMPRESSED and _takes_gzip(headers.get("accept-encoding", ""))
    if not answer.body or not (pretty or wants_gzip):
        return answer
    if len(answer.body) > _LARGE:
        body = await run_in_threadpool(_written, answer.body, pretty, wants_gzip)
    else:
        body = _written(answer.body, pretty, wants_gzip)
    more = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"} if wants_gzip else {}
    return HttpAnswer(status=answer.status, body=body, media_type=answer.media_type, headers={**answer.headers, **more})


def _written(body: bytes, pretty: bool, compress: bool) -> bytes:  # noqa: FBT001 - of a thread
    if pretty:
        body = _indented(body)
    return gzip.compress(body, _LEVEL, mtime=0) if compress else body


def _indented(body: bytes) -> bytes:
    read = json.loads(body, parse_float=orjson.Fragment, parse_int=orjson.Fragment)
    return orjson.dumps(read, option=orjson.OPT_INDENT_2)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in {"gzip", "x-gzip", "*"} and "q=0" not in parameters.replace(" ", "").replace("q=0.", "q="):
            return True
    return False
