"""A complete server for the demonstration, with its listeners on free ports."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_node.scu import Peer, send
from fhir_adapter.hl7v2.client import MllpClient
from inference import registry
from kernel.errors import Category, Problem
from service.api import http_application
from service.application import Application, build
from service.demo.stand_ins import StandIns
from service.demo.story import IDENTIFIER_SYSTEM, IMAGING_MODEL, Interface, Step
from service.listeners.http import HttpListener, listening_socket
from service.listeners.intake import IntakeListeners
from service.settings import DicomPeer, HostPort, Settings, load

HOST: Final = "127.0.0.1"
STUDY_QUIET_S: Final = 2.0
"""Seconds; long enough to receive two images, short enough for a live demonstration."""

_FHIR_JSON: Final = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}


class Server:
    """A running server and clients of its three interfaces.

    Parameters
    ----------
    application
        The running application.
    listeners
        Its HL7 and DICOM listeners, open.
    url
        Base URL of its HTTP interface.
    """

    def __init__(self, application: Application, listeners: IntakeListeners, url: str) -> None:
        self.application = application
        self.url = url
        self._mllp = MllpClient(HOST, listeners.mllp_port)
        called = application.settings.dicom_ae_title
        self._dicom = Peer(ae_title=called, host=HOST, port=listeners.dicom_port, calling_ae="MODALITY")
        self._fhir = httpx.Client(base_url=f"{url}/fhir", headers=_FHIR_JSON, timeout=30.0)

    def send(self, step: Step) -> str:
        """Send a step through its interface and return the id by which its result is found.

        Raises
        ------
        Problem
            When the interface refuses it or cannot be reached.
        """
        if step.interface is Interface.HL7:
            return self._mllp.send(step.content[0]).control_id
        if step.interface is Interface.DICOM:
            send(step.content, self._dicom)
            return step.identifier
        created = self._request("POST", "", step.content[0])["entry"]
        return "/".join(created[-1]["response"]["location"].split("/_history/")[0].split("/")[-2:])

    def patient(self, number: str) -> str | None:
        """Return the reference of a patient by their medical record number; None when it is not stored yet."""
        found = self._request("GET", f"/Patient?identifier={IDENTIFIER_SYSTEM}|{number}").get("entry", ())
        return f"Patient/{found[0]['resource']['id']}" if found else None

    def close(self) -> None:
        """Close the connections."""
        self._fhir.close()
        self._mllp.close()

    def _request(self, method: str, path: str, content: bytes | None = None) -> dict[str, Any]:
        try:
            answer = self._fhir.request(method, path, content=content)
        except httpx.HTTPError as failure:
            raise Problem(Category.UNAVAILABLE, "the FHIR interface does not answer") from failure
        if answer.is_error:
            detail = f"the FHIR interface answered {answer.status_code}"
            raise Problem(Category.FAULT, detail, diagnostics=answer.text)
        body: dict[str, Any] = answer.json()
        return body


@contextmanager
def server(settings: Settings) -> Iterator[Server]:
    """Run a server until the block ends."""
    with ExitStack() as stack:
        bound = listening_socket(HOST, settings.http_port)
        stack.callback(bound.close)
        application = build(replace(settings, http_port=bound.getsockname()[1]))
        stack.callback(application.close)
        _turn_on_imaging(application)
        application.start()
        listeners = IntakeListeners(application)
        listeners.open()
        stack.callback(listeners.close)
        http = HttpListener(http_application(application), bound)
        http.open()
        stack.callback(http.close)
        running = Server(application, listeners, http.url)
        stack.callback(running.close)
        yield running


def _turn_on_imaging(application: Application) -> None:
    """Activate the imaging model, which comes as shadow because it is a demonstration."""
    now = application.clock.now()
    with application.database.read() as connection:
        row = registry.get(connection, IMAGING_MODEL)
    assert row is not None
    application.database.write(
        lambda tx: registry.set_status(tx, row.name, row.version, "active", by="demonstration", at=now)
    )


def settings_for(folder: Path, receivers: StandIns) -> Settings:
    """Return the settings of a server on free ports that delivers to the stand-ins.

    Parameters
    ----------
    folder
        Its data folder.
    receivers
        The stand-ins that results are delivered to.
    """
    return load(
        {},
        data_dir=folder,
        http_port=0,
        mllp_port=0,
        dicom_port=0,
        dicom_study_quiet_s=STUDY_QUIET_S,
        ehr_url=receivers.ehr.url,
        interface_engine=HostPort(host=HOST, port=receivers.engine.port),
        pacs=DicomPeer(ae_title=receivers.pacs.peer.ae_title, host=HOST, port=receivers.pacs.peer.port),
    )
