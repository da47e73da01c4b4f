"""Two EHRs as destinations, by configuration alone: each gets every result, and none waits for the other."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.settings import load

from .hospital import Hospital

PATIENCE_S = 30


class ScriptedEhr:
    """A FHIR server as far as a transaction goes: it answers with a status, or does not answer for a while."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        ehr = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                ehr.asked.set()
                ehr.may_answer.wait(PATIENCE_S)
                entries = [{"response": {"status": "201 Created"}} for _ in json.loads(body)["entry"]]
                answer = json.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": entries})
                self.send_response(ehr.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())
                if ehr.status == 200:
                    ehr.bodies.append(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/fhir"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def results(self) -> list[str]:
        """Return the ids of the results that it accepted, in order."""
        return [body.decode().partition("urn:ausculta:result|")[2][:64] for body in self.bodies]

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def ehrs() -> Iterator[tuple[ScriptedEhr, ScriptedEhr]]:
    both = ScriptedEhr(), ScriptedEhr()
    yield both
    for one in both:
        one.close()


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], tmp_path: Path, ehrs: tuple[ScriptedEhr, ScriptedEhr]) -> Hospital:
    """A hospital whose only destinations are the two EHRs of its TOML file."""
    config = tmp_path / "ausculta.toml"
    names = ("city", "county")
    tables = (
        f'[[destination]]\nname = "{name}"\nkind = "fhir"\nurl = "{ehr.url}"\n'
        for name, ehr in zip(names, ehrs, strict=True)
    )
    config.write_text("\n".join(tables))
    return open_hospital(ehr_url="", interface_engine=None, pacs=None, destination=load({}, config).destination)


def score(hospital: Hospital, *pulses: str) -> list[str]:
    """Send vital signs a minute apart and return the ids of all results."""
    for pulse in pulses:
        hospital.clock.advance(60)
        assert hospital.hl7(hospital.vitals(pulse=pulse)) == "AA"
        hospital.work()
    return [row.id for row in hospital.results()]


def test_both_get_every_result(hospital: Hospital, ehrs: tuple[ScriptedEhr, ScriptedEhr]) -> None:
    expected = score(hospital, "131", "99")
    assert len(expected) == 2
    assert [ehr.results() for ehr in ehrs] == [expected, expected]


def test_one_that_is_away_does_not_hold_the_other_and_gets_its_results_in_order(
    hospital: Hospital, ehrs: tuple[ScriptedEhr, ScriptedEhr]
) -> None:
    away, present = ehrs
    away.status = 503
    expected = score(hospital, "131", "99", "120")
    assert (away.results(), present.results()) == ([], expected)
    away.status = 200
    hospital.clock.advance(3600)
    hospital.work()
    refused, *later = expected  # it makes way for the one behind it
    assert refused not in away.results()
    assert [ehr.results() for ehr in ehrs] == [later, expected]
    assert hospital.parked() == []


def test_one_that_does_not_answer_does_not_hold_the_other(
    hospital: Hospital, ehrs: tuple[ScriptedEhr, ScriptedEhr]
) -> None:
    silent, present = ehrs
    silent.may_answer.clear()
    assert hospital.hl7(hospital.vitals()) == "AA"
    waiting = threading.Thread(target=hospital.work)
    waiting.start()
    assert silent.asked.wait(PATIENCE_S)
    hospital.work()
    expected = [row.id for row in hospital.results()]
    assert (silent.results(), present.results()) == ([], expected)
    silent.may_answer.set()
    waiting.join()
    assert silent.results() == expected
