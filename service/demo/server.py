"""The demonstration's own server: a whole one, its doors on free ports, spoken to as the hospital's systems would."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx

from dicom_node.scu import Peer, send
from fhir_adapter.hl7v2.client import MllpClient
from kernel.errors import Category, Problem
from service.api import application
from service.demo.stand_ins import StandIns
from service.demo.story import IDENTIFIER_SYSTEM, Door, Step
from service.doors.http import HttpDoor, listening_socket
from service.doors.opening import Doors
from service.settings import DicomPeer, HostPort, Settings, load
from service.wiring import House, build

HOST: Final = "127.0.0.1"
STUDY_QUIET_S: Final = 2.0
"""Long enough for two images, short enough for somebody who watches."""

_FHIR_JSON: Final = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}


class Server:
    """A running Ausculta and the hospital's ends of its three doors.

    Parameters
    ----------
    house
        What runs.
    doors
        Its HL7 and DICOM doors, open.
    url
        Where its HTTP door is.
    """

    def __init__(self, house: House, doors: Doors, url: str) -> None:
        self.house = house
        self.url = url
        self._mllp = MllpClient(HOST, doors.mllp_port)
        called = house.settings.dicom_ae_title
        self._dicom = Peer(ae_title=called, host=HOST, port=doors.dicom_port, calling_ae="MODALITY")
        self._fhir = httpx.Client(base_url=f"{url}/fhir", headers=_FHIR_JSON, timeout=30.0)

    def send(self, step: Step) -> str:
        """Send a step through its door and return the id under which it can be looked up.

        Raises
        ------
        Problem
            When the door does not take it.
        """
        if step.door is Door.HL7:
            return self._mllp.send(step.content[0]).control_id
        if step.door is Door.DICOM:
            send(step.content, self._dicom)
            return step.identifier
        created = self._asked("POST", "", step.content[0])["entry"]
        return "/".join(created[-1]["response"]["location"].split("/_history/")[0].split("/")[-2:])

    def patient(self, number: str) -> str | None:
        """Return the reference of a patient by their medical record number; None while there is none."""
        found = self._asked("GET", f"/Patient?identifier={IDENTIFIER_SYSTEM}|{number}").get("entry", ())
        return f"Patient/{found[0]['resource']['id']}" if found else None

    def close(self) -> None:
        """Hang up."""
        self._fhir.close()
        self._mllp.close()

    def _asked(self, method: str, path: str, content: bytes | None = None) -> dict[str, Any]:
        try:
            answer = self._fhir.request(method, path, content=content)
        except httpx.HTTPError as failure:
            raise Problem(Category.UNAVAILABLE, "the FHIR door does not answer") from failure
        if answer.is_error:
            detail = f"the FHIR door answered {answer.status_code}"
            raise Problem(Category.FAULT, detail, diagnostics=answer.text)
        body: dict[str, Any] = answer.json()
        return body


@contextmanager
def server(settings: Settings) -> Iterator[Server]:
    """Run a server until the block ends."""
    with ExitStack() as stack:
        bound = listening_socket(HOST, settings.http_port)
        stack.callback(bound.close)
        house = build(replace(settings, http_port=bound.getsockname()[1]))
        stack.callback(house.close)
        house.start()
        doors = Doors(house)
        doors.open()
        stack.callback(doors.close)
        http = HttpDoor(application(house), bound)
        http.open()
        stack.callback(http.close)
        running = Server(house, doors, http.url)
        stack.callback(running.close)
        yield running


def settings_for(folder: Path, around: StandIns) -> Settings:
    """Return the settings of a server on free ports that keeps its data in ``folder`` and delivers to the stand-ins."""
    return load(
        {},
        data_dir=folder,
        http_port=0,
        mllp_port=0,
        dicom_port=0,
        dicom_study_quiet_s=STUDY_QUIET_S,
        ehr_url=around.ehr.url,
        engine=HostPort(host=HOST, port=around.engine.port),
        pacs=DicomPeer(ae_title=around.pacs.peer.ae_title, host=HOST, port=around.pacs.peer.port),
    )
