"""What is printed: a line for each step as it happens, and in the end the whole in one table."""

from collections.abc import Iterable, Iterator
from typing import Final

from rich.box import SQUARE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.demo.stand_ins import Document
from service.demo.story_run import StepReport

WIDTH_WITHOUT_TERMINAL: Final = 156
"""A log has no width; in one so wide no id is folded."""

_CAME_IN: Final = 48
"""As wide as ``Observation/`` and a UUID."""
_DELIVERED: Final = 60
"""As wide as ``EHR    DiagnosticReport/`` and a UUID."""


def terminal() -> Console:
    """Return where to print: colours and a spinner at a terminal, plain lines elsewhere."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def line(report: StepReport) -> str:
    """Say in one line where a step stands."""
    step = report.step
    what = f"{report.number}. {step.interface:6} {step.title} · {step.patient.given} {step.patient.family}"
    if report.refusal:
        return f"[red]{what}: not taken: {escape(report.refusal)}[/]"
    if report.answer is None:
        return what if report.step.expected is None else f"{what} …"
    return f"{report.number}. → {escape(report.answer.says)}"


def table(story: Iterable[StepReport], width: int) -> Table:
    """Lay out what came in, what each model said and where each result was delivered.

    Parameters
    ----------
    story
        What has come of it.
    width
        Of the screen, in characters. Where ids do not fit they are left to :func:`listing`.
    """
    wide = width >= WIDTH_WITHOUT_TERMINAL
    made = Table(title="What came in, and what came of it", show_lines=True, title_justify="left", box=SQUARE)
    made.add_column("", justify="right")
    made.add_column("Came in", width=_CAME_IN if wide else None)
    made.add_column("The model said")
    made.add_column("Delivered", width=_DELIVERED if wide else None)
    for report in story:
        made.add_row(str(report.number), _came_in(report, wide=wide), _said(report), _delivered(report, wide=wide))
    return made


def listing(story: Iterable[StepReport], url: str, width: int) -> Iterator[str]:
    """Return where the console shows each result, a line each, and the ids for which the table had no room.

    Parameters
    ----------
    story
        What has come of it.
    url
        Of the server.
    width
        As :func:`table` was given it.
    """
    for report in story:
        if report.answer:
            yield f"{report.number}. {url}/console/results/{report.answer.result}"
        if width < WIDTH_WITHOUT_TERMINAL and report.documents:
            yield f"   {report.step.interface:6} {report.identifier}"
            yield from (f"   {_labelled(document)}" for document in report.documents)


def _came_in(report: StepReport, *, wide: bool) -> str:
    patient = report.step.patient
    lines = [
        f"[bold]{report.step.interface}[/] {report.step.title}",
        f"{patient.given} {patient.family}, {patient.mrn}",
    ]
    if wide or not report.documents:
        lines.append(report.identifier or "[red]not sent[/]")
    return "\n".join(lines)


def _said(report: StepReport) -> str:
    if report.step.expected is None:
        return "[dim]nothing: no model reads this[/]"
    if report.answer is None:
        return "[red]no result[/]"
    return f"[bold]{report.answer.model}[/]\n{escape(report.answer.says)}"


def _delivered(report: StepReport, *, wide: bool) -> str:
    lines = [_labelled(it) if wide else f"{it.place:6} {it.kind}" for it in report.documents]
    if report.step.expected and report.lacks:
        lines.append(f"[red]{escape(report.lacks)}[/]")
    return "\n".join(lines)


def _labelled(document: Document) -> str:
    return f"{document.place:6} {document}"
