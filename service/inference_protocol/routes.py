"""The routes of the Open Inference Protocol over HTTP, and its form of errors: ``{"error": "…"}``."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_adapter.rest.exchange import HttpRequest
from fhir_adapter.rest.outcome import HttpProblem
from fhir_adapter.rest.sites import refuse_other_sites
from inference.catalogue import DeclaredModel
from kernel.errors import HTTP_STATUS, Category, Problem, as_problem
from kernel.log import get_logger
from privacy.principal import Principal
from service.inference_protocol.infer import (
    InferenceServices,
    all_ready,
    authorize,
    find,
    infer,
    metadata,
    record,
    urn,
)

RETRY_AFTER_S: Final = 1
"""Seconds after which a refused request may be sent again."""
_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""The same request may succeed later."""
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MODEL: Final = "/v2/models/{name}"
_VERSION: Final = f"{_MODEL}/versions/{{version}}"

_Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_log = get_logger(__name__)


def inference_routes(services: InferenceServices) -> list[Route]:
    """Return the routes below ``/v2``.

    Parameters
    ----------
    services
        The components that they use.
    """
    protocol = _Protocol(services)
    found = [
        Route("/v2", _answering(protocol.server), methods=["GET"]),
        Route("/v2/health/live", _answering(protocol.live), methods=["GET"]),
        Route("/v2/health/ready", _answering(protocol.ready), methods=["GET"]),
    ]
    for path in (_MODEL, _VERSION):
        found.append(Route(path, _answering(protocol.model), methods=["GET"]))
        found.append(Route(f"{path}/ready", _answering(protocol.model_ready), methods=["GET"]))
        found.append(Route(f"{path}/infer", _answering(protocol.infer), methods=["POST"]))
    return found


class _Protocol:
    def __init__(self, services: InferenceServices) -> None:
        self._services = services
        # Threads of their own: a slow model must not hold up what else runs on threads.
        self._threads = CapacityLimiter(services.at_a_time)
        self._running = 0

    async def server(self, request: Request) -> Response:
        """Name the server."""
        authorize(self._services, self._principal(request), "")
        return _json({"name": "ausculta", "version": self._services.version, "extensions": []})

    async def live(self, request: Request) -> Response:
        """Answer 200 while the process runs."""
        self._principal(request)
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Answer 200 when every active model is loaded, 503 otherwise."""
        self._principal(request)
        ready = await to_thread.run_sync(all_ready, self._services)
        return _json({"ready": ready}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def model(self, request: Request) -> Response:
        """Describe a model."""
        model = await self._model(request, self._principal(request))
        return _json(await to_thread.run_sync(metadata, self._services, model))

    async def model_ready(self, request: Request) -> Response:
        """Answer 200 when a model is loaded and may run, 503 otherwise."""
        model = await self._model(request, self._principal(request))
        ready = self._services.runtime.is_ready(model.row)
        content = {"name": model.row.name, "ready": ready}
        return _json(content, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def infer(self, request: Request) -> Response:
        """Run a model; the answer is given after the call is recorded."""
        refuse_other_sites(request.method, request.headers, self._services.public_url)
        principal = self._principal(request)
        if self._running >= self._services.at_a_time:
            raise Problem(Category.BUSY, "too many requests run")
        self._running += 1
        try:
            return await self._infer(request, principal)
        finally:
            self._running -= 1

    async def _infer(self, request: Request, principal: Principal) -> Response:
        services, name = self._services, request.path_params["name"]
        await self._authorize(principal, name)
        body = await self._body(request)
        found: list[DeclaredModel] = []

        def run() -> bytes:
            found.append(find(services, name, request.path_params.get("version")))
            return infer(services, found[0], body)

        try:
            answer = await to_thread.run_sync(run, limiter=self._threads)
        except Problem as problem:
            if found and problem.category in {Category.UNAVAILABLE, Category.FAULT}:
                await record(services, principal, urn(name, found[0].row.version), problem)
            raise
        await record(services, principal, urn(name, found[0].row.version))
        return _answer(answer)

    async def _authorize(self, principal: Principal, name: str) -> None:
        """Return when the principal may use a model; a refusal is recorded before it is given."""
        try:
            authorize(self._services, principal, name)
        except Problem as problem:
            await record(self._services, principal, urn(name[:64], None), problem)
            raise

    async def _model(self, request: Request, principal: Principal) -> DeclaredModel:
        name, version = request.path_params["name"], request.path_params.get("version")
        await self._authorize(principal, name)
        return await to_thread.run_sync(find, self._services, name, version, limiter=self._threads)

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if "inference-header-content-length" in request.headers:
            raise HttpProblem(415, Category.INCORRECT, "a request is JSON; the binary extension is not supported")
        if kind != "application/json":
            raise HttpProblem(415, Category.INCORRECT, "the Content-Type of a request must be application/json")
        limit, seconds = self._services.largest_body, self._services.body_seconds
        try:
            body = await HttpRequest(request.scope, request.receive, "").body(limit, seconds)
        except TimeoutError as failure:
            raise HttpProblem(408, Category.INTERRUPTED, "the body took too long to arrive") from failure
        if body is None:
            raise HttpProblem(413, Category.INCORRECT, f"a request may have {limit} bytes")
        return body

    def _principal(self, request: Request) -> Principal:
        server = request.scope.get("server") or ("", None)
        return Principal(
            client=self._services.identify(request.headers),
            client_address=request.client.host if request.client else "",
            server_address=str(server[0] or ""),
        )


def _answering(handle: _Handler) -> _Handler:
    """Return a handler that answers every failure in the protocol's form."""

    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except ClientDisconnect:
            return Response(status_code=400)  # the client has disconnected
        except Exception as failure:  # noqa: BLE001 - the boundary: every exception becomes an answer
            problem = as_problem(failure)
            if problem.category is Category.FAULT:
                _log.error("inference_request_failed", failure=problem)
            status = problem.status if isinstance(problem, HttpProblem) else HTTP_STATUS[problem.category]
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status in _LATER else {}
            return _json({"error": problem.detail}, status, headers)

    return answer


def _json(content: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return _answer(orjson.dumps(content), status, headers)


def _answer(body: bytes, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status_code=status, media_type="application/json", headers=_HEADERS | dict(headers or {}))
