"""The FHIR API over HTTP (FHIR R4, http.html): one endpoint that reads a complete request and always answers it.

Clients are slow, so requests are read on the event loop. A small request is also carried out there and awaits its
commit without a thread; a large one, a Bundle or a search goes to a thread, so that nobody else waits for it. Every
error is answered with an OperationOutcome, and every answer has the request's ``X-Request-Id``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from fhir_adapter.rest.answers import FHIR_JSON, answer_of, encoded
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.bodies import CLOSE, read_body
from fhir_adapter.rest.capability import statement
from fhir_adapter.rest.exchange import HttpAnswer, HttpRequest
from fhir_adapter.rest.exports import FILE
from fhir_adapter.rest.headers import answers_json
from fhir_adapter.rest.openapi import STATED, document
from fhir_adapter.rest.outcome import HttpProblem, outcome, status_of
from fhir_adapter.rest.routes import AUDIT_INTERACTIONS, ROUTES, InteractionRequest, Route
from fhir_adapter.rest.sites import refuse_other_sites
from fhir_adapter.rest.steps import Call, Refused, Reply, Step
from fhir_adapter.store.prepare import RESOURCE_ID
from kernel.clock import Ids
from kernel.db import TookLong
from kernel.errors import Category, Problem, as_problem
from kernel.log import get_logger
from privacy.authorize import Interaction
from privacy.authorize import Request as Authorization
from privacy.principal import Principal

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
LONGEST_QUERY: Final = 16 * 1024
"""Most characters after the question mark of an address; a longer search is sent as a form."""
_PACKAGES: Final = frozenset({"service", "fhir_adapter", "inference", "privacy", "kernel"})
"""What the code of this software is in, as far as a request passes it."""

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """The limits, addresses and names of the endpoint."""

    #: Version of the software, for ``/metadata``.
    version: str = "0"
    #: Base URL that peers use; when empty, the URL that each request was sent to.
    public_base: str = ""
    #: Largest body, in bytes.
    largest_body: int = 16 * 2**20
    #: Longest time for a body to arrive, in seconds.
    body_seconds: float = 30.0
    #: Returns the name of a request's client, of its headers; None for an open server.
    identify: Callable[[Mapping[str, str]], str] | None = None


def fhir_route(
    backend: Backend, ids: Ids, settings: HttpSettings | None = None, *, prefix: str = "/fhir"
) -> "FhirRoute":
    """Build the route of one FHIR API: all paths below ``prefix``, in one step.

    Parameters
    ----------
    backend
        The parts of the API.
    ids
        Source of ids for requests without ``X-Request-Id``.
    settings
        Limits, addresses and names.
    prefix
        Path of the API, without a final slash.
    """
    return FhirRoute(_Endpoint(backend, ids, settings or HttpSettings()), prefix)


class FhirRoute(BaseRoute):
    """Every method and path below a prefix; the table of interactions does the rest."""

    def __init__(self, endpoint: "_Endpoint", prefix: str) -> None:
        self._endpoint = endpoint
        self._prefix = prefix

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Take every HTTP request whose path is the prefix or below it."""
        return (Match.NONE if self._below(scope) is None else Match.FULL), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Parameters
        ----------
        scope, receive, send
            As ASGI gives them.
        """
        await self.answered(scope, receive, send)

    async def answered(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer one request if it is for this API, and return whether it is.

        Parameters
        ----------
        scope, receive, send
            As ASGI gives them.
        """
        path = self._below(scope)
        if path is None:
            return False
        await self._endpoint.answer(HttpRequest(scope, receive, path), send)
        return True

    def _below(self, scope: Scope) -> str | None:
        """Return the path below the prefix; None for what is not a request of this API."""
        if scope["type"] != "http":
            return None
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith(self._prefix):
            return None
        below = path[len(self._prefix) :]
        return None if below and below[0] != "/" else below[1:]


class _Endpoint:
    def __init__(self, backend: Backend, ids: Ids, settings: HttpSettings) -> None:
        self._backend = backend
        self._ids = ids
        self._settings = settings
        self._limits = settings.largest_body, settings.body_seconds

    async def answer(self, request: HttpRequest, send: Send) -> None:
        """Answer one request."""
        offered = request.headers.get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else self._ids.new()
        try:
            answer = await self._answer_or_refuse(request, request_id)
        except ClientDisconnect:
            answer = HttpAnswer(status=400)  # the client has disconnected
        except Exception as failure:  # noqa: BLE001 - the boundary: every exception becomes an answer
            answer = _failure(failure, request_id)
        await (await encoded(answer, request.headers, pretty=request.pretty)).send(send, request_id)

    async def _answer_or_refuse(self, request: HttpRequest, request_id: str) -> HttpAnswer:
        """Answer a request; a refusal is recorded in the audit log first, and the connection ends with it."""
        try:
            return await self._answer(request, request_id)
        except Refused as refused:
            await self._backend.record_async(refused.event)
            headers = CLOSE if request.method in {"POST", "PUT", "PATCH"} else {}
            raise HttpProblem(status_of(refused), refused.category, refused.detail, headers=headers) from refused

    async def _answer(self, request: HttpRequest, request_id: str) -> HttpAnswer:
        refuse_other_sites(request.method, request.headers, self._settings.public_base)
        if len(request.query) > LONGEST_QUERY:
            raise HttpProblem(414, Category.INCORRECT, f"what follows ? may have {LONGEST_QUERY} characters")
        if not request.path.startswith(FILE):
            answers_json(request.headers.get("accept", ""), request.format)
        segments = tuple([part for part in request.path.split("/") if part])
        method = "GET" if request.method == "HEAD" else request.method
        base = self._settings.public_base or request.base
        if len(segments) == 1 and segments[0] in STATED and method != "OPTIONS":
            if method != "GET":
                raise _not_allowed({"GET"})
            return self._stated(segments[0], self._principal(request, request_id), base)
        if method == "OPTIONS":
            return HttpAnswer(status=204, headers=_allow({"OPTIONS", *self._methods(segments)}))
        route, parts = self._route(method, segments)
        principal = self._principal(request, request_id)
        call = Call(principal=principal, base=base, permitted=self._permitted(principal, route, parts))
        body = await read_body(request, route, *self._limits) if route.reads_body else b""
        interaction = InteractionRequest(
            call=call,
            parts=parts,
            query=request.query,
            headers=request.headers,
            body=body,
        )
        step = self._carried_out_here(route, interaction)
        if step is None:
            step = await run_in_threadpool(self._carried_out, route, interaction)
        return answer_of(await self._backend.complete_async(step), interaction.headers, request.method)

    def _stated(self, name: str, principal: Principal, base: str) -> HttpAnswer:
        """Return what the API says of itself."""
        self._backend.require(principal, Authorization(interaction=Interaction.CAPABILITIES))
        state = statement if name == "metadata" else document
        made = state(self._backend.types, base=base, version=self._settings.version)
        return HttpAnswer(status=200, body=orjson.dumps(made), media_type=STATED[name])

    def _carried_out_here(self, route: Route, interaction: InteractionRequest) -> Step | None:
        """Carry a request out on the event loop; None when it is large, or turns out to take long."""
        if route.on_loop_up_to is None or len(interaction.body) > route.on_loop_up_to:
            return None
        if not route.reads_store:
            return route.carry_out(self._backend, interaction)
        if not self._backend.reads_at_once:
            return None
        try:
            with self._backend.briefly():
                return route.carry_out(self._backend, interaction)
        except TookLong:
            return None

    def _carried_out(self, route: Route, interaction: InteractionRequest) -> Reply:
        return self._backend.complete(route.carry_out(self._backend, interaction))

    def _permitted(self, principal: Principal, route: Route, parts: Mapping[str, str]) -> Authorization | None:
        """Return what the principal is permitted before the body is read.

        The answer of a refusal ends the connection: a client that was refused need not send the body, and then it is
        not known where its next request begins.
        """
        if route.before_body is None:
            return None
        request = route.before_body(parts)
        self._backend.require(principal, request)
        return request

    def _route(self, method: str, segments: tuple[str, ...]) -> tuple[Route, Mapping[str, str]]:
        """Return the route of a request; raises 404 or 405."""
        kind = segments[0] if segments else ""
        if self._is_served(kind):
            for route in _BY_METHOD.get((method, len(segments)), ()):
                parts = _parts(route.path, segments)
                if parts is not None and _is_open(kind, route):
                    if not RESOURCE_ID.fullmatch(parts.get("id", "x")):
                        raise Problem(Category.NOT_FOUND, "no resource has an id like this")
                    return route, parts
        raise _not_allowed(self._methods(segments))

    def _methods(self, segments: tuple[str, ...]) -> set[str]:
        """Return the methods of an address; raises 404 when there are none."""
        kind = segments[0] if segments else ""
        fitting = [route for route in ROUTES if _parts(route.path, segments) is not None]
        if len(segments) == 1 and segments[0] in STATED:
            return {"GET"}
        if not fitting or not self._is_served(kind):
            raise HttpProblem(404, Category.UNSUPPORTED, "there is nothing of this FHIR API at this address")
        return {route.method for route in fitting if _is_open(kind, route)}

    def _is_served(self, kind: str) -> bool:
        """Return whether addresses begin like this."""
        return not kind or kind in self._backend.types or kind in _OF_SYSTEM

    def _principal(self, request: HttpRequest, request_id: str) -> Principal:
        identify = self._settings.identify
        return Principal(
            client=identify(request.headers) if identify else "anonymous",
            client_address=request.client,
            server_address=request.server,
            request_id=request_id,
        )


_BY_METHOD: Final[Mapping[tuple[str, int], Sequence[Route]]] = {
    (method, length): [route for route in ROUTES if (route.method, len(route.path)) == (method, length)]
    for method, length in {(route.method, len(route.path)) for route in ROUTES}
}
"""The routes of a method and a number of segments, in the order of the table."""

_OF_SYSTEM: Final = frozenset(route.path[0] for route in ROUTES if route.path and route.path[0][:1] != "{")
"""What the addresses of the system begin with."""


def _is_open(kind: str, route: Route) -> bool:
    """Return whether a route is there for a resource type."""
    return kind != "AuditEvent" or AUDIT_INTERACTIONS.issuperset(route.codes)


def _parts(path: tuple[str, ...], segments: tuple[str, ...]) -> Mapping[str, str] | None:
    """Match segments against a route's path."""
    if len(path) != len(segments):
        return None
    parts: dict[str, str] = {}
    for wanted, found in zip(path, segments, strict=True):
        if wanted.startswith("{") and found[:1] not in {"_", "$"}:
            parts[wanted[1:-1]] = found
        elif wanted != found:
            return None
    return parts


def _failure(failure: Exception, request_id: str) -> HttpAnswer:
    problem = as_problem(failure)
    status = status_of(problem)
    if status >= 500:
        fields = {"request_id": request_id, "category": problem.category, "status": status}
        _log.error("fhir_request_failed", exception=type(failure).__name__, place=_place_of(failure), **fields)
    headers = problem.headers if isinstance(problem, HttpProblem) else {}
    if status in {429, 503}:
        headers = headers | {"Retry-After": "5"}
    body = orjson.dumps(outcome(problem, request_id))
    return HttpAnswer(status=status, body=body, headers=headers, media_type=FHIR_JSON)


def _place_of(failure: BaseException) -> str:
    """Return file and line of the innermost code of this software that an exception passed; nothing it says."""
    root = Path(__file__).parents[2]
    place, trace = "", failure.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _PACKAGES and file.is_relative_to(root):
            place = f"{file.relative_to(root)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _not_allowed(methods: set[str]) -> HttpProblem:
    return HttpProblem(405, Category.UNSUPPORTED, "this cannot be done at this address", headers=_allow(methods))


def _allow(methods: set[str]) -> Mapping[str, str]:
    return {"Allow": ", ".join(sorted({*methods, "HEAD"} if "GET" in methods else methods))}
