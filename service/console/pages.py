"""Pages from templates: one environment that escapes every value, one set of headers that lets nothing else in."""

from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kernel.clock import Clock
from kernel.errors import HTTP_STATUS, Category, Problem
from service.console.cards import as_html

_FOLDER: Final = Path(__file__).parent

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer: nothing is loaded from or sent elsewhere, no script runs, nothing about a patient stays behind."""

_TITLES: Final = {
    Category.INCORRECT: "That cannot be done like this",
    Category.NOT_FOUND: "There is nothing here",
    Category.CONFLICT: "Something changed meanwhile",
    Category.FORBIDDEN: "That is not allowed",
    Category.UNSUPPORTED: "This server does not do that",
    Category.BUSY: "Too much at once",
    Category.UNAVAILABLE: "Something this server needs is away",
    Category.INTERRUPTED: "The request was interrupted",
    Category.FAULT: "This server is at fault",
}


class Pages:
    """Renders pages.

    Parameters
    ----------
    clock
        Gives the time at which a page was rendered.
    zone
        Time zone in which times are shown; UTC when the site has set none.
    """

    def __init__(self, clock: Clock, zone: tzinfo | None) -> None:
        self._clock = clock
        self.zone = zone or UTC
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"when": self._when, "written": self._written, "card": as_html}

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page.

        Parameters
        ----------
        request
            Whose ``root_path`` every link begins with, so that the console works under any path.
        template
            Its file.
        status
            HTTP status.
        values
            What the template shows.
        """
        values |= {"root": request.scope.get("root_path", ""), "now": self._clock.now()}
        return HTMLResponse(self._templates.get_template(template).render(values), status, headers=HEADERS)

    def failure(self, request: Request, problem: Problem) -> Response:
        """Return the page of an error; of the problem it shows what is safe for a peer.

        Parameters
        ----------
        request
            The request that failed; links begin with its ``root_path``.
        problem
            Its category decides the HTTP status and the title; its ``detail`` is shown, its diagnostics are not.
        """
        status = HTTP_STATUS[problem.category]
        title = _TITLES[problem.category]
        return self.render(request, "error.html", status=status, title=title, detail=problem.detail, code=status)

    def style(self) -> Response:
        """Return the style sheet."""
        return self._file("console.css", "text/css")

    def icon(self) -> Response:
        """Return the picture for the browser's tab."""
        return self._file("icon.svg", "image/svg+xml")

    def _file(self, name: str, media_type: str) -> Response:
        headers = HEADERS | {"Cache-Control": "max-age=3600"}
        return Response((_FOLDER / name).read_bytes(), media_type=media_type, headers=headers)

    def _when(self, instant: datetime | None) -> Markup:
        if instant is None:
            return Markup("")
        local = instant.astimezone(self.zone)
        return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M:%S %Z}</time>').format(instant.isoformat(), local)

    def _written(self, moment: str) -> Markup:
        """Show a FHIR dateTime: an instant in the site's zone, anything less precise as it was written."""
        try:
            instant = datetime.fromisoformat(moment)
        except ValueError:
            instant = None
        if instant is None or instant.tzinfo is None:
            return Markup("<time>{}</time>").format(moment)
        return self._when(instant)


def back_to(request: Request, path: str) -> Response:
    """Redirect the browser after a form (RFC 9110 section 15.4.4, 303: with GET).

    Parameters
    ----------
    request
        The POST of the form; its ``root_path`` is put before the path.
    path
        Path of the next page, such as ``/console/queue``.
    """
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", 303, headers=HEADERS)


def picture(png: bytes) -> Response:
    """Return a PNG."""
    return Response(png, media_type="image/png", headers=HEADERS)
