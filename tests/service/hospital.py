"""A complete hospital on loopback: the server with its three real listeners, and the three systems around it.

Time stands still until a test moves it, and no worker thread runs: ``work()`` does what is due, immediately. What a
test sees is therefore the same every time, although every message goes through a real socket.
"""

import threading
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import httpx

from dicom_node.scu import Peer
from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.hl7v2.synthesise import SyntheticPatient, adt_a01, oru_vitals
from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import LoopbackServer, StandInEhr
from inference import registry
from kernel.testing import FakeClock
from service.application import Application
from service.listeners.intake import IntakeListeners

AUTHORITY = "urn:ausculta:authority:HOSPITAL"
QUIET_S = 30.0

ILL = {
    "respirations": "25",
    "spo2": "91",
    "systolic": "90",
    "diastolic": "60",
    "pulse": "131",
    "temperature": "39.1",
    "consciousness": "Voice",
    "oxygen_flow": "2",
}
"""Scores the greatest number of points in every parameter but temperature: 3+3+2+3+3+3+2 = 19."""

ADULT = SyntheticPatient(
    mrn="4711", authority="HOSPITAL", family="Invented", given="Person", birth_date=date(1950, 1, 1), sex="F"
)
CHILD = replace(ADULT, mrn="0815", birth_date=date(2015, 6, 1))


@dataclass
class Hospital:
    """The server and the systems around it."""

    application: Application
    listeners: IntakeListeners
    web: LoopbackServer
    ehr: StandInEhr
    engine: StandInEngine
    pacs: StandInPacs
    clock: FakeClock
    sent: int = field(default=0)

    @property
    def url(self) -> str:
        return f"{self.web.url}/fhir"

    def hl7(self, message: bytes) -> str:
        """Send a message and return MSA-1, refusals included."""
        client = MllpClient("127.0.0.1", self.listeners.mllp_port)
        try:
            return client.send(message).code
        finally:
            client.close()

    def vitals(self, patient: SyntheticPatient = ADULT, **changes: str) -> bytes:
        """Write an ORU^R01 of now, with a control id that was not used before."""
        self.sent += 1
        values = {name: value for name, value in (ILL | changes).items() if value}
        return oru_vitals(patient, values, f"C{self.sent}", self.clock.now() - timedelta(minutes=1))

    def admit(self, patient: SyntheticPatient = ADULT) -> None:
        """Admit a patient, and store the patient in the EHR."""
        identifier = [{"system": AUTHORITY, "value": patient.mrn}]
        self.ehr.put({"resourceType": "Patient", "id": f"ehr-{patient.mrn}", "identifier": identifier})
        assert self.hl7(adt_a01(patient, f"ADT-{patient.mrn}", self.clock.now())) == "AA"
        self.work()

    def dicom(self, *images: ChestXRay) -> None:
        """Send a study over one association."""
        c_store([chest_x_ray(image) for image in images], self.peer)

    @property
    def peer(self) -> Peer:
        return Peer(ae_title="AUSCULTA", host="127.0.0.1", port=self.listeners.dicom_port)

    def work(self) -> None:
        """Run every job that is due now."""
        while self.application.worker.run_one():
            pass

    def rest(self) -> None:
        """Advance the clock until the studies are complete, after their associations have ended, and process them."""
        hung_up = threading.Event()
        for _ in range(200):
            if not self.listeners._dicom.associations:
                break
            hung_up.wait(0.02)
        self.clock.advance(QUIET_S)
        self.work()

    def get(self, path: str) -> dict[str, Any]:
        """Read from our FHIR API."""
        answer = httpx.get(f"{self.url}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def all(self, query: str) -> list[dict[str, Any]]:
        """Search in our FHIR API."""
        return [entry["resource"] for entry in self.get(query).get("entry", [])]

    def results(self) -> list[Any]:
        """Return the rows of the results table, oldest first."""
        from sqlalchemy import select

        from kernel.tables import results

        with self.application.database.read() as connection:
            return list(connection.execute(select(results).order_by(results.c.seq)))

    def set_model(self, name: str, status: str) -> None:
        with self.application.database.read() as connection:
            row = registry.get(connection, name)
        assert row is not None
        self.application.database.write(
            lambda tx: registry.set_status(tx, name, row.version, status, by="test", at=self.clock.now())  # type: ignore[arg-type]
        )

    def parked(self) -> list[str]:
        with self.application.database.read() as connection:
            jobs = [job.problem.detail for job in self.application.jobs.listing(connection, "parked") if job.problem]
            return jobs + [delivery.problem or "" for delivery in self.application.outbox.parked(connection)]
