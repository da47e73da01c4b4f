"""The components that the console uses; ``service.api`` provides them."""

from collections.abc import Collection
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from fhir_adapter.store.store import Store
from inference.catalogue import Catalogue
from kernel.blobs import Blobs
from kernel.clock import Clock
from kernel.db import Database
from kernel.jobs import Jobs
from kernel.outbox import Outbox
from service.identity_holds import IdentityHolds
from service.operations import OperationContext
from service.results import Results


@dataclass(frozen=True, kw_only=True)
class ConsoleData:
    """The components that the pages read."""

    clock: Clock
    database: Database
    jobs: Jobs
    outbox: Outbox
    results: Results
    holds: IdentityHolds
    store: Store
    catalogue: Catalogue
    #: Names of the configured destinations.
    destinations: Collection[str]


@dataclass(frozen=True, kw_only=True)
class ConsoleServices:
    """The components that the console's routes use."""

    data: ConsoleData
    blobs: Blobs
    operations: OperationContext
    #: Time zone in which times are shown; UTC when it is not set.
    time_zone: ZoneInfo | None
    #: Its host is accepted besides the loopback names; may be empty.
    public_url: str
