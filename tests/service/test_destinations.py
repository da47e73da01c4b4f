"""Destinations are configured instances: any number of a kind, each with a name."""

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import StandInEhr
from kernel.errors import Category, Problem
from service.destinations import read_destinations
from service.settings import load

from .hospital import ADULT, AUTHORITY, Hospital
from .test_fhir_path import post, vitals

SECRET = "a long random text"


class StandInWebhook:
    """An HTTP server that keeps what is posted and answers as configured."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.posts.append((dict(self.headers.items()), body))
                self.send_response(webhook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/results"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[StandInWebhook]:
    stand_in = StandInWebhook()
    yield stand_in
    stand_in.close()


def test_two_ehrs_and_two_engines_of_one_file_all_get_every_result(
    open_hospital: Callable[..., Hospital], tmp_path: Path
) -> None:
    ehr, engine = StandInEhr(tmp_path / "second-ehr"), StandInEngine()
    ehr.put({"resourceType": "Patient", "id": "e1", "identifier": [{"system": AUTHORITY, "value": ADULT.mrn}]})
    config = tmp_path / "ausculta.toml"
    config.write_text(
        f'[[destination]]\nname = "second-ehr"\nkind = "fhir"\nurl = "{ehr.url}"\n'
        f'[[destination]]\nname = "second-engine"\nkind = "mllp"\nhost = "127.0.0.1"\nport = {engine.port}\n'
    )
    try:
        hospital = open_hospital(destination=load({}, config).destination)
        assert list(hospital.application.destinations) == ["ehr", "engine", "pacs", "second-ehr", "second-engine"]
        hospital.admit()
        hospital.hl7(hospital.vitals())
        hospital.work()
        assert [len(one.received("RiskAssessment")) for one in (hospital.ehr, ehr)] == [1, 1]
        assert [one.deliveries for one in (hospital.engine, engine)] == [1, 1]
    finally:
        ehr.close()
        engine.close()


def with_webhook(open_hospital: Callable[..., Hospital], webhook: StandInWebhook) -> Hospital:
    table = {"name": "dashboard", "kind": "webhook", "url": webhook.url, "secret": SECRET}
    return open_hospital(ehr_url="", interface_engine=None, pacs=None, destination=(table,))


def test_a_webhook_gets_a_result_once_with_a_valid_signature(
    open_hospital: Callable[..., Hospital], webhook: StandInWebhook
) -> None:
    hospital = with_webhook(open_hospital, webhook)
    hospital.hl7(hospital.vitals())
    hospital.work()
    ((headers, body),) = webhook.posts
    assert headers["X-Ausculta-Signature"] == f"sha256={hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}"
    assert headers["Idempotency-Key"] == f"{hospital.results()[0].id}:webhook"
    assert b'"RiskAssessment"' in body


def test_a_webhook_that_failed_gets_the_same_key_and_the_same_bytes_again(
    open_hospital: Callable[..., Hospital], webhook: StandInWebhook
) -> None:
    hospital = with_webhook(open_hospital, webhook)
    webhook.status = 503
    hospital.hl7(hospital.vitals())
    hospital.work()
    webhook.status = 200
    hospital.clock.advance(60)
    hospital.work()
    (first, body), (second, again) = webhook.posts
    assert first["Idempotency-Key"] == second["Idempotency-Key"]
    assert body == again
    assert hospital.parked() == []


def test_a_webhook_gets_our_whole_url_of_a_patient_without_an_identifier(
    open_hospital: Callable[..., Hospital], webhook: StandInWebhook
) -> None:
    hospital = with_webhook(open_hospital, webhook)
    patient = {"resourceType": "Patient", "id": "p1", "birthDate": "1950-01-01"}
    assert httpx.put(f"{hospital.url}/Patient/p1", json=patient).status_code == 201
    post(hospital, vitals(hospital)[0])
    hospital.work()
    ((_, body),) = webhook.posts
    assert b'"reference":"Patient/' not in body
    assert b"/fhir/Patient/p1" in body


def test_a_delivery_that_a_webhook_refuses_permanently_is_parked(
    open_hospital: Callable[..., Hospital], webhook: StandInWebhook
) -> None:
    hospital = with_webhook(open_hospital, webhook)
    webhook.status = 400
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert hospital.parked() == ["the webhook answered 400"]


@pytest.mark.parametrize(
    ("table", "detail"),
    [
        ({"kind": "fhir"}, "destination number 1 lacks the key name"),
        ({"name": 'a"b\n', "kind": "fhir"}, "destination number 1: name must be letters, digits, '-', '_' or '.'"),
        ({"name": "a", "kind": "fax"}, "destination a: kind must be one of fhir, mllp, dicom, webhook"),
        ({"name": "a"}, "destination a: kind must be one of fhir, mllp, dicom, webhook"),
        ({"name": "a", "kind": "fhir"}, "destination a lacks the key url"),
        ({"name": "a", "kind": "mllp", "host": "h"}, "destination a lacks the key port"),
        ({"name": "a", "kind": "mllp", "host": "h", "port": 0}, "destination a: port must be a port between"),
        ({"name": "a", "kind": "dicom", "host": "h", "port": 1, "ae_title": "x" * 17}, "destination a: ae_title must"),
        ({"name": "a", "kind": "webhook", "url": "ftp://h/", "secret": "s"}, "destination a: url must be an http"),
        ({"name": "a", "kind": "webhook", "url": "http://h/", "secret": ""}, "destination a: secret must be a text"),
        ({"name": "a", "kind": "fhir", "url": "http://h/", "port": 1}, "destination a has no key port"),
    ],
)
def test_a_malformed_destination_stops_the_start_with_its_name_and_key(table: dict[str, Any], detail: str) -> None:
    with pytest.raises(Problem) as refused:
        read_destinations([table])
    assert refused.value.category is Category.INCORRECT
    assert refused.value.detail.startswith(detail)


def test_a_name_that_a_shortcut_has_already_stops_the_start(open_hospital: Callable[..., Hospital]) -> None:
    with pytest.raises(Problem, match="two destinations named ehr"):
        open_hospital(destination=({"name": "ehr", "kind": "fhir", "url": "http://127.0.0.1:9/"},))


def test_two_names_that_differ_only_in_case_stop_the_start() -> None:
    table = {"kind": "fhir", "url": "http://127.0.0.1:9/"}
    with pytest.raises(Problem, match="two destinations named ward"):
        read_destinations([table | {"name": "Ward"}, table | {"name": "ward"}])


def test_destinations_that_are_no_tables_stop_the_start(tmp_path: Path) -> None:
    config = tmp_path / "ausculta.toml"
    config.write_text('destination = "ehr"\n')
    with pytest.raises(Problem, match=r"\[\[destination\]\] tables"):
        load({}, config)
