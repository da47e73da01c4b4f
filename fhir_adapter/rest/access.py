"""The authorization request of each interaction, for :class:`privacy.authorize.Authorizer`."""

from collections.abc import Mapping
from typing import Final

from fhir_adapter.store.operations import Lookup, Method, Operation
from fhir_adapter.store.search.index import patient_of
from fhir_adapter.store.search.query import Query, patient_named_by
from privacy.authorize import Interaction, Request

_CHANGES: Final[Mapping[Method, Interaction]] = {
    "POST": Interaction.CREATE,
    "PUT": Interaction.UPDATE,
    "PATCH": Interaction.PATCH,
    "DELETE": Interaction.DELETE,
}


def of_instance(interaction: Interaction, kind: str, resource_id: str) -> Request:
    """Return the request of an interaction with one resource.

    Parameters
    ----------
    interaction
        The interaction.
    kind, resource_id
        Resource type and logical id, empty for a create. Only a Patient names its compartment before it is read.
    """
    compartment = f"Patient/{resource_id}" if kind == "Patient" and resource_id else ""
    return Request(interaction=interaction, target=kind, target_id=resource_id, compartment=compartment)


def of_search(query: Query) -> Request:
    """Return the request of a search; its compartment is that of the patient to whom the search is limited, if any."""
    return Request(interaction=Interaction.SEARCH, target=query.type, compartment=patient_named_by(query))


def of_lookup(lookup: Lookup) -> Request:
    """Return the request of a GET entry of a Bundle."""
    if lookup.search is not None:
        return of_search(lookup.search)
    interaction = Interaction.READ if lookup.version is None else Interaction.VREAD
    return of_instance(interaction, lookup.type, lookup.id)


def of_operation(operation: Operation) -> Request:
    """Return the request of an entry of a Bundle that makes a change; the patient is the one in its resource."""
    interaction = _CHANGES[operation.method]
    resource_id = "" if operation.method == "POST" or operation.where is not None else operation.id
    return _of_change(operation, interaction, resource_id)


def of_named(operation: Operation) -> Request:
    """Return the request of a conditional change, when its condition has named the resource."""
    return _of_change(operation, _CHANGES[operation.method], operation.id)


def _of_change(operation: Operation, interaction: Interaction, resource_id: str) -> Request:
    if operation.type == "Patient":
        return of_instance(interaction, "Patient", resource_id)
    patient = patient_of(operation.document.plain) if operation.document else None
    return Request(interaction=interaction, target=operation.type, target_id=resource_id, compartment=patient or "")
