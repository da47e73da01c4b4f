"""The console's addresses. Routes are thin: queries read, operations act, pages render.

Opening a result or its pictures is an access to a patient's data: the audit event is durable before the page is sent,
and where it cannot be written the page is not shown. The lists name patients by pseudonym only.
"""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from inference.artefacts import decode
from kernel.backlog import DeliveryFilter
from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal
from service.console import queries
from service.console.guard import guarded
from service.console.identity_routes import add_identity
from service.console.pages import Pages, back_to, picture
from service.console.request import Asker, Form
from service.console.result_page import result_page
from service.console.services import ConsoleData, ConsoleServices
from service.flows.pictures import mask_png
from service.operations import OperationContext
from service.operations import deliveries as delivery_operations
from service.operations import jobs as job_operations
from service.operations import messages as message_operations
from service.operations import models as model_operations
from service.operations import results as result_operations


def console_router(services: ConsoleServices) -> APIRouter:
    """Return the routes of the console, all below ``/console``.

    Parameters
    ----------
    services
        What they need.
    """
    pages = Pages(services.data.clock, services.time_zone)
    route = guarded(pages, services.operations.authorizer, services.public_url)
    router = APIRouter(prefix="/console", route_class=route, include_in_schema=False)
    _add_lists(router, services.data, pages)
    _add_results(router, services, pages)
    _add_operations(router, services.operations)
    _add_deliveries(router, services.operations, pages)
    _add_messages(router, services.operations)
    add_identity(router, services, pages)

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


def _add_lists(router: APIRouter, data: ConsoleData, pages: Pages) -> None:
    @router.get("")
    @router.get("/")
    def overview(request: Request) -> Response:
        patient, before = _filters(request)
        found = queries.overview(data, patient=patient, before=before)
        return pages.render(request, "overview.html", page=found, patient=patient, is_first=before is None)

    @router.get("/queue")
    def queue(request: Request) -> Response:
        return pages.render(request, "queue.html", page=queries.queue(data))

    @router.get("/models")
    def models(request: Request) -> Response:
        return pages.render(request, "models.html", models=queries.models(data))

    @router.get("/models/{name}/{version}")
    def model(request: Request, name: str, version: str) -> Response:
        return pages.render(request, "model.html", model=queries.model(data, name, version))

    @router.get("/audit")
    def audit(request: Request) -> Response:
        patient, before = _filters(request)
        found = queries.audit(data, patient=patient, before=before)
        return pages.render(request, "audit.html", page=found, patient=patient, is_first=before is None)


def _add_results(router: APIRouter, services: ConsoleServices, pages: Pages) -> None:
    @router.get("/results/{result}")
    def result(request: Request, result: str, asker: Asker) -> Response:
        row = queries.stored_result(services.data, result)
        _record_read(services, asker, row)
        return pages.render(request, "result.html", page=result_page(services.data, row))

    @router.get("/results/{result}/image.png")
    def image(result: str, asker: Asker) -> Response:
        return _picture(services, asker, result, "image")

    @router.get("/results/{result}/heat-map.png")
    def heat_map(result: str, asker: Asker) -> Response:
        return _picture(services, asker, result, "heat_map")

    @router.get("/results/{result}/masks/{name}.png")
    def mask(result: str, name: str, asker: Asker) -> Response:
        return _mask(services, asker, result, name)


def _add_operations(router: APIRouter, context: OperationContext) -> None:
    @router.post("/jobs/{job}/replay")
    def replay_job(request: Request, job: str, asker: Asker) -> Response:
        job_operations.replay_job(context, asker, job)
        return back_to(request, "/console/queue")

    @router.post("/results/{result}/ask-again")
    def ask_again(request: Request, result: str, asker: Asker) -> Response:
        result_operations.ask_again(context, asker, result)
        return back_to(request, "/console/queue")

    @router.post("/models/stop")
    def stop_all(request: Request, asker: Asker, given: Form) -> Response:
        model_operations.stop(context, asker, None, given.get("reason", ""))
        return back_to(request, "/console/models")

    @router.post("/models/resume")
    def resume_all(request: Request, asker: Asker, given: Form) -> Response:
        model_operations.resume(context, asker, None, given.get("reason", ""))
        return back_to(request, "/console/models")

    @router.post("/models/{name}/stop")
    def stop(request: Request, name: str, asker: Asker, given: Form) -> Response:
        model_operations.stop(context, asker, name, given.get("reason", ""))
        return back_to(request, "/console/models")

    @router.post("/models/{name}/resume")
    def resume(request: Request, name: str, asker: Asker, given: Form) -> Response:
        model_operations.resume(context, asker, name, given.get("reason", ""))
        return back_to(request, "/console/models")


def _add_deliveries(router: APIRouter, context: OperationContext, pages: Pages) -> None:
    @router.get("/deliveries/{delivery}")
    def delivery(request: Request, delivery: str, asker: Asker) -> Response:
        opened = delivery_operations.open_delivery(context, asker, delivery)
        return pages.render(request, "delivery.html", delivery=opened.delivery, answer=opened.answer)

    @router.post("/deliveries/replay")
    def replay_deliveries(request: Request, asker: Asker, given: Form) -> Response:
        delivery_operations.replay_all(context, asker, _selection(given, pages.zone))
        return back_to(request, "/console/queue")

    @router.post("/deliveries/{delivery}/replay")
    def replay_delivery(request: Request, delivery: str, asker: Asker) -> Response:
        delivery_operations.replay(context, asker, delivery)
        return back_to(request, "/console/queue")

    @router.post("/deliveries/{delivery}/park")
    def park_delivery(request: Request, delivery: str, asker: Asker, given: Form) -> Response:
        delivery_operations.park(context, asker, delivery, given.get("reason", ""))
        return back_to(request, "/console/queue")

    @router.post("/deliveries/{delivery}/dismiss")
    def dismiss_delivery(request: Request, delivery: str, asker: Asker, given: Form) -> Response:
        delivery_operations.dismiss(context, asker, delivery, given.get("reason", ""))
        return back_to(request, "/console/queue")


def _add_messages(router: APIRouter, context: OperationContext) -> None:
    @router.post("/messages/{message}/dismiss")
    def dismiss_message(request: Request, message: str, asker: Asker, given: Form) -> Response:
        message_operations.dismiss(context, asker, message, given.get("reason", ""))
        return back_to(request, "/console/queue")


def _selection(given: Mapping[str, str], zone: tzinfo) -> DeliveryFilter:
    """Read which deliveries a form selects; an empty field excludes nothing, a time without offset is in ``zone``."""
    text = given.get("since", "").strip()
    try:
        since = datetime.fromisoformat(text) if text else None
    except ValueError as failure:
        raise Problem(Category.INCORRECT, "since must be a date and time, such as 2026-01-15T12:00") from failure
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=zone)
    return DeliveryFilter(
        destination=given.get("destination") or None, category=given.get("category") or None, since=since
    )


def _filters(request: Request) -> tuple[str | None, int | None]:
    """Read the patient and the place in the list from a query."""
    patient = request.query_params.get("patient", "").strip()
    before = request.query_params.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 18):
        raise Problem(Category.INCORRECT, "before is the number of a row")
    if patient and "/" not in patient:
        patient = f"Patient/{patient}"
    return patient or None, int(before) if before else None


def _picture(services: ConsoleServices, asker: Principal, result: str, which: Literal["image", "heat_map"]) -> Response:
    row = queries.stored_result(services.data, result)
    address: str | None = getattr(row, which)
    if address is None:
        raise Problem(Category.NOT_FOUND, "this result has no such picture")
    png = services.blobs.get(address)
    _record_read(services, asker, row, f"#{which.replace('_', '-')}")
    return picture(png)


def _mask(services: ConsoleServices, asker: Principal, result: str, name: str) -> Response:
    row = queries.stored_result(services.data, result)
    found = [one for one in row.artefacts if (one["kind"], one["name"]) == ("mask", name)]
    if not found:
        raise Problem(Category.NOT_FOUND, "this result has no such picture")
    values = decode(found[0]["media_type"], services.blobs.get(found[0]["blob"]))
    _record_read(services, asker, row, f"#{name}")
    return picture(mask_png(values))


def _record_read(services: ConsoleServices, asker: Principal, row: Any, part: str = "") -> None:
    event = balp.read(
        asker, entity=queries.result_urn(row.id) + part, patient=row.subject, at=services.data.clock.now()
    )
    services.data.database.write(lambda tx: services.operations.audit.record(tx, event))
