"""Operations on messages that correct or withdraw what is not stored: open one, dismiss one."""

from kernel import inbox
from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal
from service.operations.context import OperationContext
from service.operations.reason import checked


def open_message(context: OperationContext, principal: Principal, message: str) -> bytes:
    """Return the bytes of a message; the access is recorded before anything is returned.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who asks.
    message
        Its id.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when there is none of that id.
    """
    context.authorize(principal, "message-open", message)
    with context.database.read() as connection:
        raw = context.inbox.raw(connection, message)
    event = balp.read(principal, entity=f"urn:uuid:{message}", patient=None, at=context.clock.now())
    context.database.write(lambda tx: context.audit.record(tx, event))
    return raw


def dismiss(context: OperationContext, principal: Principal, message: str, reason: str) -> None:
    """Decide that nothing more is to be done about a message that met nothing stored.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    message
        Its id.
    reason
        Why; recorded, no PHI.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` when no message of that id waits.
    """
    context.authorize(principal, "message-dismiss", message)
    stated = checked(reason)

    def work(tx: Transaction) -> bool:
        found = inbox.dismiss(tx, message)
        if found:
            context.record(tx, principal, "message-dismissed", f"urn:uuid:{message}", stated)
        return found

    if not context.database.write(work):
        raise Problem(Category.NOT_FOUND, "no message that waits for a person has this id")
