"""``ausculta serve``: runs a complete server in one process until a signal stops it."""

import contextlib
import dataclasses
import gc
import signal
import sys
from typing import Final

import typer

from kernel.folder_lock import one_server
from kernel.log import get_logger
from privacy.authorize import Authorizer
from service.api import http_application
from service.application import build
from service.listeners.http import http_server, listening_socket
from service.listeners.intake import IntakeListeners
from service.packages import check_packages
from service.settings import Settings

SWITCH_INTERVAL_S: Final = 0.001
"""Python's default is 5 ms: a listener would wait that long for a conversion at each hand-over."""

_log = get_logger(__name__)


def serve(settings: Settings, authorizer: Authorizer | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then complete running requests and return unfinished jobs to the queue.

    Parameters
    ----------
    settings
        Checked settings.
    authorizer
        As for :func:`service.application.build`.

    Raises
    ------
    Problem
        When a port, the data folder or the database cannot be used, or another server uses the folder.
    """
    check_packages()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with (
        contextlib.closing(listening_socket(settings.http_host, settings.http_port)) as bound,
        one_server(settings.data_dir),
    ):
        settings = dataclasses.replace(settings, http_port=bound.getsockname()[1])
        application = build(settings, authorizer=authorizer)
        listeners = IntakeListeners(application)
        server = http_server(http_application(application))
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: setattr(server, "should_exit", True))
        application.start(loaded=keep_what_is_loaded)
        try:
            listeners.open()
            bound.listen(512)
            _announce(settings, listeners)
            server.run(sockets=[bound])
        finally:
            listeners.close()
            application.close()
            _log.info("stopped")


def keep_what_is_loaded() -> None:
    """Exempt what the process has loaded from garbage collection.

    A collection looks through all objects and holds the interpreter meanwhile: with the models' libraries for tens of
    milliseconds, in which no listener answers.
    """
    gc.collect()
    gc.freeze()


def _announce(settings: Settings, listeners: IntakeListeners) -> None:
    web = f"http://{settings.http_host}:{settings.http_port}"
    typer.echo(f"FHIR     {web}/fhir")
    typer.echo(f"console  {web}/console")
    typer.echo(f"HL7 v2   mllp://{settings.mllp_host}:{listeners.mllp_port}")
    typer.echo(f"DICOM    {settings.dicom_ae_title}@{settings.dicom_host}:{listeners.dicom_port}")
    _log.info("serving", http=settings.http_port, mllp=listeners.mllp_port, dicom=listeners.dicom_port)
