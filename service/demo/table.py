"""Output of the demonstration: one line for each step, and a table at the end."""

from collections.abc import Iterable, Iterator
from typing import Final

from rich.box import SQUARE
from rich.markup import escape
from rich.table import Table

from service.demo.stand_ins import Document
from service.demo.story_run import StepReport

WIDE: Final = 156
"""From this width on no id is folded."""

_CAME_IN: Final = 48
"""As wide as ``Observation/`` and a UUID."""
_DELIVERED: Final = 60
"""As wide as ``EHR    DiagnosticReport/`` and a UUID."""


def line(report: StepReport) -> str:
    """Return the state of a step in one line."""
    step = report.step
    what = f"{report.number}. {step.interface:6} {step.title} · {step.patient.given} {step.patient.family}"
    if report.refusal:
        return f"[red]{what}: not taken: {escape(report.refusal)}[/]"
    if report.answer is None:
        return what if report.step.expected is None else f"{what} …"
    return f"{report.number}. → {escape(report.answer.text)}"


def table(story: Iterable[StepReport], width: int) -> Table:
    """Return a table of the inputs, the model results and the deliveries.

    Parameters
    ----------
    story
        The reports of the steps.
    width
        Width of the screen, in characters. Ids that do not fit are printed by :func:`listing`.
    """
    wide = width >= WIDE
    made = Table(title="What was received, and what followed", show_lines=True, title_justify="left", box=SQUARE)
    made.add_column("", justify="right")
    made.add_column("Came in", width=_CAME_IN if wide else None)
    made.add_column("The model said")
    made.add_column("Delivered", width=_DELIVERED if wide else None)
    for report in story:
        made.add_row(
            str(report.number), _inputs(report, wide=wide), _model_result(report), _deliveries(report, wide=wide)
        )
    return made


def listing(story: Iterable[StepReport], url: str, width: int) -> Iterator[str]:
    """Return the console's URL of each result, a line each, and the ids that did not fit into the table.

    Parameters
    ----------
    story
        The reports of the steps.
    url
        Base URL of the server.
    width
        As for :func:`table`.
    """
    for report in story:
        if report.answer:
            yield f"{report.number}. {url}/console/results/{report.answer.result}"
        if width < WIDE and report.documents:
            yield f"   {report.step.interface:6} {report.identifier}"
            yield from (f"   {_labelled(document)}" for document in report.documents)


def _inputs(report: StepReport, *, wide: bool) -> str:
    patient = report.step.patient
    lines = [
        f"[bold]{report.step.interface}[/] {report.step.title}",
        f"{patient.given} {patient.family}, {patient.mrn}",
    ]
    if wide or not report.documents:
        lines.append(report.identifier or "[red]not sent[/]")
    return "\n".join(lines)


def _model_result(report: StepReport) -> str:
    if report.step.expected is None:
        return "[dim]nothing: no model reads this[/]"
    if report.answer is None:
        return "[red]no result[/]"
    return f"[bold]{report.answer.model}[/]\n{escape(report.answer.text)}"


def _deliveries(report: StepReport, *, wide: bool) -> str:
    lines = [_labelled(it) if wide else f"{it.place:6} {it.kind}" for it in report.documents]
    if report.step.expected and report.missing:
        lines.append(f"[red]{escape(report.missing)}[/]")
    return "\n".join(lines)


def _labelled(document: Document) -> str:
    return f"{document.place:6} {document}"
