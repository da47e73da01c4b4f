"""What subscriptions cost a create: none, and more of them that match nothing or everything.

Run: ``python -m benchmarks.subscriptions``. The variants take turns; the times are medians of so many commits.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import orjson

from fhir_adapter.store.upgrade import prepare_database
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.write import StoreWriter
from fhir_adapter.subscriptions.endpoints import Endpoints
from fhir_adapter.subscriptions.observer import Subscriptions
from kernel.clock import RandomIds, SystemClock
from kernel.db import Database
from kernel.jobs import Jobs
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import SERVER

ROUNDS: Final = 60
AT_A_TIME: Final = 20
"""Creates of one commit, as under load."""
VARIANTS: Final[dict[str, tuple[int, str] | None]] = {
    "without observer": None,
    "no subscription": (0, ""),
    "1 that does not match": (1, "Observation?code=http://loinc.org|1-1"),
    "100 that do not match": (100, "Observation?code=http://loinc.org|1-1&status=final"),
    "1 that matches": (1, "Observation?code=http://loinc.org|8867-4"),
    "10 that match": (10, "Observation?code=http://loinc.org|8867-4"),
}


class Variant:
    """One database and its writer."""

    def __init__(self, folder: Path, subscriptions: tuple[int, str] | None) -> None:
        self.database = Database.open(f"sqlite:///{folder / 'ausculta.db'}")
        prepare_database(self.database)
        clock, ids = SystemClock(), RandomIds()
        keys = KeyRing.open_or_create(folder / "keys.json")
        observer = Subscriptions(Jobs(clock, ids, keys.cipher()), Endpoints(allowed=("app.example",)), clock, "")
        observers = () if subscriptions is None else (observer,)
        self._writer = StoreWriter(Validator(), AuditLog(keys, clock, ids), observers, clock, ids)
        self._writer.warm_up()
        for _ in range(subscriptions[0] if subscriptions else 0):
            self._apply("Subscription", _subscription(subscriptions[1] if subscriptions else ""))
        self.taken: list[float] = []

    def commit(self) -> None:
        """Create resources in one commit, and keep the time of each."""
        prepared = [self._writer.prepare_create("Observation", _OBSERVATION) for _ in range(AT_A_TIME)]
        begun = time.perf_counter()
        self.database.write(lambda tx: [self._writer.apply(tx, one, SERVER) for one in prepared])
        self.taken.append((time.perf_counter() - begun) / AT_A_TIME)

    def _apply(self, kind: str, content: bytes) -> None:
        prepared = self._writer.prepare_create(kind, content)
        self.database.write(lambda tx: self._writer.apply(tx, prepared, SERVER))


def main() -> dict[str, float]:
    """Return the microseconds of one create of each variant."""
    with tempfile.TemporaryDirectory() as name:
        made = {}
        for number, (title, subscriptions) in enumerate(VARIANTS.items()):
            folder = Path(name) / str(number)
            folder.mkdir()
            made[title] = Variant(folder, subscriptions)
        for _ in range(ROUNDS):
            for variant in made.values():
                variant.commit()
        for variant in made.values():
            variant.database.close()
    return {title: round(statistics.median(variant.taken[5:]) * 1e6, 1) for title, variant in made.items()}


def _subscription(criteria: str) -> bytes:
    return orjson.dumps(
        {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "benchmark",
            "criteria": criteria,
            "channel": {
                "type": "rest-hook",
                "endpoint": "https://app.example/hook",
                "payload": "application/fhir+json",
            },
        }
    )


_OBSERVATION: Final = orjson.dumps(
    {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-11-20T10:00:00Z",
        "valueQuantity": {"value": 80, "system": "http://unitsofmeasure.org", "code": "/min"},
    }
)


if __name__ == "__main__":
    print(orjson.dumps(main(), option=orjson.OPT_INDENT_2).decode())
