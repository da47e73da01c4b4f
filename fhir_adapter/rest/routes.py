"""The table of all routes: requests are dispatched with it, and ``/metadata`` is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from fhir_adapter.bulk.request import Level, of_parameters, of_query
from fhir_adapter.rest import (
    everything,
    exports,
    histories,
    operations,
    reads,
    searches,
    subscriptions,
    transactions,
    writes,
)
from fhir_adapter.rest.access import of_instance
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.headers import FORM_TYPES, JSON_TYPES, PATCH_TYPES, check_content_type, preferred_return
from fhir_adapter.rest.outcome import HttpProblem
from fhir_adapter.rest.steps import Call, Step
from fhir_adapter.store.document import parse
from fhir_adapter.store.write import Target
from kernel.errors import Category, Problem
from privacy.authorize import Interaction, Request


@dataclass(frozen=True, kw_only=True)
class InteractionRequest:
    """One complete request."""

    call: Call
    #: Values of the placeholders in the path.
    parts: Mapping[str, str]
    #: What follows the question mark.
    query: str
    #: Header names in lower case.
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Route:
    """One interaction and the request that selects it (R4, http.html#summary)."""

    #: Codes of the interactions: value sets type-restful-interaction and system-restful-interaction.
    codes: tuple[str, ...]
    #: Whether ``/metadata`` states it as an interaction of each type, as one of the system, or as an operation.
    level: Literal["type", "system", "operation"]
    method: str
    #: Path segments; ``{…}`` is a placeholder.
    path: tuple[str, ...]
    #: Whether the request has a FHIR body.
    reads_body: bool
    carry_out: Callable[[Backend, InteractionRequest], Step]
    #: Makes what is authorized before the body is read from the values of the placeholders; None where there is no
    #: body, or where the body is what says what is requested (a search by form).
    before_body: Callable[[Mapping[str, str]], Request] | None = None
    #: The body up to which it is carried out on the event loop; a larger one, or any with None, goes to a thread.
    on_loop_up_to: int | None = None
    #: Whether it reads what is stored before anything is committed.
    reads_store: bool = True
    #: URL of the definition of an operation.
    definition: str = ""
    #: Media types of the body.
    media_types: frozenset[str] = JSON_TYPES


def _creation(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.CREATE, parts["type"], "")


def _update_of(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.UPDATE, parts["type"], parts.get("id", ""))


def _patch_of(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.PATCH, parts["type"], parts.get("id", ""))


def _any_bundle(_parts: Mapping[str, str]) -> Request:
    return Request(interaction=Interaction.BUNDLE)


def _refuse_query(request: InteractionRequest) -> None:
    """Refuse parameters that R4 does not define for an interaction: to ignore them is to do something else."""
    names = {part.partition("=")[0] for part in request.query.split("&") if part}
    if not names <= {"_format", "_pretty"}:
        detail = "this interaction takes no parameters but _format and _pretty; a condition is sent in If-None-Exist"
        raise Problem(Category.INCORRECT, detail)


def _create(backend: Backend, request: InteractionRequest) -> Step:
    _refuse_query(request)
    return writes.create(
        backend, request.call, request.parts["type"], request.body, if_none_exist=request.headers.get("if-none-exist")
    )


def _update(backend: Backend, request: InteractionRequest) -> Step:
    headers = request.headers
    return writes.update(
        backend,
        request.call,
        _target(request),
        request.body,
        if_match=headers.get("if-match"),
        if_none_match=headers.get("if-none-match"),
    )


def _patch(backend: Backend, request: InteractionRequest) -> Step:
    media_type = check_content_type(request.headers.get("content-type", ""), PATCH_TYPES)
    if_match = request.headers.get("if-match")
    return writes.patch(backend, request.call, _target(request), request.body, media_type, if_match=if_match)


def _delete(backend: Backend, request: InteractionRequest) -> Step:
    return writes.delete(backend, request.call, _target(request), if_match=request.headers.get("if-match"))


def _target(request: InteractionRequest) -> Target:
    """Return what a change names: a resource by its id, or by the condition after the question mark."""
    if "id" not in request.parts:
        return Target(type=request.parts["type"], query=request.query)
    _refuse_query(request)
    return Target(type=request.parts["type"], id=request.parts["id"])


def _read(backend: Backend, request: InteractionRequest) -> Step:
    view = reads.view_of(request.query)
    return reads.read(backend, request.call, request.parts["type"], request.parts["id"], view=view)


def _vread(backend: Backend, request: InteractionRequest) -> Step:
    version = request.parts["version"]
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise Problem(Category.NOT_FOUND, "there is no such version")
    view = reads.view_of(request.query)
    return reads.read(backend, request.call, request.parts["type"], request.parts["id"], int(version), view=view)


def _history(backend: Backend, request: InteractionRequest) -> Step:
    return histories.history(backend, request.call, request.parts["type"], request.parts["id"], request.query)


def _history_of_type(backend: Backend, request: InteractionRequest) -> Step:
    return histories.history_of_type(backend, request.call, request.parts.get("type", ""), request.query)


def _search(backend: Backend, request: InteractionRequest) -> Step:
    return searches.search(backend, request.call, request.parts["type"], request.query, lenient=_is_lenient(request))


def _search_compartment(backend: Backend, request: InteractionRequest) -> Step:
    kind = request.parts["member"]
    if kind not in backend.types:
        raise Problem(Category.NOT_FOUND, "there is no such resource type")
    lenient, patient = _is_lenient(request), request.parts["id"]
    return searches.search(backend, request.call, kind, request.query, lenient=lenient, patient=patient)


def _everything(backend: Backend, request: InteractionRequest) -> Step:
    return everything.everything(backend, request.call, request.parts["id"], request.query)


def _last(backend: Backend, request: InteractionRequest) -> Step:
    return everything.last(backend, request.call, request.query)


def _subscription_status(backend: Backend, request: InteractionRequest) -> Step:
    return subscriptions.status(backend, request.call, request.parts.get("id", ""), request.query)


def _subscription_events(backend: Backend, request: InteractionRequest) -> Step:
    return subscriptions.events(backend, request.call, request.parts["id"], request.query)


def _is_lenient(request: InteractionRequest) -> bool:
    return "handling=lenient" in request.headers.get("prefer", "").replace(" ", "")


def _search_form(backend: Backend, request: InteractionRequest) -> Step:
    if len(request.body) > _SMALL:
        raise HttpProblem(413, Category.INCORRECT, f"a form may have {_SMALL} bytes")
    try:
        form = request.body.decode()
    except UnicodeDecodeError as failure:
        raise Problem(Category.INCORRECT, "the form is not UTF-8") from failure
    both = "&".join(part for part in (request.query, form) if part)
    return searches.search(backend, request.call, request.parts["type"], both, lenient=_is_lenient(request))


def _bundle(backend: Backend, request: InteractionRequest) -> Step:
    _refuse_query(request)
    returns = preferred_return(request.headers.get("prefer", ""))
    return transactions.bundle(backend, request.call, request.body, returns=returns)


def _validate(backend: Backend, request: InteractionRequest) -> Step:
    kind, resource_id = request.parts["type"], request.parts.get("id", "")
    return operations.validate(backend, request.call, kind, resource_id, request.query, request.body)


def _validation(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.VALIDATE, parts["type"], parts.get("id", ""))


def _export(level: Level) -> Callable[[Backend, InteractionRequest], Step]:
    """Return the kick-off of exports of a level, by GET or by POST."""

    def carry_out(backend: Backend, request: InteractionRequest) -> Step:
        given = of_parameters(parse(request.body).plain) if request.body else of_query(request.query)
        address = "/".join(part for part in (_PLACES[level], request.parts.get("id", ""), "$export") if part)
        if request.query and not request.body:
            address += f"?{request.query}"
        return exports.kick_off(backend, request.call, level, given, request.headers.get("prefer", ""), address=address)

    return carry_out


_PLACES: Final[Mapping[Level, str]] = {"system": "", "patient": "Patient", "group": "Group"}


def _of_export(level: Level) -> Callable[[Mapping[str, str]], Request]:
    return lambda parts: exports.of_export(level, parts.get("id", ""))


def _export_routes(level: Level, path: tuple[str, ...], definition: str) -> tuple[Route, Route]:
    """Return the two routes of one kick-off."""
    by_get = Route(
        codes=("export",),
        level="operation",
        method="GET",
        path=path,
        reads_body=False,
        carry_out=_export(level),
        definition=f"http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{definition}",
    )
    return by_get, replace(by_get, method="POST", reads_body=True, before_body=_of_export(level))


def _export_status(backend: Backend, request: InteractionRequest) -> Step:
    return exports.status(backend, request.call, request.parts["id"])


def _cancel_export(backend: Backend, request: InteractionRequest) -> Step:
    return exports.cancel(backend, request.call, request.parts["id"])


def _export_file(backend: Backend, request: InteractionRequest) -> Step:
    return exports.file(backend, request.call, request.parts["id"], request.parts["name"])


_SMALL: Final = 64 * 1024
"""A resource of this size is validated in a millisecond or two, bytes."""

_TYPE: Final = ("{type}",)
_INSTANCE: Final = ("{type}", "{id}")
_BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/"
_HISTORY: Final = ("{type}", "{id}", "_history")

ROUTES: Final = (
    Route(
        codes=("create",),
        level="type",
        method="POST",
        path=_TYPE,
        reads_body=True,
        carry_out=_create,
        on_loop_up_to=_SMALL,
        reads_store=False,
        before_body=_creation,
    ),
    Route(
        codes=("read",), level="type", method="GET", path=_INSTANCE, reads_body=False, carry_out=_read, on_loop_up_to=0
    ),
    Route(
        codes=("vread",),
        level="type",
        method="GET",
        path=(*_HISTORY, "{version}"),
        reads_body=False,
        carry_out=_vread,
        on_loop_up_to=0,
    ),
    *(
        Route(
            codes=("update",),
            level="type",
            method="PUT",
            path=path,
            reads_body=True,
            carry_out=_update,
            on_loop_up_to=_SMALL,
            reads_store=False,
            before_body=_update_of,
        )
        for path in (_INSTANCE, _TYPE)
    ),
    *(
        Route(
            codes=("patch",),
            level="type",
            method="PATCH",
            path=path,
            reads_body=True,
            carry_out=_patch,
            on_loop_up_to=_SMALL,
            reads_store=False,
            before_body=_patch_of,
            media_types=PATCH_TYPES,
        )
        for path in (_INSTANCE, _TYPE)
    ),
    *(
        Route(
            codes=("delete",),
            level="type",
            method="DELETE",
            path=path,
            reads_body=False,
            carry_out=_delete,
            on_loop_up_to=0,
            reads_store=False,
        )
        for path in (_INSTANCE, _TYPE)
    ),
    Route(
        codes=("history-instance",),
        level="type",
        method="GET",
        path=_HISTORY,
        reads_body=False,
        carry_out=_history,
        on_loop_up_to=0,
    ),
    Route(
        codes=("history-type",),
        level="type",
        method="GET",
        path=(*_TYPE, "_history"),
        reads_body=False,
        carry_out=_history_of_type,
    ),
    Route(
        codes=("history-system",),
        level="system",
        method="GET",
        path=("_history",),
        reads_body=False,
        carry_out=_history_of_type,
    ),
    Route(
        codes=("search-type",),
        level="type",
        method="GET",
        path=_TYPE,
        reads_body=False,
        carry_out=_search,
        on_loop_up_to=0,
    ),
    Route(
        codes=("search-type",),
        level="type",
        method="POST",
        path=(*_TYPE, "_search"),
        reads_body=True,
        media_types=FORM_TYPES,
        carry_out=_search_form,
        on_loop_up_to=_SMALL,
    ),
    Route(
        codes=("search-compartment",),
        level="type",
        method="GET",
        path=("Patient", "{id}", "{member}"),
        reads_body=False,
        carry_out=_search_compartment,
        on_loop_up_to=0,
    ),
    Route(
        codes=("everything",),
        level="operation",
        method="GET",
        path=("Patient", "{id}", "$everything"),
        reads_body=False,
        carry_out=_everything,
        definition="http://hl7.org/fhir/OperationDefinition/Patient-everything",
    ),
    Route(
        codes=("lastn",),
        level="operation",
        method="GET",
        path=("Observation", "$lastn"),
        reads_body=False,
        carry_out=_last,
        definition="http://hl7.org/fhir/OperationDefinition/Observation-lastn",
    ),
    Route(
        codes=("transaction", "batch"),
        level="system",
        method="POST",
        path=(),
        reads_body=True,
        carry_out=_bundle,
        before_body=_any_bundle,
    ),
    *(
        Route(
            codes=("validate",),
            level="operation",
            method=method,
            path=(*path, "$validate"),
            reads_body=method == "POST",
            carry_out=_validate,
            before_body=_validation if method == "POST" else None,
            definition="http://hl7.org/fhir/OperationDefinition/Resource-validate",
        )
        for method, path in (("POST", _TYPE), ("POST", _INSTANCE), ("GET", _INSTANCE))
    ),
    Route(
        codes=("status",),
        level="operation",
        method="GET",
        path=("Subscription", "$status"),
        reads_body=False,
        carry_out=_subscription_status,
        definition=f"{_BACKPORT}backport-subscription-status",
    ),
    Route(
        codes=("status",),
        level="operation",
        method="GET",
        path=("Subscription", "{id}", "$status"),
        reads_body=False,
        carry_out=_subscription_status,
        definition=f"{_BACKPORT}backport-subscription-status",
    ),
    Route(
        codes=("events",),
        level="operation",
        method="GET",
        path=("Subscription", "{id}", "$events"),
        reads_body=False,
        carry_out=_subscription_events,
        definition=f"{_BACKPORT}backport-subscription-events",
    ),
    *_export_routes("system", ("$export",), "export"),
    *_export_routes("patient", ("Patient", "$export"), "patient-export"),
    *_export_routes("group", ("Group", "{id}", "$export"), "group-export"),
    Route(
        codes=("export-status",),
        level="operation",
        method="GET",
        path=(exports.STATUS, "{id}"),
        reads_body=False,
        carry_out=_export_status,
    ),
    Route(
        codes=("export-status",),
        level="operation",
        method="DELETE",
        path=(exports.STATUS, "{id}"),
        reads_body=False,
        carry_out=_cancel_export,
    ),
    Route(
        codes=("export-status",),
        level="operation",
        method="GET",
        path=(exports.FILE, "{id}", "{name}"),
        reads_body=False,
        carry_out=_export_file,
    ),
)

AUDIT_INTERACTIONS: Final = frozenset({"read", "search-type", "validate"})
"""The routes of AuditEvent, which only this server writes."""
