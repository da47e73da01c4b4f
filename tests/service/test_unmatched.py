"""A message that corrects or withdraws what is not stored is shown to a person until somebody has looked at it."""

import httpx
import pytest

from fhir_adapter.hl7v2.writer import stamp
from kernel.inbox import unmatched as unmatched_messages

from .hospital import Hospital
from .test_commands import Command, ausculta  # noqa: F401
from .test_observation_identity import PULSE, measured, message, obx, receive, unmatched, vitals
from .test_order import inbox_states


@pytest.fixture
def warned(hospital: Hospital) -> Hospital:
    """A hospital where a deletion named another order than the value it means."""
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at)))
    assert ready(hospital) == "pass"
    receive(hospital, message(hospital, [obx(PULSE, "140", "D", stamp(at))], at=stamp(at), numbers="|O-99^WARDSYS"))
    return hospital


def ready(hospital: Hospital) -> str:
    return str(httpx.get(f"{hospital.web.url}/health/ready").json()["status"])


def identifier(hospital: Hospital) -> str:
    with hospital.application.database.read() as connection:
        (found,) = unmatched_messages(connection)
    return found.id


def dismiss(hospital: Hospital, name: str, **form: str) -> int:
    url = f"{hospital.web.url}/console/messages/{name}/dismiss"
    return httpx.post(url, data=form, headers={"Origin": hospital.web.url}).status_code


def test_health_warns_until_a_person_has_looked(warned: Hospital) -> None:
    assert ready(warned) == "warn"
    assert unmatched(warned) == 1
    assert dismiss(warned, identifier(warned), reason="corrected at the sender") == 303
    assert ready(warned) == "pass"
    assert unmatched(warned) == 0
    assert inbox_states(warned)[-1] == "dismissed"


def test_the_queue_lists_it_without_patient_data(warned: Hospital) -> None:
    page = httpx.get(f"{warned.web.url}/console/queue").text
    assert identifier(warned) in page
    assert "WARDSYS" in page
    assert "Invented" not in page


def test_it_is_dismissed_once_and_with_a_reason_that_is_recorded(warned: Hospital) -> None:
    name = identifier(warned)
    assert dismiss(warned, name) == 400
    assert dismiss(warned, name, reason="corrected at the sender") == 303
    assert dismiss(warned, name, reason="once more") == 404
    assert dismiss(warned, "none", reason="a guess") == 404
    (event,) = [it for it in warned.all("AuditEvent?_count=200") if it["subtype"][0]["code"] == "message-dismissed"]
    assert name in str(event["entity"])
    assert "corrected at the sender" in str(event)


def test_the_command_lists_shows_and_dismisses(warned: Hospital, ausculta: Command) -> None:  # noqa: F811
    name = identifier(warned)
    listed = ausculta("messages", "list").stdout
    assert (name in listed, "Invented" in listed) == (True, False)
    shown = ausculta("messages", "show", name).stdout
    assert "O-99^WARDSYS" in shown
    assert "8867-4" in shown
    assert ausculta("messages", "dismiss", name).returncode == 2
    assert ausculta("messages", "dismiss", name, "--reason", "corrected at the sender").returncode == 0
    assert ready(warned) == "pass"
    assert name not in ausculta("messages", "list").stdout


def test_reading_it_is_recorded(warned: Hospital, ausculta: Command) -> None:  # noqa: F811
    name = identifier(warned)
    ausculta("messages", "show", name)
    events = warned.all("AuditEvent?_count=200")
    assert len([it for it in events if it["action"] == "R" and name in str(it.get("entity"))]) == 1
