"""The pages about what is held because the patient's identity is in doubt."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.console.pages import Pages, back_to
from service.console.request import Asker, Form
from service.console.services import ConsoleServices
from service.identity_holds import DECIDES
from service.operations import identity as operations


def add_identity(router: APIRouter, services: ConsoleServices, pages: Pages) -> None:
    """Add the list, the page of one hold, and the two decisions.

    Parameters
    ----------
    router
        Of the console.
    services
        What the pages need.
    pages
        Render them.
    """
    holds, context = services.data.holds, services.operations

    @router.get("/identity")
    def identity(request: Request) -> Response:
        with services.data.database.read() as connection:
            waiting, total = holds.listing(connection, "open"), holds.open_count(connection)
            decided = [one for state in DECIDES for one in holds.listing(connection, state)]
        return pages.render(request, "identity.html", waiting=waiting, total=total, decided=decided)

    @router.get("/identity/{hold}")
    def identity_hold(request: Request, hold: str, asker: Asker) -> Response:
        opened = operations.open_hold(context, asker, hold)
        return pages.render(request, "identity_hold.html", page=opened, decides=DECIDES)

    @router.post("/identity/{hold}/accept")
    def accept_identity(request: Request, hold: str, asker: Asker, given: Form) -> Response:
        operations.accept(context, asker, hold, given.get("reason", ""))
        return back_to(request, "/console/identity")

    @router.post("/identity/{hold}/reject")
    def reject_identity(request: Request, hold: str, asker: Asker, given: Form) -> Response:
        operations.reject(context, asker, hold, given.get("reason", ""))
        return back_to(request, "/console/identity")
