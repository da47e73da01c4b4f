"""Calling a registered model for another system: what it may see, what it sends, and what it gets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from inference import registry
from inference.catalogue import Catalogue, DeclaredModel
from inference.contract import NotAvailable, Outcome
from inference.runtime import Runtime
from kernel.clock import Clock
from kernel.db import Database
from kernel.errors import Category, Problem
from privacy import balp
from privacy.audit import AuditLog
from privacy.authorize import Authorizer, Interaction, Request
from privacy.principal import Principal
from service.inference_protocol import inputs, outputs
from service.inference_protocol.tensors import read_tensors

COMMAND: Final = "model-inferred"
"""Code of the audit event."""
_URGENT: Final = 1


@dataclass(frozen=True, kw_only=True)
class InferenceServices:
    """The components that the protocol uses."""

    clock: Clock
    database: Database
    audit: AuditLog
    authorizer: Authorizer
    catalogue: Catalogue
    runtime: Runtime
    #: How long a model may take.
    deadline_s: float
    #: Of the software.
    version: str
    public_url: str
    #: Returns the name of a request's client, of its headers, or refuses them.
    identify: Callable[[Mapping[str, str]], str]
    #: Largest body, in bytes.
    largest_body: int = 16 * 2**20
    #: Longest time for a body to arrive, in seconds.
    body_seconds: float = 30.0
    #: Requests that may run at a time; one more is refused.
    at_a_time: int = 64


def authorize(services: InferenceServices, principal: Principal, name: str) -> None:
    """Return when a principal may use a model.

    Parameters
    ----------
    services
        The components.
    principal
        Who asks.
    name
        The model; empty for what is of no model.

    Raises
    ------
    Problem
        ``forbidden``.
    """
    services.authorizer.require(principal, Request(interaction=Interaction.INFER, target=name))


def find(services: InferenceServices, name: str, version: str | None) -> DeclaredModel:
    """Return a version that runs; without a version the active one.

    Parameters
    ----------
    services
        The components.
    name, version
        The model.

    Raises
    ------
    Problem
        ``not-found`` when it is not registered, or retired, or when no version is named and none is active.
    """
    with services.database.read() as connection:
        row = registry.get(connection, name, version)
    if row is None or row.status == "retired" or (version is None and row.status != "active"):
        named = f" in version {version[:32]}" if version else ", or none of its versions is active"
        raise Problem(Category.NOT_FOUND, f"there is no model {name[:64]}{named}")
    return services.catalogue.of(row)


def metadata(services: InferenceServices, model: DeclaredModel) -> dict[str, Any]:
    """Return the metadata of a model.

    Parameters
    ----------
    services
        The components.
    model
        The version that was asked for.
    """
    with services.database.read() as connection:
        rows = [row for row in registry.serving(connection) if row.name == model.row.name]
    return {
        "name": model.row.name,
        "versions": [row.version for row in rows],
        "platform": f"ausculta_{model.manifest.runner}",
        "inputs": inputs.described(model),
        "outputs": outputs.described(model.manifest),
    }


def all_ready(services: InferenceServices) -> bool:
    """Return whether every active model that may run is loaded in this process; the others begin to load."""
    with services.database.read() as connection:
        rows = [row for row in registry.active(connection) if row.may_run]
    return False not in {services.runtime.is_ready(row) for row in rows}


def infer(services: InferenceServices, model: DeclaredModel, body: bytes) -> bytes:
    """Run a model on the rows of a request and return the response, in JSON.

    Parameters
    ----------
    services
        The components.
    model
        The version.
    body
        The request.

    Raises
    ------
    Problem
        ``incorrect`` or ``unsupported`` when the request does not fit the model; ``busy`` when the queue is full;
        ``unavailable`` when the model is stopped; ``fault`` when no row could be run.
    """
    content = _parsed(body)
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Problem(Category.INCORRECT, "parameters must be an object")
    rows = inputs.read_inputs(model, read_tensors(content.get("inputs")), parameters, services.clock.now())
    outcomes = services.runtime.predict_all(
        model.row, rows, deadline_s=services.deadline_s, urgent=parameters.get("priority") == _URGENT
    )
    _raise_if_none(outcomes)
    tensors = _wanted(content.get("outputs"), outputs.tensors_of(model.manifest, outcomes))
    answer = {
        "model_name": model.row.name,
        "model_version": model.row.version,
        "parameters": {"status": model.row.status, "demonstration": model.manifest.demonstration},
        "outputs": tensors,
    }
    return orjson.dumps(answer | ({"id": content["id"]} if isinstance(content.get("id"), str) else {}))


async def record(
    services: InferenceServices, principal: Principal, entity: str, problem: Problem | None = None
) -> None:
    """Record that a model was called, or that the call failed, durably.

    Parameters
    ----------
    services
        The components.
    principal
        Who called it.
    entity
        The model version, as :func:`urn` names it.
    problem
        Why the call failed.
    """
    event = balp.administered(principal, command=COMMAND, entity=entity, at=services.clock.now())
    recorded = event if problem is None else balp.failed(event, problem)
    await services.database.write_async(lambda tx: services.audit.record(tx, recorded))


def urn(name: str, version: str | None) -> str:
    """Return how an audit event names a model version.

    Parameters
    ----------
    name, version
        The model; without a version the model as a whole.
    """
    return f"urn:ausculta:model:{name}" + (f":{version}" if version else "")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as failure:
        raise Problem(Category.INCORRECT, "the request is not JSON") from failure
    if not isinstance(content, dict):
        raise Problem(Category.INCORRECT, "the request must be a JSON object")
    return content


def _raise_if_none(outcomes: Sequence[Outcome]) -> None:
    """Raise when no row could be run, for a reason that is not of the row."""
    none = [outcome for outcome in outcomes if isinstance(outcome, NotAvailable) and outcome.kind != "declined"]
    if len(none) == len(outcomes):
        stopped = none[0].kind == "stopped"
        raise Problem(Category.UNAVAILABLE if stopped else Category.FAULT, none[0].reason)


def _wanted(wanted: Any, tensors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs that a request names, all when it names none; ``reason`` is always among them."""
    if wanted is None:
        return list(tensors)
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise Problem(Category.INCORRECT, "outputs must be a list of objects")
    names = {str(one.get("name")) for one in wanted}
    unknown = names - {tensor["name"] for tensor in tensors}
    if unknown:
        raise Problem(Category.INCORRECT, "the model has no such output")
    return [tensor for tensor in tensors if tensor["name"] in {*names, outputs.REASON}]
