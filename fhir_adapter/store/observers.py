"""The interface of observers, which are called in the transaction of a change."""

from collections.abc import Sequence
from typing import Protocol

from fhir_adapter.store.versions import StoredVersion
from kernel.db import Transaction
from privacy.principal import Principal


class Observer(Protocol):
    """Acts on changed resources, in the transaction that changes them.

    Observers are given to :class:`~fhir_adapter.store.write.StoreWriter` as an ordered sequence and are called in its
    order, once for each transaction that makes a version. The transaction fails when an observer raises.
    """

    def on_change(self, tx: Transaction, changes: Sequence[StoredVersion], principal: Principal) -> None:
        """Act on the versions that a transaction made.

        Parameters
        ----------
        tx
            The transaction of the change. Use it for short database work only.
        changes
            The new versions, deletions included, in the order of the request.
        principal
            Who made the change.
        """
        ...
