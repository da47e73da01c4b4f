"""A PACS that takes reports and refuses pictures: each picture is parked, and the reports go on."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from dicom_node.listener.association import ReceivedInstance
from dicom_node.synthesise import ChestXRay
from kernel.errors import Category, Problem
from kernel.testing import FakeClock
from service.settings import DicomPeer

from .hospital import Hospital
from .test_undelivered import ready

WARD = [
    ChestXRay(PatientID=f"WARD{number}", IssuerOfPatientID="HOSPITAL", rows=256, columns=256, seed=number)
    for number in range(6)
]


class Pacs:
    """Accepts no presentation context but that of reports; each association takes a second."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.clock: FakeClock | None = None
        entity = ApplicationEntity("PACS")
        entity.add_supported_context(Comprehensive3DSRStorage)
        handlers = [(evt.EVT_C_STORE, self._keep), (evt.EVT_REQUESTED, self._requested)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def _keep(self, event: evt.Event) -> int:
        self.reports.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _requested(self, _event: evt.Event) -> None:
        assert self.clock is not None
        self.clock.advance(1)


def receive(hospital: Hospital) -> None:
    for film in WARD:
        hospital.dicom(film)
    hospital.rest()


def state_of_the_pacs(hospital: Hospital) -> dict[str, object]:
    found: dict[str, object] = ready(hospital)["deliveries"]["pacs"]
    return found


@pytest.fixture
def reports_only() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.server.shutdown()


def test_a_pacs_without_a_presentation_context_for_pictures_is_not_paused(
    open_hospital: Callable[..., Hospital], reports_only: Pacs
) -> None:
    port = reports_only.server.socket.getsockname()[1]
    hospital = open_hospital(pacs=DicomPeer(ae_title="PACS", host="127.0.0.1", port=port), ehr_url="")
    reports_only.clock = hospital.clock
    receive(hospital)
    assert len(reports_only.reports) == len(WARD)
    assert hospital.parked() == ["the peer takes no such object in this transfer syntax"] * len(WARD)
    assert "paused_until" not in state_of_the_pacs(hospital)
    hospital.dicom(replace(WARD[0], PatientID="LATER"))
    hospital.rest()
    assert len(reports_only.reports) == len(WARD) + 1


@pytest.mark.parametrize("category", [Category.UNSUPPORTED, Category.INCORRECT])
def test_a_pacs_that_refuses_each_picture_is_not_paused(hospital: Hospital, category: Category) -> None:
    def refuse(received: ReceivedInstance) -> Problem | None:
        hospital.clock.advance(1)
        picture = received.SOPClassUID == SecondaryCaptureImageStorage
        return Problem(category, "no pictures here") if picture else None

    hospital.pacs.refuse_when = refuse
    receive(hospital)
    assert len(hospital.pacs.arrivals) == len(WARD)
    assert "paused_until" not in state_of_the_pacs(hospital)
    parked = [one for one in hospital.parked() if one.startswith("the peer refused the instance")]
    assert len(parked) == len(WARD)


def test_a_pacs_that_refuses_each_report_for_a_reason_of_its_own_is_paused(hospital: Hospital) -> None:
    hospital.pacs.refuse_with = Problem(Category.INCORRECT, "nothing here")
    receive(hospital)
    assert "paused_until" in state_of_the_pacs(hospital)
