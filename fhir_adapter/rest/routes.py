"""The table of all routes: requests are dispatched with it, and ``/metadata`` is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fhir_adapter.rest import operations, reads, searches, transactions, writes
from fhir_adapter.rest.access import of_instance
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Step
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


def _creation(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.CREATE, parts["type"], "")


def _update_of(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.UPDATE, parts["type"], parts["id"])


def _any_bundle(_parts: Mapping[str, str]) -> Request:
    return Request(interaction=Interaction.BUNDLE)


def _create(backend: Backend, request: InteractionRequest) -> Step:
    return writes.create(
        backend, request.call, request.parts["type"], request.body, if_none_exist=request.headers.get("if-none-exist")
    )


def _update(backend: Backend, request: InteractionRequest) -> Step:
    kind, resource_id = request.parts["type"], request.parts["id"]
    if "if-none-match" in request.headers:
        raise Problem(Category.UNSUPPORTED, "If-None-Match is not supported on an update; If-Match is")
    return writes.update(
        backend, request.call, kind, resource_id, request.body, if_match=request.headers.get("if-match")
    )


def _delete(backend: Backend, request: InteractionRequest) -> Step:
    return writes.delete(
        backend, request.call, request.parts["type"], request.parts["id"], if_match=request.headers.get("if-match")
    )


def _read(backend: Backend, request: InteractionRequest) -> Step:
    return reads.read(backend, request.call, request.parts["type"], request.parts["id"])


def _vread(backend: Backend, request: InteractionRequest) -> Step:
    version = request.parts["version"]
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise Problem(Category.NOT_FOUND, "there is no such version")
    return reads.read(backend, request.call, request.parts["type"], request.parts["id"], int(version))


def _history(backend: Backend, request: InteractionRequest) -> Step:
    return reads.history(backend, request.call, request.parts["type"], request.parts["id"], request.query)


def _search(backend: Backend, request: InteractionRequest) -> Step:
    return searches.search(backend, request.call, request.parts["type"], request.query)


def _search_form(backend: Backend, request: InteractionRequest) -> Step:
    try:
        form = request.body.decode()
    except UnicodeDecodeError as failure:
        raise Problem(Category.INCORRECT, "the form is not UTF-8") from failure
    both = "&".join(part for part in (request.query, form) if part)
    return searches.search(backend, request.call, request.parts["type"], both)


def _bundle(backend: Backend, request: InteractionRequest) -> Step:
    wants = "return=representation" in request.headers.get("prefer", "")
    return transactions.bundle(backend, request.call, request.body, with_content=wants)


def _validate(backend: Backend, request: InteractionRequest) -> Step:
    kind, resource_id = request.parts["type"], request.parts.get("id", "")
    return operations.validate(backend, request.call, kind, resource_id, request.query, request.body)


def _validation(parts: Mapping[str, str]) -> Request:
    return of_instance(Interaction.VALIDATE, parts["type"], parts.get("id", ""))


_SMALL: Final = 64 * 1024
"""A resource of this size is validated in a millisecond or two, bytes."""

_TYPE: Final = ("{type}",)
_INSTANCE: Final = ("{type}", "{id}")
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
    Route(
        codes=("update",),
        level="type",
        method="PUT",
        path=_INSTANCE,
        reads_body=True,
        carry_out=_update,
        on_loop_up_to=_SMALL,
        reads_store=False,
        before_body=_update_of,
    ),
    Route(
        codes=("delete",),
        level="type",
        method="DELETE",
        path=_INSTANCE,
        reads_body=False,
        carry_out=_delete,
        on_loop_up_to=0,
        reads_store=False,
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
        carry_out=_search_form,
        on_loop_up_to=_SMALL,
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
        )
        for method, path in (("POST", _TYPE), ("POST", _INSTANCE), ("GET", _INSTANCE))
    ),
)

AUDIT_INTERACTIONS: Final = frozenset({"read", "search-type", "validate"})
"""The routes of AuditEvent, which only this server writes."""
