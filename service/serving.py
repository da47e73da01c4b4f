"""``ausculta serve`` and ``ausculta worker``: the processes of a server, by role, under one supervisor.

A conversion or a model never holds the interpreter of a listener: listeners and workers are processes of their own,
which share the database. The supervisor holds the socket of HTTP and the data folder for all of them.
"""

import contextlib
import dataclasses
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import typer

from kernel.folder_lock import one_server
from kernel.log import get_logger
from privacy.authorize import Authorizer
from service.api import http_application
from service.application import Application, compose, prepare
from service.application import Role as Part
from service.listeners.http import http_server, listening_socket
from service.listeners.intake import IntakeListeners
from service.packages import check_packages
from service.settings import Settings
from service.supervisor import Ready, Role, Supervisor, run_once

SWITCH_INTERVAL_S: Final = 0.001
"""Python's default is 5 ms: a listener would wait that long for another thread at each hand-over."""

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
    with (
        one_server(settings.data_dir),
        contextlib.closing(listening_socket(settings.http_host, settings.http_port)) as bound,
    ):
        settings = dataclasses.replace(settings, http_port=bound.getsockname()[1])
        if not _prepare(settings):
            return
        first = Role(name="listeners", run=lambda ready: _listen(settings, authorizer, bound, ready))
        more = [
            Role(name=f"http-{number}", run=lambda ready: _answer_http(settings, authorizer, bound, ready))
            for number in range(2, settings.http_processes + 1)
        ]
        supervisor = Supervisor([_workers(settings, authorizer), [first, *more]])
        supervisor.run(lambda said: _announce(settings, said))
        _log.info("stopped")


def work(settings: Settings, authorizer: Authorizer | None = None) -> None:
    """Run jobs without listeners until SIGTERM or SIGINT.

    Parameters
    ----------
    settings, authorizer
        As for :func:`serve`.

    Raises
    ------
    Problem
        When the data folder or the database cannot be used.
    """
    check_packages()
    if not _prepare(settings):
        return
    settings = dataclasses.replace(settings, worker_processes=max(1, settings.worker_processes))
    supervisor = Supervisor([_workers(settings, authorizer)])
    supervisor.run(lambda _: typer.echo("working; stop with SIGTERM or Ctrl-C", err=True))


def _prepare(settings: Settings) -> bool:
    """Make ready what the processes share, in a process that ends: the supervisor has no connection to inherit.

    Returns whether it is ready; not when the server was asked to stop meanwhile.
    """
    keep_what_is_loaded()
    return run_once("prepare", lambda: prepare(settings))


def _workers(settings: Settings, authorizer: Authorizer | None) -> Sequence[Role]:
    return [
        Role(name=f"worker-{number}", run=lambda ready: _work(settings, authorizer, ready))
        for number in range(1, settings.worker_processes + 1)
    ]


def _work(settings: Settings, authorizer: Authorizer | None, ready: Ready) -> None:
    """Be a worker."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    application = compose(settings, authorizer=authorizer)
    try:
        application.start(Part.WORK, loaded=keep_what_is_loaded)
        ready({})
        stopping.wait()
    finally:
        application.close()


def _listen(settings: Settings, authorizer: Authorizer | None, bound: socket.socket, ready: Ready) -> None:
    """Be the process with all listeners."""
    application = _listening(settings, authorizer)
    listeners = IntakeListeners(application)
    try:
        listeners.open()
        ports = {"MLLP_PORT": listeners.mllp_port, "DICOM_PORT": listeners.dicom_port}
        _run_http(application, bound, lambda: ready(ports), Part.SIGN)
    finally:
        listeners.close()
        application.close()


def _answer_http(settings: Settings, authorizer: Authorizer | None, bound: socket.socket, ready: Ready) -> None:
    """Be one more process that answers HTTP."""
    application = _listening(settings, authorizer)
    try:
        _run_http(application, bound, lambda: ready({}))
    finally:
        application.close()


def _listening(settings: Settings, authorizer: Authorizer | None) -> Application:
    """Return an application that listens and runs no jobs."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return compose(dataclasses.replace(settings, worker_threads=0), authorizer=authorizer)


def _run_http(application: Application, bound: socket.socket, ready: Callable[[], None], *parts: Part) -> None:
    """Answer HTTP until SIGTERM."""
    server = http_server(http_application(application))
    signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
    application.start(Part.LISTEN, *parts, loaded=keep_what_is_loaded)
    bound.listen(512)
    ready()
    server.run(sockets=[bound])


def keep_what_is_loaded() -> None:
    """Exempt what the process has loaded from garbage collection.

    A collection looks through all objects and holds the interpreter meanwhile: with the models' libraries for tens of
    milliseconds, in which no listener answers.
    """
    gc.collect()
    gc.freeze()


def _announce(settings: Settings, said: Mapping[str, int]) -> None:
    web = f"http://{settings.http_host}:{settings.http_port}"
    typer.echo(f"FHIR     {web}/fhir")
    typer.echo(f"console  {web}/console")
    typer.echo(f"HL7 v2   mllp://{settings.mllp_host}:{said['MLLP_PORT']}")
    typer.echo(f"DICOM    {settings.dicom_ae_title}@{settings.dicom_host}:{said['DICOM_PORT']}")
    _log.info("serving", http=settings.http_port, mllp=said["MLLP_PORT"], dicom=said["DICOM_PORT"])
