"""Every benchmark, one after the other, each in a process of its own; figures to ``benchmarks/results``.

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
    ("fhir_creates", "durable FHIR creates"),
    ("mllp_messages", "durable HL7 v2 messages through the server"),
    ("hl7v2_mllp", "reading and converting HL7 v2, and the bare interface"),
    ("dicom_cstore", "C-STORE of 512 KB instances"),
    ("inference_runtime", "models through the runtime"),
    ("group_commit", "what sharing an fsync gains"),
    ("crash", "nothing lost, nothing twice"),
)
"""Module and what it measures; each has a ``main()`` that prints and may return its figures."""

RESULTS: Final = Path(__file__).parent / "results"

_ALONE: Final = "--alone"


def alone(name: str) -> None:
    """Run one benchmark in this process and keep its figures."""
    sys.argv = [name]  # those that read arguments get none
    found = importlib.import_module(f"benchmarks.{name}").main()
    if found is not None:
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2, default=str) + "\n")


def main(wanted: Sequence[str]) -> int:
    """Run those that are wanted, all by default; return how many did not end well."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")  # figures belong to the machine that they were taken on
    failed = 0
    for name, title in BENCHMARKS:
        if wanted and name not in wanted:
            continue
        print(f"\n== {title} ({name})", flush=True)
        failed += subprocess.run([sys.executable, "-m", "benchmarks", _ALONE, name], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == [_ALONE]:
        alone(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
