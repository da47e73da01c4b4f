"""The commit of converted HL7 v2 messages, one or several that have nothing in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fhir_adapter.hl7v2.conversion import Conversion
from fhir_adapter.hl7v2.events import read_events, write_events
from fhir_adapter.hl7v2.order import Events, InOrder
from fhir_adapter.hl7v2.origin_rows import write_origins
from fhir_adapter.store.operations import PreparedChanges
from fhir_adapter.store.patients import lock_names, tokens_of
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from privacy.principal import Principal
from service.core import CoreServices
from service.flows.identity_doubt import ask_those_who_doubted
from service.flows.read_set import ReadSet, in_lock_order, still_hold

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A message that was converted and validated, outside any transaction."""

    identifier: str
    conversion: Conversion
    #: The events that made what is stored.
    stored: Events
    #: What is to be stored.
    found: InOrder
    prepared: PreparedChanges
    #: What was read for it.
    read_set: ReadSet
    principal: Principal
    #: Whether a person has decided that the message is of the patient whom it names.
    accepted: bool

    @cached_property
    def names(self) -> frozenset[str]:
        """The locks of all that it reads and writes: messages without a common one are independent of each other."""
        patients = [it for it in self.found.resources if it["resourceType"] == "Patient"]
        return frozenset(
            (
                *self.read_set.names,
                *lock_names(token for patient in patients for token in tokens_of(patient)),
                *(f"{event.type}/{event.id}" for event in self.conversion.events),
                *(f"{it['resourceType']}/{it['id']}" for it in self.found.resources),
                f"Patient/{self.conversion.patient}",
            )
        )


def save(core: CoreServices, tx: Transaction, messages: Sequence[Converted]) -> None:
    """Store messages as if one after the other.

    Parameters
    ----------
    core
        What every flow stands on.
    tx
        The transaction of their jobs.
    messages
        Several only without a common name.

    Raises
    ------
    Problem
        ``busy`` when something that one of them has read was changed meanwhile.
    """
    tx.lock(*in_lock_order(name for one in messages for name in one.names))
    still_hold(tx, [one.read_set for one in messages])
    events = [event for one in messages for event in one.conversion.events]
    stored = {key: event for one in messages for key, event in one.stored.items()}
    if read_events(tx.connection, events) != stored:
        raise Problem(Category.BUSY, "another message about the same resources was stored meanwhile")
    core.writer.apply_all(tx, [(one.prepared, one.principal) for one in messages if one.found.resources])
    write_events(tx, [event for one in messages for event in one.found.events])
    stated = {it["id"] for one in messages for it in one.found.resources}
    write_origins(tx, [one for it in messages for one in it.conversion.origins if one.id in stated])
    for one in messages:
        core.inbox.mark(tx, one.identifier, _outcome(one.conversion, one.found))
        if one.accepted:
            ask_those_who_doubted(core, tx, f"Patient/{one.conversion.patient}")


def report(one: Converted) -> None:
    """Log what of a message somebody may have to look at."""
    conversion, message = one.conversion, one.identifier
    if conversion.doubts:
        _log.warning("hl7_patient_ambiguous", message=message, detail="; ".join(conversion.doubts))
    if conversion.unmatched:
        _log.warning("hl7_change_of_nothing_stored", message=message, observations=conversion.unmatched)
    if one.found.older:
        _log.warning("hl7_message_older_than_stored", message=message, resources=one.found.older)


def _outcome(conversion: Conversion, found: InOrder) -> str:
    """Return the state of a converted message: of several that hold, the one that a person needs most."""
    if conversion.doubts:
        return "ambiguous"
    if conversion.unmatched:
        return "unmatched"
    return "older" if found.older else "done"
