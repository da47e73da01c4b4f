"""``ausculta send fhir``: resources of files to a FHIR server, with a progress bar and a file of what was refused."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fhir_adapter.bulk.lines import ERRORS, Line, entries, files, is_carried_out, is_lines, lines, whole
from fhir_adapter.bulk.sending import Sender
from kernel.errors import Category, Problem
from service.commands.output import console


def send_fhir(paths: Iterable[Path], url: str, seconds: float) -> int:
    """Send files; return how many of them, or lines of them, were refused.

    Parameters
    ----------
    paths
        Files and folders.
    url
        Base URL of the server.
    seconds
        How long one request may take.

    Raises
    ------
    Problem
        When a file is no FHIR resource, or the server cannot be reached.
    """
    with httpx.Client(base_url=url.rstrip("/"), timeout=seconds, trust_env=False) as client:
        sender = Sender(client)
        return sum(_send(sender, path) for path in files(paths))


def _send(sender: Sender, path: Path) -> int:
    if is_lines(path):
        with _progress(path) as (read, stored):
            return _send_lines(sender, path, lines(path, read), stored)
    content = whole(path)
    try:
        resource: dict[str, Any] = orjson.loads(content)
        kind = resource["resourceType"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as failure:
        raise Problem(Category.INCORRECT, f"{path.name} is not a FHIR resource") from failure
    if kind == "Bundle" and not is_carried_out(resource):
        with _progress(path) as (_, stored):
            return _send_lines(sender, path, entries(resource), stored)
    answer = sender.carry_out(content) if kind == "Bundle" else sender.create(kind, content)
    typer.echo(f"{path.name}: {answer.status_code} {answer.headers.get('Location', '')}".rstrip())
    return int(answer.is_error) + _refused_entries(answer, resource)


def _refused_entries(answer: httpx.Response, bundle: dict[str, Any]) -> int:
    """Return how many entries of a batch were refused, and say which."""
    if answer.is_error or bundle.get("type") != "batch":
        return 0
    statuses = [str(entry.get("response", {}).get("status", "")) for entry in answer.json().get("entry", ())]
    refused = [number for number, status in enumerate(statuses, start=1) if not status.startswith("2")]
    if refused:
        typer.echo(f"refused: {len(refused)} entries, the first one is number {refused[0]}")
    return len(refused)


def _send_lines(sender: Sender, path: Path, found: Iterable[Line], stored: Callable[[int], None]) -> int:
    """Send resources; write what was refused beside their file."""
    errors = path.with_name(Path(path.name.removesuffix(".gz")).stem + ERRORS)
    refused = 0
    with ExitStack() as opened:
        file = None
        for refusal in sender.send(found, stored):
            file = file or opened.enter_context(errors.open("wb"))
            file.write(orjson.dumps(refusal.outcome) + b"\n")
            refused += 1
    if refused:
        typer.echo(f"{path.name}: {refused} refused, see {errors.name}")
    else:
        errors.unlink(missing_ok=True)
    return refused


@contextmanager
def _progress(path: Path) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Show how far a file is; yield what to call with the bytes that were read, and with resources that were stored."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[stored]} resources, {task.fields[rate]}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    total = 0
    with Progress(*columns, console=console()) as progress:
        task = progress.add_task(path.name, total=path.stat().st_size, stored=0, rate=0)

        def read(size: int) -> None:
            progress.update(task, completed=size)

        def stored(number: int) -> None:
            nonlocal total
            total += number
            elapsed = progress.tasks[0].elapsed or 0.0
            progress.update(task, stored=total, rate=round(total / elapsed) if elapsed else 0)

        yield read, stored
        progress.update(task, completed=path.stat().st_size)
