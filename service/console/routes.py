"""The console's addresses. Routes are thin: queries read, commands act, pages render.

Opening a result or its pictures is an access to a patient's data: the audit event is durable before the page is sent,
and where it cannot be written the page is not shown. The lists name patients by pseudonym only.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal
from service.application import Application
from service.console import commands, queries
from service.console.guard import form, guarded, principal
from service.console.pages import Pages, back_to, picture

Asker: TypeAlias = Annotated[Principal, Depends(principal)]
Form: TypeAlias = Annotated[Mapping[str, str], Depends(form)]


def console_router(application: Application) -> APIRouter:
    """Return the routes of the console, all below ``/console``.

    Parameters
    ----------
    application
        What is shown.
    """
    pages = Pages(application.clock, application.settings.time_zone)
    router = APIRouter(
        prefix="/console", route_class=guarded(pages, application.settings.public_url), include_in_schema=False
    )
    _add_lists(router, application, pages)
    _add_results(router, application, pages)
    _add_commands(router, application)

    @router.get("/style.css")
    def style() -> Response:
        return pages.style()

    @router.get("/icon.svg")
    def icon() -> Response:
        return pages.icon()

    @router.api_route("/{anything:path}", methods=["GET", "POST"])
    def nothing() -> Response:
        raise Problem(Category.NOT_FOUND, "the console has no such page")

    return router


def _add_lists(router: APIRouter, application: Application, pages: Pages) -> None:
    @router.get("")
    @router.get("/")
    def overview(request: Request) -> Response:
        patient, before = _filters(request)
        found = queries.overview(application, patient=patient, before=before)
        return pages.render(request, "overview.html", page=found, patient=patient, is_first=before is None)

    @router.get("/queue")
    def queue(request: Request) -> Response:
        return pages.render(request, "queue.html", page=queries.queue(application))

    @router.get("/models")
    def models(request: Request) -> Response:
        return pages.render(request, "models.html", models=queries.models(application))

    @router.get("/models/{name}/{version}")
    def model(request: Request, name: str, version: str) -> Response:
        return pages.render(request, "model.html", model=queries.model(application, name, version))

    @router.get("/audit")
    def audit(request: Request) -> Response:
        patient, before = _filters(request)
        found = queries.audit(application, patient=patient, before=before)
        return pages.render(request, "audit.html", page=found, patient=patient, is_first=before is None)


def _add_results(router: APIRouter, application: Application, pages: Pages) -> None:
    @router.get("/results/{result}")
    def result(request: Request, result: str, asker: Asker) -> Response:
        _record_read(application, asker, queries.one_result(application, result))
        return pages.render(request, "result.html", page=queries.result(application, result))

    @router.get("/results/{result}/image.png")
    def image(result: str, asker: Asker) -> Response:
        return _picture(application, asker, result, "image")

    @router.get("/results/{result}/heat-map.png")
    def heat_map(result: str, asker: Asker) -> Response:
        return _picture(application, asker, result, "heat_map")


def _add_commands(router: APIRouter, application: Application) -> None:
    @router.post("/jobs/{job}/replay")
    def replay_job(request: Request, job: str, asker: Asker) -> Response:
        commands.replay_job(application, asker, job)
        return back_to(request, "/console/queue")

    @router.post("/deliveries/{delivery}/replay")
    def replay_delivery(request: Request, delivery: str, asker: Asker) -> Response:
        commands.replay_delivery(application, asker, delivery)
        return back_to(request, "/console/queue")

    @router.post("/models/stop")
    def stop_all(request: Request, asker: Asker, given: Form) -> Response:
        commands.stop_models(application, asker, None, given.get("reason", ""))
        return back_to(request, "/console/models")

    @router.post("/models/{name}/stop")
    def stop(request: Request, name: str, asker: Asker, given: Form) -> Response:
        commands.stop_models(application, asker, name, given.get("reason", ""))
        return back_to(request, "/console/models")

    @router.post("/models/{name}/resume")
    def resume(request: Request, name: str, asker: Asker, given: Form) -> Response:
        commands.resume_models(application, asker, name, given.get("reason", ""))
        return back_to(request, "/console/models")


def _filters(request: Request) -> tuple[str | None, int | None]:
    """Read the patient and the place in the list from a query."""
    patient = request.query_params.get("patient", "").strip()
    before = request.query_params.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 18):
        raise Problem(Category.INCORRECT, "before is the number of a row")
    if patient and "/" not in patient:
        patient = f"Patient/{patient}"
    return patient or None, int(before) if before else None


def _picture(application: Application, asker: Principal, result: str, which: Literal["image", "heat_map"]) -> Response:
    row = queries.one_result(application, result)
    address: str | None = getattr(row, which)
    if address is None:
        raise Problem(Category.NOT_FOUND, "this result has no such picture")
    png = application.blobs.get(address)
    _record_read(application, asker, row, f"#{which.replace('_', '-')}")
    return picture(png)


def _record_read(application: Application, asker: Principal, row: Any, part: str = "") -> None:
    event = balp.read(asker, entity=queries.result_urn(row.id) + part, patient=row.subject, at=application.clock.now())
    application.database.write(lambda tx: application.audit.record(tx, event))
