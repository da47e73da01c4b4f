"""What is printed: a line for each step as it happens, and in the end the whole in one table."""

from collections.abc import Iterable, Iterator
from typing import Final

from rich.box import SQUARE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.demo.stand_ins import Document
from service.demo.telling import Told

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


def line(told: Told) -> str:
    """Say in one line where a step stands."""
    what = f"{told.number}. {told.step.door:6} {told.step.title} · {told.step.patient.given} {told.step.patient.family}"
    if told.refusal:
        return f"[red]{what}: not taken: {escape(told.refusal)}[/]"
    if told.answer is None:
        return what if told.step.expected is None else f"{what} …"
    return f"{told.number}. → {escape(told.answer.says)}"


def table(story: Iterable[Told], width: int) -> Table:
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
    for told in story:
        made.add_row(str(told.number), _came_in(told, wide=wide), _said(told), _delivered(told, wide=wide))
    return made


def listing(story: Iterable[Told], url: str, width: int) -> Iterator[str]:
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
    for told in story:
        if told.answer:
            yield f"{told.number}. {url}/console/results/{told.answer.result}"
        if width < WIDTH_WITHOUT_TERMINAL and told.documents:
            yield f"   {told.step.door:6} {told.identifier}"
            yield from (f"   {_labelled(document)}" for document in told.documents)


def _came_in(told: Told, *, wide: bool) -> str:
    patient = told.step.patient
    lines = [f"[bold]{told.step.door}[/] {told.step.title}", f"{patient.given} {patient.family}, {patient.mrn}"]
    if wide or not told.documents:
        lines.append(told.identifier or "[red]not sent[/]")
    return "\n".join(lines)


def _said(told: Told) -> str:
    if told.step.expected is None:
        return "[dim]nothing: no model reads this[/]"
    if told.answer is None:
        return "[red]no result[/]"
    return f"[bold]{told.answer.model}[/]\n{escape(told.answer.says)}"


def _delivered(told: Told, *, wide: bool) -> str:
    lines = [_labelled(it) if wide else f"{it.place:6} {it.kind}" for it in told.documents]
    if told.step.expected and told.lacks:
        lines.append(f"[red]{escape(told.lacks)}[/]")
    return "\n".join(lines)


def _labelled(document: Document) -> str:
    return f"{document.place:6} {document}"
