"""What a request must show before the console answers it, and how whatever goes wrong becomes a page.

Two attacks come through a user's own browser, past every firewall: a foreign page that posts a form here, and a
foreign name that is made to resolve to this address (DNS rebinding) so that its page may read the answers.
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
"""Bytes in a form's body."""

FORM_SECONDS: Final = 10.0
"""For a form's body to arrive."""

_log = get_logger(__name__)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def guarded(pages: Pages, authorizer: Authorizer, public_url: str) -> type[APIRoute]:
    """Return the kind of route that the console is made of.

    Parameters
    ----------
    pages
        Renders the errors.
    authorizer
        Decides who may see a page; a form is decided by the operation that it requests.
    public_url
        By whose host the console may be requested, besides the loopback names.
    """

    class GuardedRoute(APIRoute):
        """Checks where a request comes from, and answers it whatever happens."""

        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    check_host(request, public_url)
                    if request.method == "POST":
                        check_same_origin(request)
                    else:
                        authorizer.require(principal(request), _page(self.name, request))
                    return await handle(request)
                except ClientDisconnect:
                    return Response(status_code=400)  # nobody is there to read it
                except Exception as failure:  # noqa: BLE001 - the rim: whatever was raised becomes a page
                    problem = as_problem(failure)
                    if problem.category is Category.FAULT:
                        _log.error("console_request_failed", failure=problem)
                    return await run_in_threadpool(pages.failure, request, problem)

            return answer

    return GuardedRoute


def _page(name: str, request: Request) -> authorize.Request:
    """Name a page by the function that answers, and what it shows by the path."""
    shown = "/".join(str(value) for value in request.path_params.values())
    return authorize.Request(interaction=Interaction.VIEW, target=name, target_id=shown)


def check_same_origin(request: Request) -> None:
    """Refuse a form that was not sent from a page of this console.

    Every browser sends ``Origin`` with a POST; newer ones also say by ``Sec-Fetch-Site`` what they make of it
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
    """Return who is connected; with ``AUTH=open`` the console knows an address and no name."""
    server = request.scope.get("server") or ("", None)
    return Principal(
        client="console",
        client_address=request.client.host if request.client else "",
        server_address=str(server[0] or ""),
    )
