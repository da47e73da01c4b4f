"""What belongs to a listener is touched by that listener alone, and each listener decides who may send."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from dicom_node.scu import Peer, echo, send
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.hl7v2.synthesise import SyntheticPatient, adt_a01
from kernel.errors import Category, Problem
from kernel.tables import associations, audit_log, inbox, instances
from kernel.testing import FakeClock
from privacy.authorize import Request
from privacy.principal import Principal
from service.api import http_application
from service.application import Application, build, dicom_listener
from service.listeners.http import HttpListener, listening_socket
from service.listeners.intake import IntakeListeners
from service.settings import load

PATIENT = SyntheticPatient(
    mrn="4711", authority="HOSPITAL", family="Invented", given="Person", birth_date=date(1950, 1, 1), sex="F"
)


class Deciding:
    """An authorizer that remembers what was wanted and by whom, and refuses when it is set to."""

    def __init__(self, *, refuse: bool) -> None:
        self.refuse = refuse
        self.requests: list[tuple[str, str, str, str]] = []

    def require(self, principal: Principal, request: Request) -> None:
        wanted = (request.interaction.value, request.target, principal.client, principal.client_address)
        self.requests.append(wanted)
        if self.refuse:
            raise Problem(Category.FORBIDDEN, "not for you")


def open_application(folder: Path, authorizer: Deciding | None = None) -> Application:
    settings = load({}, data_dir=folder / "ausculta", mllp_port=0, dicom_port=0)
    return build(settings, clock=FakeClock(), authorizer=authorizer)


@contextmanager
def listening(folder: Path, authorizer: Deciding | None = None) -> Iterator[tuple[Application, IntakeListeners]]:
    application = open_application(folder, authorizer)
    listeners = IntakeListeners(application)
    listeners.open()
    try:
        yield application, listeners
    finally:
        listeners.close()
        application.close()


def rows(application: Application, table: Any) -> int:
    with application.database.read() as connection:
        return len(connection.execute(select(table)).all())


def note_association(application: Application, listener: str) -> None:
    values = {
        "association": "a-1",
        "StudyInstanceUID": "2.25.1",
        "listener": listener,
        "seen_at": application.clock.now(),
    }
    application.database.write(lambda tx: tx.execute(associations.insert().values(values)))


def own_listener(application: Application) -> str:
    return dicom_listener(application.settings)


def dicom_peer(listeners: IntakeListeners) -> Peer:
    return Peer(ae_title="AUSCULTA", host="127.0.0.1", port=listeners.dicom_port, calling_ae="MODALITY")


def send_hl7(application: Application, listeners: IntakeListeners) -> None:
    client = MllpClient("127.0.0.1", listeners.mllp_port)
    try:
        client.send(adt_a01(PATIENT, "C1", application.clock.now()))
    finally:
        client.close()


def test_a_worker_beside_a_server_leaves_its_open_associations(tmp_path: Path) -> None:
    with listening(tmp_path) as (server, _):
        note_association(server, own_listener(server))
        worker = open_application(tmp_path)
        worker.start()
        worker.close()
        assert rows(server, associations) == 1


def test_a_listener_that_starts_again_ends_what_it_left_open(tmp_path: Path) -> None:
    former = open_application(tmp_path)
    note_association(former, own_listener(former))
    former.close()
    with listening(tmp_path) as (application, _):
        assert rows(application, associations) == 0


def test_a_listener_leaves_the_associations_of_another_one(tmp_path: Path) -> None:
    former = open_application(tmp_path)
    note_association(former, own_listener(former).replace("127.0.0.1", "10.0.0.1"))
    former.close()
    with listening(tmp_path) as (application, _):
        assert rows(application, associations) == 1


def test_a_message_that_is_not_allowed_is_answered_ar_and_not_kept(tmp_path: Path) -> None:
    deciding = Deciding(refuse=True)
    with listening(tmp_path, deciding) as (application, listeners):
        with pytest.raises(Problem) as refused:
            send_hl7(application, listeners)
        assert "(AR)" in refused.value.detail
        assert rows(application, inbox) == 0
    ((interaction, event, client, address),) = deciding.requests
    assert (interaction, event, address) == ("message", "ADT^A01", "127.0.0.1")
    assert "|" in client


def test_an_instance_that_is_not_allowed_is_answered_0124_and_not_kept(tmp_path: Path) -> None:
    with listening(tmp_path, Deciding(refuse=True)) as (application, listeners):
        with pytest.raises(Problem) as refused:  # the peer's word for 0x0124
            send([chest_x_ray(ChestXRay(rows=32, columns=32))], dicom_peer(listeners))
        assert refused.value.category is Category.FORBIDDEN
        assert rows(application, instances) == 0


def test_both_dicom_operations_are_decided_and_the_peer_is_in_the_audit(tmp_path: Path) -> None:
    deciding = Deciding(refuse=False)
    with listening(tmp_path, deciding) as (application, listeners):
        echo(dicom_peer(listeners))
        send([chest_x_ray(ChestXRay(rows=32, columns=32))], dicom_peer(listeners))
        with application.database.read() as connection:
            events = [json.loads(text) for text in connection.execute(select(audit_log.c.event)).scalars()]
    assert [wanted[0] for wanted in deciding.requests] == ["c-echo", "c-store"]
    assert {wanted[2:] for wanted in deciding.requests} == {("MODALITY", "127.0.0.1")}
    (received,) = [event for event in events if event["type"]["code"] == "110107"]
    sender = next(agent for agent in received["agent"] if agent["requestor"])
    assert (sender["who"]["identifier"]["value"], sender["network"]["address"]) == ("MODALITY", "127.0.0.1")


def test_a_request_that_a_proxy_forwards_is_one_of_the_address_that_the_proxy_names(tmp_path: Path) -> None:
    deciding = Deciding(refuse=False)
    application = open_application(tmp_path, deciding)
    with closing(listening_socket("127.0.0.1", 0)) as bound:
        http = HttpListener(http_application(application), bound)
        http.open()
        for headers in ({}, {"X-Forwarded-For": "10.0.0.7"}):
            httpx.get(f"{http.url}/fhir/Patient/none", headers=headers)
        http.close()
    application.close()
    assert [wanted[3] for wanted in deciding.requests] == ["127.0.0.1", "10.0.0.7"]
