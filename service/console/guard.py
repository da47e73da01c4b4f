"""The checks of a request before the console answers it, and the pages for errors.

Two attacks use the browser of a user behind the firewall: a page of another site that posts a form to this server
(CSRF), and a name of another site that resolves to this address (DNS rebinding), so that its page can read answers.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from kernel.errors import Category, Problem, as_problem
from kernel.log import get_logger
from privacy import authorize
from privacy.authorize import Authorizer, Interaction
from privacy.principal import Principal
from service.console.pages import Pages
from service.listeners.host_names import check_host

LARGEST_FORM: Final = 8192
"""Largest body of a form, in bytes."""

FORM_SECONDS: Final = 10.0
"""Longest time for a form's body to arrive, in seconds."""

_log = get_logger(__name__)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def guarded(pages: Pages, authorizer: Authorizer, public_url: str) -> type[APIRoute]:
    """Return the route class of the console.

    Parameters
    ----------
    pages
        Renders the errors.
    authorizer
        Decides who may see a page; the operation that a form requests makes its own decision.
    public_url
        Its host is accepted besides the loopback names.
    """

    class GuardedRoute(APIRoute):
        """Checks the origin of a request, and answers every error with a page."""

        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    check_host(request.headers.get("host", ""), public_url)
                    if request.method == "POST":
                        check_same_origin(request)
                    else:
                        authorizer.require(principal(request), _page(self.name, request))
                    return await handle(request)
                except ClientDisconnect:
                    return Response(status_code=400)  # the client has disconnected
                except Exception as failure:  # noqa: BLE001 - the boundary: every exception becomes a page
                    problem = as_problem(failure)
                    if problem.category is Category.FAULT:
                        _log.error("console_request_failed", failure=problem)
                    return await run_in_threadpool(pages.failure, request, problem)

            return answer

    return GuardedRoute


def _page(name: str, request: Request) -> authorize.Request:
    """Return the request for a page: its name is that of the function, its target that of the path."""
    shown = "/".join(str(value) for value in request.path_params.values())
    return authorize.Request(interaction=Interaction.VIEW, target=name, target_id=shown)


def check_same_origin(request: Request) -> None:
    """Refuse a form that was not sent from a page of this console.

    Every browser sends ``Origin`` with a POST; newer ones also classify the request with ``Sec-Fetch-Site``
    (https://www.w3.org/TR/fetch-metadata/).

    Raises
    ------
    Problem
        ``forbidden``.
    """
    site = request.headers.get("sec-fetch-site")
    origin = urlsplit(request.headers.get("origin", "")).netloc
    if site not in (None, "same-origin") or not origin or origin != request.headers.get("host"):
        raise Problem(Category.FORBIDDEN, "this may only be asked for from a page of this console")


async def form(request: Request) -> Mapping[str, str]:
    """Read a small form (``application/x-www-form-urlencoded``).

    Raises
    ------
    Problem
        ``incorrect`` when it is too large or not UTF-8; ``interrupted`` when it does not arrive.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_FORM:
                    raise Problem(Category.INCORRECT, f"the form is larger than {LARGEST_FORM} bytes")
    except TimeoutError as failure:
        raise Problem(Category.INTERRUPTED, "the form took too long to arrive") from failure
    try:
        return dict(parse_qsl(body.decode(), errors="strict"))
    except ValueError as failure:
        raise Problem(Category.INCORRECT, "the form is not UTF-8") from failure


def principal(request: Request) -> Principal:
    """Return the principal of a request; with ``AUTH=open`` it has an address and no user."""
    server = request.scope.get("server") or ("", None)
    return Principal(
        client="console",
        client_address=request.client.host if request.client else "",
        server_address=str(server[0] or ""),
    )
