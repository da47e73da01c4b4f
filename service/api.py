"""Ausculta as an ASGI application: stands alone, or is mounted under any path of an existing server.

app.mount("/ausculta", create_app(load(os.environ)))
"""

from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from fhir_adapter.rest.http import HttpSettings, fhir_router
from service.console import console_router
from service.doors.host_names import check_host
from service.doors.opening import Doors
from service.health import health_router
from service.settings import Settings
from service.wiring import House, build, fhir_url

ANYBODY: Final = "anybody on this machine"
"""What the audit calls a client of an open server."""


def application(house: House) -> FastAPI:
    """Return the HTTP side of a house: FHIR, console, health and metrics.

    Parameters
    ----------
    house
        Built, and started by the caller.
    """
    app = FastAPI(title="Ausculta", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.house = house
    settings = house.settings

    def identify(request: Request) -> str:
        """Tell who asks: with AUTH=open nobody has a name, but the request must be meant for this server."""
        check_host(request, settings.public_url)
        return ANYBODY

    fhir = HttpSettings(version=version("ausculta"), public_base=fhir_url(settings), identify=identify)
    app.include_router(fhir_router(house.interactions, house.ids, fhir))
    app.include_router(health_router(house))
    app.include_router(console_router(house))

    @app.get("/", include_in_schema=False)
    def root(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/console")

    return app


def create_app(settings: Settings) -> FastAPI:
    """Build and start a whole Ausculta, its MLLP and DICOM doors included, as one ASGI application.

    The worker and the doors run on threads of this process from now on. ``app.state.close()`` stops them; a process
    that ends without calling it loses nothing that was acknowledged.

    Raises
    ------
    Problem
        When the data folder, the database or a port cannot be used.
    """
    house = build(settings)
    doors = Doors(house)
    house.start()
    doors.open()
    app = application(house)

    def close() -> None:
        doors.close()
        house.close()

    app.state.close = close
    return app
