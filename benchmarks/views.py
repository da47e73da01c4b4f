"""A view of six columns on an Observation: compiled paths against fhirpathpy and against plain Python.

Run as ``python -m benchmarks.views``. Every variant gets the parsed JSON of the same Observation; parsing it is not in
the figures. All give the same row. The expressions of fhirpathpy are parsed once. The figures are CPU time.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import fhirpathpy

from benchmarks.measure import in_turns, ratio, table
from benchmarks.validate import blood_pressure
from inference.views import compile_view
from inference.views.elements import model

ROUNDS: Final = 15
SECONDS: Final = 0.05
"""How long one round of a variant takes at least."""

PATHS: Final = {
    "id": "id",
    "status": "status",
    "patient": "subject.reference",
    "code": "code.coding.where(system = 'http://loinc.org').code.first()",
    "effective": "effective.ofType(dateTime)",
    "value": "value.ofType(Quantity).value",
}
"""Column -> FHIRPath."""
VIEW: Final = {
    "resource": "Observation",
    "select": [{"column": [{"name": name, "path": path} for name, path in PATHS.items()]}],
}


def observation() -> dict[str, Any]:
    """Return an Observation with one value."""
    return blood_pressure() | {"valueQuantity": {"value": 93, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}


def plain(resource: dict[str, Any]) -> tuple[Any, ...]:
    """Return the row as code that was written for it would."""
    codes = [it["code"] for it in resource["code"]["coding"] if it.get("system") == "http://loinc.org"]
    return (
        resource["id"],
        resource["status"],
        resource["subject"]["reference"],
        codes[0] if codes else None,
        resource.get("effectiveDateTime"),
        resource["valueQuantity"]["value"],
    )


def micros(work: Callable[[], object]) -> float:
    """Return how long one call takes, in microseconds of CPU."""
    runs = 0
    begun = time.process_time()
    while time.process_time() - begun < SECONDS:
        for _ in range(50):
            work()
        runs += 50
    return (time.process_time() - begun) / runs * 1e6


def main() -> dict[str, float]:
    begun = time.process_time()
    view = compile_view(VIEW)
    compiling = (time.process_time() - begun) * 1000
    resource = observation()
    theirs = [fhirpathpy.compile(path, dict(model())) for path in PATHS.values()]
    by_fhirpathpy: Callable[[], object] = lambda: tuple((path(resource) or [None])[0] for path in theirs)  # noqa: E731
    assert view.rows(resource) == [plain(resource)] == [by_fhirpathpy()]
    assert view.slow == ()
    figures = in_turns(
        {
            "closures": lambda: micros(lambda: view.rows(resource)),
            "fhirpathpy": lambda: micros(by_fhirpathpy),
            "plain Python": lambda: micros(lambda: plain(resource)),
        },
        ROUNDS,
    )
    rows = [["variant", "µs an Observation", "closures are faster by"]]
    for name, found in figures.items():
        rows.append([name, f"{median(found):.2f}", f"{ratio(figures, name, 'closures'):.2f}"])
    print(f"compiling the view took {compiling:.0f} ms, the load of R4's tables included")
    print(table(rows))
    return {name: round(median(found), 2) for name, found in figures.items()}


if __name__ == "__main__":
    main()
