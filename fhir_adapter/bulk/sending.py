"""Sends many resources to a FHIR server: as transactions of updates, several at a time.

An update names its resource, so sending again changes nothing. A transaction that is refused is sent in halves, down to
the line that is to blame; all others are stored.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from fhir_adapter.bulk.lines import Line
from kernel.errors import Category, Problem

MOST_LINES: Final = 200
"""Resources in one transaction."""
MOST_BYTES: Final = 4 * 2**20
"""Bytes of one transaction, about."""
AT_ONCE: Final = 4
"""Transactions that are sent at the same time."""
PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before each attempt after the first one, when the server is busy or cannot be reached."""
_BUSY: Final = frozenset({408, 429, 502, 503, 504})
_REFUSED: Final = frozenset({400, 404, 409, 410, 412, 413, 422, 501})
HEADERS: Final = {"Content-Type": "application/fhir+json", "Prefer": "return=minimal"}


@dataclass(frozen=True, kw_only=True)
class LineRefused:
    """A line that was not stored."""

    line: Line
    #: An OperationOutcome that says why.
    outcome: dict[str, Any]


class Sender:
    """A client that sends resources.

    Parameters
    ----------
    client
        Connected to the base of the FHIR server.
    pause
        Waits; for tests.
    """

    def __init__(self, client: httpx.Client, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._pause = pause

    def send(self, found: Iterable[Line], stored: Callable[[int], None]) -> Iterator[LineRefused]:
        """Send lines; yield those that are refused, in no order.

        Parameters
        ----------
        found
            The lines. Two with the same id are stored in their order.
        stored
            Called with how many resources were just stored.

        Raises
        ------
        Problem
            ``unavailable`` when the server stays busy or out of reach; ``forbidden`` when it refuses the sender.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sent: dict[Future[list[LineRefused]], Sequence[Line]] = {}
            for batch in _batches(found):
                if isinstance(batch, LineRefused):
                    yield batch
                    continue
                urls = {line.url for line in batch}
                while len(sent) >= AT_ONCE or any(
                    not urls.isdisjoint(it.url for it in other) for other in sent.values()
                ):
                    yield from _finished(sent, stored)
                sent[pool.submit(self._stored, batch)] = batch
            while sent:
                yield from _finished(sent, stored)

    def carry_out(self, content: bytes) -> httpx.Response:
        """POST a Bundle as it is.

        Parameters
        ----------
        content
            A transaction or a batch.

        Raises
        ------
        Problem
            As :meth:`send`.
        """
        return self._post("", content)

    def create(self, kind: str, content: bytes) -> httpx.Response:
        """POST one resource.

        Parameters
        ----------
        kind
            Its type.
        content
            As JSON.

        Raises
        ------
        Problem
            As :meth:`send`.
        """
        return self._post(kind, content)

    def _stored(self, batch: Sequence[Line]) -> list[LineRefused]:
        """Store a batch but for the lines that are refused."""
        answer = self._post("", _transaction(batch))
        if answer.is_success:
            return []
        if answer.status_code not in _REFUSED:
            raise Problem(Category.UNAVAILABLE, f"the server answered {answer.status_code}")
        if len(batch) == 1:
            return [LineRefused(line=batch[0], outcome=_outcome(answer, batch[0]))]
        half = len(batch) // 2
        return self._stored(batch[:half]) + self._stored(batch[half:])

    def _post(self, path: str, content: bytes) -> httpx.Response:
        for pause in (*PAUSES, None):
            try:
                answer = self._client.post(path, content=content, headers=HEADERS)
            except httpx.HTTPError as failure:
                if pause is None:
                    raise Problem(Category.UNAVAILABLE, "the server cannot be reached") from failure
            else:
                if answer.status_code in {401, 403}:
                    raise Problem(Category.FORBIDDEN, "the server does not permit this")
                if answer.status_code not in _BUSY or pause is None:
                    return answer
            self._pause(pause)
        raise AssertionError


def _batches(found: Iterable[Line]) -> Iterator[Sequence[Line] | LineRefused]:
    """Yield lines together, none twice in one batch, and those that cannot be sent."""
    batch: dict[str, Line] = {}
    size = 0
    for line in found:
        if line.problem:
            yield LineRefused(line=line, outcome=refusal(line, "structure", line.problem))
            continue
        if batch and (line.url in batch or len(batch) >= MOST_LINES or size + len(line.content) > MOST_BYTES):
            yield [*batch.values()]
            batch, size = {}, 0
        batch[line.url] = line
        size += len(line.content)
    if batch:
        yield [*batch.values()]


def _finished(
    sent: dict[Future[list[LineRefused]], Sequence[Line]], stored: Callable[[int], None]
) -> Iterator[LineRefused]:
    done, _ = wait(sent, return_when=FIRST_COMPLETED)
    for future in done:
        batch = sent.pop(future)
        refused = future.result()
        stored(len(batch) - len(refused))
        yield from refused


def _transaction(batch: Sequence[Line]) -> bytes:
    written = [
        b'{"resource":' + line.content + b',"request":{"method":"PUT","url":' + orjson.dumps(line.url) + b"}}"
        for line in batch
    ]
    return b'{"resourceType":"Bundle","type":"transaction","entry":[' + b",".join(written) + b"]}"


def _outcome(answer: httpx.Response, line: Line) -> dict[str, Any]:
    """Return what the server said of one line, with the line's number."""
    try:
        issues = answer.json()["issue"]
        said = [
            {key: issue[key] for key in ("code", "details", "diagnostics", "expression") if key in issue}
            for issue in issues
        ]
    except (ValueError, KeyError, TypeError):
        return refusal(line, "processing", f"the server answered {answer.status_code}")
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", **_placed(it, line)} for it in said]}


def _placed(issue: dict[str, Any], line: Line) -> dict[str, Any]:
    said = f"line {line.number}: {issue.get('diagnostics', '')}".removesuffix(": ")
    expressions = [
        str(it).replace("Bundle.entry[0].resource", line.url.partition("/")[0]) for it in issue.get("expression", ())
    ]
    return issue | {"diagnostics": said} | ({"expression": expressions} if expressions else {})


def refusal(line: Line, code: str, why: str) -> dict[str, Any]:
    """Return the OperationOutcome of a line.

    Parameters
    ----------
    line
        The line.
    code
        Of the value set issue-type.
    why
        A sentence without anything of the line.
    """
    issue = {"severity": "error", "code": code, "diagnostics": f"line {line.number}: {why}"}
    return {"resourceType": "OperationOutcome", "issue": [issue]}
