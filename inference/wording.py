"""The sentences that every protocol carries for a result: one line for it, or why there is none."""

from typing import Final

from inference.contract import NotAvailable, Outcome, Output

NOT_AVAILABLE: Final = "AI result not available"
"""Begins every refusal, in FHIR, HL7 v2, DICOM and the console."""


def refusal(reason: str) -> str:
    """Return the sentence that stands where a result would; ``reason`` completes it."""
    return f"{NOT_AVAILABLE}: {reason}"


def summary(outcome: Outcome) -> str:
    """Return a result in one line, without PHI."""
    if isinstance(outcome, NotAvailable):
        return refusal(outcome.reason)
    return "; ".join(_output_line(output) for output in outcome.outputs)


def _output_line(output: Output) -> str:
    if output.value is None:
        return f"{output.display}: {output.band}"
    value = f"{output.value:.0f}" if output.kind == "score" else f"{output.value:.1%}"
    return f"{output.display}: {value} ({output.band})"
