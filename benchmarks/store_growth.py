"""What a create costs as the store grows: CPU time and size of the file from 10,000 to 1,000,000 resources.

Run as ``python -m benchmarks.store_growth [LARGEST]``; a million takes some ten minutes and three gigabytes.
"""

import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.measure import table
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.upgrade import prepare_database
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.write import StoreWriter, Target
from kernel.clock import RandomIds, SystemClock
from kernel.db import Database
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import Principal

SIZES: Final = (10_000, 30_000, 100_000, 300_000, 1_000_000)
AT_A_TIME: Final = 16
"""Creates of one commit, as with 16 connections."""
FILLED_AT_A_TIME: Final = 250
MEASURED: Final = 4_000
"""Creates that are measured at each size."""
SEARCHES: Final = 200
CODES: Final = ("2823-3", "2951-2", "2160-0", "718-7", "2345-7")
"""Laboratory values that no shipped model reads."""
OBSERVATIONS: Final = 200
"""Of a patient: a hospital grows by patients."""

_PRINCIPAL: Final = Principal(client="benchmark", client_address="")
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)


def patient(number: int, system: str) -> bytes:
    """Return a Patient with a number as identifier."""
    identifier = {"system": system, "value": str(number)}
    return orjson.dumps({"resourceType": "Patient", "id": f"p{number}", "identifier": [identifier]})


def body(number: int, resource_id: str = "") -> bytes:
    """Return an Observation of the patient whose turn it is."""
    return orjson.dumps(
        {
            "resourceType": "Observation",
            **({"id": resource_id} if resource_id else {}),
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": CODES[number % len(CODES)]}]},
            "subject": {"reference": f"Patient/p{number // OBSERVATIONS}"},
            "effectiveDateTime": (_BEGIN + timedelta(minutes=number)).isoformat(),
            "valueQuantity": {"value": 71.5, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"},
        }
    )


class Growing:
    """A store that grows.

    Parameters
    ----------
    folder
        Of its keys, and of its database without another one.
    url
        Of its database.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.file = folder / "ausculta.db"
        self.database = Database.open(url or f"sqlite:///{self.file}")
        prepare_database(self.database)
        clock, ids = SystemClock(), RandomIds()
        audit = AuditLog(KeyRing.open_or_create(folder / "keys.json"), clock, ids)
        self._writer = StoreWriter(Validator(), audit, (), clock, ids)
        self._writer.warm_up()
        self.stored = 0

    def patients(self, count: int, system: str) -> None:
        """Store patients with a number as identifier."""
        for first in range(0, count, FILLED_AT_A_TIME):
            numbers = range(first, min(count, first + FILLED_AT_A_TIME))
            prepared = [
                self._writer.prepare_update(Target(type="Patient", id=f"p{it}"), patient(it, system)) for it in numbers
            ]
            self.database.write(lambda tx, all_of=prepared: [self._writer.apply(tx, one, _PRINCIPAL) for one in all_of])

    def fill(self, count: int) -> None:
        """Store more Observations, with the ids o0, o1, and so on."""
        for first in range(self.stored, self.stored + count, FILLED_AT_A_TIME):
            prepared = [
                self._writer.prepare_update(Target(type="Observation", id=f"o{number}"), body(number, f"o{number}"))
                for number in range(first, min(self.stored + count, first + FILLED_AT_A_TIME))
            ]
            self.database.write(lambda tx, all_of=prepared: [self._writer.apply(tx, one, _PRINCIPAL) for one in all_of])
        self.stored += count

    def create(self, count: int, at_a_time: int) -> None:
        """Store more Observations, so many in each commit."""
        for first in range(self.stored, self.stored + count, at_a_time):
            prepared = [
                self._writer.prepare_create("Observation", body(number)) for number in range(first, first + at_a_time)
            ]
            self.database.write(lambda tx, all_of=prepared: [self._writer.apply(tx, one, _PRINCIPAL) for one in all_of])
        self.stored += count

    def search_ms(self) -> float:
        """Return the median time of a search of 20 of one patient and code."""
        chosen, taken = random.Random(self.stored), []
        for _ in range(SEARCHES):
            patient = chosen.randrange(self.stored // OBSERVATIONS)
            query = parse("Observation", f"subject=Patient/p{patient}&code={CODES[0]}&_count=20")
            begun = time.perf_counter()
            with self.database.read() as connection:
                page = find(connection, query)
            taken.append(time.perf_counter() - begun)
            assert len(page.found) == 20
        return statistics.median(taken) * 1000


def main(largest: int = SIZES[-1]) -> dict[str, Any]:
    """Measure and print."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        store = Growing(Path(name))
        for size in (it for it in SIZES if it <= largest):
            store.create(size - store.stored - MEASURED, FILLED_AT_A_TIME)
            cpu, wall = [], []
            for _ in range(5):
                begun, used = time.perf_counter(), time.process_time()
                store.create(MEASURED // 5, AT_A_TIME)
                cpu.append((time.process_time() - used) / (MEASURED // 5) * 1e6)
                wall.append((time.perf_counter() - begun) / (MEASURED // 5) * 1e6)
            found[f"{size:,}"] = {
                "cpu_us": round(statistics.median(cpu)),
                "wall_us": round(statistics.median(wall)),
                "search_ms": round(store.search_ms(), 2),
                "bytes": store.file.stat().st_size // store.stored,
            }
            print(f"{size:>9,} {found[f'{size:,}']}", flush=True)
        store.database.close()
    rows = [["resources", "CPU of a create, us", "wall, us", "search of 20, ms", "bytes of the file each"]]
    rows += [[size, *(str(value) for value in figures.values())] for size, figures in found.items()]
    print(table(rows))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1])
