"""Microseconds per Observation from resources to the features of a model, side by side with fhirpathpy.

Run as ``python -m benchmarks.features``. One patient's day in an intensive care unit is read by a dozen features: each
round measures, one after the other, our steps and the same columns through expressions that fhirpathpy has compiled.
Compare the figures of one run only: machines and their load differ.

- ``facts``: the JSON of an Observation, already parsed, to its facts
- ``features``: the facts of the patient, indexed once, to all features of the model
- ``fhirpathpy``: six columns of each Observation (code, value, unit, time, status, subject), nothing computed of them
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fhirpathpy

from fhir_adapter.facts import observation_facts
from fhir_adapter.store.document import encode, exact_values
from inference.contract import Fact, FactsInput
from inference.features.extract import compile_features
from inference.features.spec import parse_features
from inference.testing import ADULT

AT: Final = datetime(2026, 1, 15, 12, tzinfo=UTC)
HOURLY: Final = MappingProxyType(
    {
        "8867-4": ("/min", "88"),
        "9279-1": ("/min", "18"),
        "59408-5": ("%", "96"),
        "8480-6": ("mm[Hg]", "121"),
        "8310-5": ("Cel", "37.2"),
        "2160-0": ("umol/L", "97"),
        "2524-7": ("mmol/L", "1.8"),
        "2823-3": ("mmol/L", "4.1"),
    }
)
"""LOINC code -> unit and value; measured every quarter of an hour."""
COLUMNS: Final = (
    "code.coding.where(system='http://loinc.org').code.first()",
    "value.ofType(Quantity).value",
    "value.ofType(Quantity).code",
    "effective.ofType(dateTime)",
    "status",
    "subject.reference",
)


def _declared() -> Mapping[str, Any]:
    units = {"2160-0": {"unit": "mg/dL", "analyte": "creatinine"}}
    takes = (("8867-4", "last"), ("8867-4", "slope"), ("9279-1", "max"), ("59408-5", "min"), ("8480-6", "mean"))
    more = (("8480-6", "std"), ("8310-5", "last"), ("2160-0", "last"), ("2160-0", "delta"), ("2524-7", "median"))
    features = [
        {
            "name": f"{code} {take}",
            "title": f"{code} {take}",
            "window": {"take": take, "hours": 6 if take in {"slope", "median"} else 24},
            "missing": "nan",
            "sources": [{"code": code} | units.get(code, {"unit": HOURLY[code][0]})],
        }
        for code, take in (*takes, *more, ("2823-3", "last"), ("2823-3", "time_since"))
    ]
    return {"features": features}


def observations(count: int) -> list[dict[str, Any]]:
    """Return a patient's Observations of ``count`` quarters of an hour, before :data:`AT`."""
    return [
        exact_values(
            encode(_observation(code, unit, Decimal(value) + quarter % 7, AT - timedelta(minutes=15 * quarter)))
        )
        for quarter in range(1, count + 1)
        for code, (unit, value) in HOURLY.items()
    ]


def _observation(code: str, unit: str, value: Decimal, at: datetime) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"{code}-{at:%H%M}",
        "status": "final",
        "category": [{"coding": [{"system": "urn:category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/1"},
        "effectiveDateTime": at.isoformat(),
        "issued": (at + timedelta(minutes=2)).isoformat(),
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }


def facts_of(resources: Sequence[Mapping[str, Any]]) -> tuple[Fact, ...]:
    """Return the facts of Observations."""
    return tuple(
        fact
        for place, resource in enumerate(resources)
        for fact in observation_facts(
            dict(resource), source=f"Observation/{resource['id']}/_history/1", known=AT, arrived=place
        )
    )


def _timed(work: Callable[[], object], per: int) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e6 / per


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quarters", type=int, default=96, help="quarters of an hour of one patient")
    arguments.add_argument("--rounds", type=int, default=15)
    chosen = arguments.parse_args()
    resources = observations(chosen.quarters)
    given = FactsInput(subject=ADULT, facts=facts_of(resources), at=AT)
    extract = compile_features(parse_features(_declared()))
    columns = [fhirpathpy.compile(expression) for expression in COLUMNS]
    count = len(resources)
    works: Mapping[str, Callable[[], object]] = {
        "facts": lambda: facts_of(resources),
        "features": lambda: extract(given),
        "facts and features": lambda: extract(FactsInput(subject=ADULT, facts=facts_of(resources), at=AT)),
        "fhirpathpy": lambda: [[column(resource) for column in columns] for resource in resources[:50]],
    }
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(chosen.rounds):  # the steps alternate, so that other load affects each in the same way
        for name, work in works.items():
            taken[name].append(_timed(work, 50 if name == "fhirpathpy" else count))
    print(f"{count} Observations, {len(_declared()['features'])} features, {chosen.rounds} rounds")
    print(f"{'step':<20}{'median us':>12}{'best us':>12}  per Observation")
    for name, times in taken.items():
        print(f"{name:<20}{statistics.median(times):>12.2f}{min(times):>12.2f}")
    ratio = statistics.median(
        other / ours for other, ours in zip(taken["fhirpathpy"], taken["facts and features"], strict=True)
    )
    print(f"fhirpathpy takes {ratio:.0f} times as long as facts and features together (median of the rounds)")


if __name__ == "__main__":
    main()
