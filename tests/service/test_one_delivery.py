"""The objects of one result are one delivery: a PACS never shows a heat map without the report that explains it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.events import Event

from service.settings import DicomPeer

from .hospital import Hospital
from .test_commands import Command, ausculta  # noqa: F401 - a fixture
from .test_dicom_path import CHEST
from .test_held_deliveries import deliveries, pass_time
from .test_undelivered import page, post, ready


class ImagesOnly:
    """A PACS that negotiates Secondary Capture and SRs only after :meth:`take_reports`."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self._entity = ApplicationEntity("PACS")
        self._entity.add_supported_context(SecondaryCaptureImageStorage)
        self._server = self._entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)]
        )
        assert self._server is not None
        self.peer = DicomPeer(ae_title="PACS", host="127.0.0.1", port=self._server.server_address[1])

    def take_reports(self) -> None:
        self._entity.add_supported_context(Comprehensive3DSRStorage)
        self._server.contexts = self._entity.supported_contexts  # type: ignore[union-attr]

    def close(self) -> None:
        self._server.shutdown()  # type: ignore[union-attr]

    def _keep(self, event: Event) -> int:
        self.stored.append(event.request.AffectedSOPClassUID)
        return 0x0000


@pytest.fixture
def archive() -> Iterator[ImagesOnly]:
    one = ImagesOnly()
    yield one
    one.close()


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], archive: ImagesOnly) -> Hospital:
    hospital = open_hospital(ehr_url="", interface_engine=None, pacs=archive.peer)
    hospital.dicom(CHEST)
    hospital.rest()
    return hospital


def test_a_pacs_that_refuses_the_report_gets_no_heat_map(hospital: Hospital, archive: ImagesOnly) -> None:
    pass_time(hospital, 1)
    assert archive.stored == []
    report, heat_map = deliveries(hospital, "parked")
    assert report.problem == "the peer takes no such object in this transfer syntax"
    assert heat_map.problem == "not sent: it belongs to a delivery that was not accepted"
    assert ready(hospital)["deliveries"]["pacs"]["parked"] == 2
    assert heat_map.problem in page(hospital, "queue")


@pytest.mark.parametrize("chosen", [0, 1], ids=["report", "heat-map"])
def test_a_replay_of_either_sends_the_report_first(hospital: Hospital, archive: ImagesOnly, chosen: int) -> None:
    archive.take_reports()
    assert post(hospital, f"deliveries/{deliveries(hospital, 'parked')[chosen].id}/replay") == 303
    hospital.work()
    assert archive.stored == [Comprehensive3DSRStorage, SecondaryCaptureImageStorage]
    assert hospital.parked() == []


def test_a_replay_of_the_heat_map_alone_does_not_pass_a_report_that_is_refused_again(
    hospital: Hospital, archive: ImagesOnly
) -> None:
    _, heat_map = deliveries(hospital, "parked")
    assert post(hospital, f"deliveries/{heat_map.id}/replay") == 303
    pass_time(hospital, 1)
    assert (archive.stored, len(deliveries(hospital, "parked"))) == ([], 2)


def test_a_dismissed_report_takes_its_heat_map_with_it(hospital: Hospital, archive: ImagesOnly) -> None:
    report, heat_map = deliveries(hospital, "parked")
    assert post(hospital, f"deliveries/{report.id}/dismiss", reason="by telephone") == 303
    pass_time(hospital, 1)
    assert [one.id for one in deliveries(hospital, "dismissed")] == [report.id, heat_map.id]
    assert archive.stored == []


def test_the_next_result_of_the_patient_passes(hospital: Hospital, archive: ImagesOnly) -> None:
    archive.take_reports()
    hospital.dicom(replace(CHEST, seed=5))
    hospital.rest()
    assert archive.stored == [Comprehensive3DSRStorage, SecondaryCaptureImageStorage]
    assert len(deliveries(hospital, "parked")) == 2


def test_a_report_that_a_person_parks_holds_its_heat_map(
    open_hospital: Callable[..., Hospital],
    ausculta: Command,  # noqa: F811
) -> None:
    hospital = open_hospital(ehr_url="", interface_engine=None)
    pacs = hospital.pacs.peer.port
    hospital.pacs.close()
    hospital.dicom(CHEST)
    hospital.rest()
    report, _ = deliveries(hospital, "pending")
    assert ausculta("deliveries", "park", report.id, "--reason", "wrong ward").returncode == 0
    hospital.pacs.start(port=pacs)
    pass_time(hospital, 1)
    assert hospital.pacs.arrivals == {}
    assert len(deliveries(hospital, "parked")) == 2
