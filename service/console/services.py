"""What the console needs of the application: records that ``service.api`` fills."""

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
from service.operations import OperationContext
from service.results import Results


@dataclass(frozen=True, kw_only=True)
class ConsoleData:
    """What the pages are read from."""

    clock: Clock
    database: Database
    jobs: Jobs
    outbox: Outbox
    results: Results
    store: Store
    catalogue: Catalogue
    #: Names of the configured destinations.
    destinations: Collection[str]


@dataclass(frozen=True, kw_only=True)
class ConsoleServices:
    """What the console's routes need."""

    data: ConsoleData
    blobs: Blobs
    operations: OperationContext
    #: In which times are shown; UTC where the settings name none.
    time_zone: ZoneInfo | None
    #: By whose host the console may be requested, besides the loopback names; may be empty.
    public_url: str
