"""The structured log: constant event names and identifiers that are not PHI.

A log line is an event name from the source code and a few key-value pairs. To keep PHI out, only short scalars are
written, and an exception is written as its type and the line of code that raised it, a
:class:`~kernel.errors.Problem` as its category, never as its text.
"""

import logging
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from kernel.errors import Problem

LONGEST_VALUE = 200
"""Longest string value, in characters; longer ones are cut, so that a log line is never a copy of a message."""


def _only_scalars(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    scalars: dict[str, Any] = {}
    for key, value in event.items():
        if isinstance(value, Problem):
            scalars[key] = f"problem:{value.category}"
        elif isinstance(value, BaseException):
            scalars[key] = f"{type(value).__name__}{_place_of(value)}"
        elif value is None or isinstance(value, bool | int | float):
            scalars[key] = value
        else:
            scalars[key] = str(value)[:LONGEST_VALUE]
    return scalars


def _place_of(failure: BaseException) -> str:
    """Return the file and line of the code that raised it, such as `` at dicom_node/volume.py:185``."""
    place, trace = "", failure.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        place, trace = f" at {file.parent.name}/{file.name}:{trace.tb_lineno}", trace.tb_next
    return place


_process = ""


def name_process(name: str) -> None:
    """Have each log line of this process name it.

    Parameters
    ----------
    name
        What the process does, such as ``worker-1``.
    """
    global _process  # noqa: PLW0603 - a process has one name, and threads do not inherit context variables
    _process = name


def _with_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {"process": _process, **event} if _process else event


def configure_logging(*, level: str = "INFO", json: bool = True, stream: TextIO | None = None) -> None:
    """Configure the log of the process; called once, by the service layer.

    Parameters
    ----------
    level
        Least severe level that is written.
    json
        Write one JSON object per line, for log collectors; otherwise lines for a person at a terminal.
    stream
        Where to write; standard error by default.
    """
    renderer = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_process,
            _only_scalars,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
    )
    for library in ("pynetdicom", "pydicom", "sqlalchemy", "httpx", "uvicorn.access", "flwr"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a module; ``name`` is its ``__name__``."""
    return cast("FilteringBoundLogger", structlog.get_logger(source=name))
