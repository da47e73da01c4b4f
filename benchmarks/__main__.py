"""Runs the benchmarks one after the other, each in its own process, and writes figures to ``benchmarks/results``.

Run as ``python -m benchmarks [NAME…]``.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

BENCHMARKS: Final = (
    ("post_to_result", "POST of an Observation to its stored RiskAssessment"),
    ("validate", "validating R4 resources"),
    ("fhir_creates", "durable FHIR creates"),
    ("fhir_requests", "FHIR creates against a bare FastAPI; reads, searches, transactions"),
    ("mllp_messages", "durable HL7 v2 messages through the server"),
    ("hl7v2_mllp", "reading and converting HL7 v2, and the bare interface"),
    ("neighbours", "what one sender notices of the others, and what is behind a create"),
    ("delivery", "deliveries to an EHR that answers after 100 ms"),
    ("dicom_cstore", "C-STORE of 512 KB instances"),
    ("inference_runtime", "models through the runtime, and under overload"),
    ("inference_servers", "models over HTTP, against LitServe"),
    ("features", "features of a patient, side by side with fhirpathpy"),
    ("views", "rows of a ViewDefinition"),
    ("fhir_at_scale", "FHIR at 10,000 and 1,000,000 Observations, on both databases"),
    ("store_growth", "a create as the store grows to a million resources"),
    ("group_commit", "the gain of group commit"),
    ("crash", "no loss and no duplicates when the server is killed"),
)
"""Module and what it measures; each has a ``main()`` that prints and may return its figures."""

RESULTS: Final = Path(__file__).parent / "results"

_ONE: Final = "--one"


def run_one(name: str) -> None:
    """Run one benchmark in this process and write its figures."""
    sys.argv = [name]  # benchmarks that parse arguments get none
    found = importlib.import_module(f"benchmarks.{name}").main()
    if found is not None:
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2, default=str) + "\n")


def main(wanted: Sequence[str]) -> int:
    """Run the named benchmarks, or all; return how many failed."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")  # figures are valid only for the machine on which they were measured
    failed = 0
    for name, title in BENCHMARKS:
        if wanted and name not in wanted:
            continue
        print(f"\n== {title} ({name})", flush=True)
        failed += subprocess.run([sys.executable, "-m", "benchmarks", _ONE, name], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == [_ONE]:
        run_one(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
