"""Ausculta as an ASGI application, to be run by itself or mounted under any path of an existing application.

app.mount("/ausculta", create_app(load(os.environ)))
"""

import contextlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from fhir_adapter.rest.http import FhirRoute, HttpSettings, fhir_route
from kernel.folder_lock import one_server
from service.addresses import fhir_url
from service.application import Application, build
from service.console import ConsoleData, ConsoleServices, console_router
from service.health import HealthServices, health_router
from service.inference_protocol import InferenceServices, inference_routes
from service.listeners.host_names import check_host
from service.listeners.intake import IntakeListeners
from service.settings import Settings

OPEN_CLIENT: Final = "anybody on this machine"
"""Name of the client in audit events while ``AUTH=open``."""


class HttpApplication(FastAPI):
    """A FastAPI application that hands a FHIR request to its endpoint at once.

    The endpoint answers every failure itself. FastAPI's and Starlette's layers around a route, which do so for the
    others, would cost as much as reading a resource does. Middleware that somebody adds gets FHIR requests too.

    Parameters
    ----------
    fhir
        The route of the FHIR API.
    """

    def __init__(self, fhir: FhirRoute) -> None:
        super().__init__(title="Ausculta", docs_url=None, redoc_url=None, openapi_url=None)
        self._fhir = fhir
        self.router.routes.append(fhir)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.user_middleware or not await self._fhir.answered(scope, receive, send):
            await super().__call__(scope, receive, send)


def http_application(application: Application) -> FastAPI:
    """Return the HTTP side of an application: FHIR, models, console, health and metrics.

    Parameters
    ----------
    application
        The application; the caller starts it.
    """
    settings = application.settings

    def identify(headers: Mapping[str, str]) -> str:
        """Return the client's name, with ``AUTH=open`` always the same, after a check of the Host header."""
        check_host(headers.get("host", ""), settings.public_url)
        return OPEN_CLIENT

    fhir = HttpSettings(version=version("ausculta"), public_base=fhir_url(settings), identify=identify)
    app = HttpApplication(fhir_route(application.fhir, application.ids, fhir))
    app.state.application = application
    app.include_router(health_router(health_services(application)))
    app.include_router(console_router(console_services(application)))
    app.router.routes.extend(inference_routes(inference_services(application, identify)))

    @app.get("/", include_in_schema=False)
    def root(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/console")

    return app


def console_services(application: Application) -> ConsoleServices:
    """Return what the console needs of an application."""
    data = ConsoleData(
        clock=application.clock,
        database=application.database,
        jobs=application.jobs,
        outbox=application.outbox,
        results=application.results,
        holds=application.holds,
        store=application.store,
        catalogue=application.catalogue,
        destinations=tuple(application.destinations),
    )
    return ConsoleServices(
        data=data,
        blobs=application.blobs,
        operations=application.operations,
        time_zone=application.settings.time_zone,
        public_url=application.settings.public_url,
    )


def health_services(application: Application) -> HealthServices:
    """Return what health and metrics need of an application."""
    return HealthServices(
        clock=application.clock,
        database=application.database,
        jobs=application.jobs,
        results=application.results,
        holds=application.holds,
        heartbeat=application.worker.heartbeat,
    )


def inference_services(application: Application, identify: Callable[[Mapping[str, str]], str]) -> InferenceServices:
    """Return what the Open Inference Protocol needs of an application.

    Parameters
    ----------
    application
        The application.
    identify
        Returns the name of a request's client, of its headers.
    """
    return InferenceServices(
        clock=application.clock,
        database=application.database,
        audit=application.audit,
        authorizer=application.authorizer,
        catalogue=application.catalogue,
        runtime=application.runtime,
        deadline_s=application.settings.model_deadline_s,
        version=version("ausculta"),
        public_url=application.settings.public_url,
        identify=identify,
    )


def create_app(settings: Settings) -> FastAPI:
    """Build and start a complete server, its MLLP and DICOM listeners included, as one ASGI application.

    The worker and the listeners run on threads of this process from now on: ``WORKER_PROCESSES`` and
    ``HTTP_PROCESSES`` are those of ``ausculta serve``. ``app.state.close()`` stops them; a process
    that ends without this call loses nothing that was acknowledged.

    Raises
    ------
    Problem
        When the data folder, the database or a port cannot be used, or another server uses the folder.
    """
    with contextlib.ExitStack() as held:
        held.enter_context(one_server(settings.data_dir))
        application = build(settings)
        held.callback(application.close)
        listeners = IntakeListeners(application)
        application.start()
        listeners.open()
        held.callback(listeners.close)
        app = http_application(application)
        close = held.pop_all().close
    app.state.close = close
    return app
