"""The commands of the console, their audit events, and the protection against forms of other sites."""

import pytest

from inference import registry
from service.application import Application

from .examples import HOST, Browser, audit_events, park_delivery, park_job, status_of_delivery

ELSEWHERE = "http://evil.example"


def commands(application: Application) -> list[tuple[str, str, str]]:
    """(command, entity, reason) of the commands in the audit log."""
    return [
        (
            event["subtype"][0]["code"],
            event["entity"][0]["what"]["identifier"]["value"],
            event.get("outcomeDesc", ""),
        )
        for event in audit_events(application)
        if event["subtype"][0]["system"] == "urn:ausculta:command"
    ]


def job_states(application: Application) -> dict[str, str]:
    with application.database.read() as connection:
        return {job.id: job.status for job in application.jobs.listing(connection)}


def stopped(application: Application) -> dict[str, str | None]:
    with application.database.read() as connection:
        return {row.name: row.stop_reason for row in registry.everything(connection) if row.stopped}


def test_a_parked_job_is_replayed_and_that_is_recorded(application: Application, browser: Browser) -> None:
    job = park_job(application)
    answer = browser.post(f"/console/jobs/{job}/replay")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/queue")
    assert job_states(application) == {job: "waiting"}
    assert commands(application) == [("job-replayed", f"urn:uuid:{job}", "")]


def test_a_parked_delivery_is_replayed_and_that_is_recorded(application: Application, browser: Browser) -> None:
    delivery = park_delivery(application, "r-1")
    assert browser.post(f"/console/deliveries/{delivery}/replay").status_code == 303
    assert status_of_delivery(application, delivery) == "pending"
    assert commands(application) == [("delivery-replayed", f"urn:uuid:{delivery}", "")]


@pytest.mark.parametrize("kind", ["jobs", "deliveries"])
def test_an_unknown_job_or_delivery_is_not_replayed(application: Application, browser: Browser, kind: str) -> None:
    assert browser.post(f"/console/{kind}/none/replay").status_code == 404
    assert commands(application) == []


def test_a_model_is_stopped_and_resumed_with_a_reason(application: Application, browser: Browser) -> None:
    assert browser.post("/console/models/news2/stop", {"reason": "  wrong\nunits "}).status_code == 303
    assert stopped(application) == {"news2": "wrong units"}
    assert browser.post("/console/models/news2/resume", {"reason": "repaired"}).status_code == 303
    assert stopped(application) == {}
    assert commands(application) == [
        ("model-stopped", "urn:ausculta:model:news2", "wrong units"),
        ("model-resumed", "urn:ausculta:model:news2", "repaired"),
    ]


def test_all_models_are_stopped_at_once(application: Application, browser: Browser) -> None:
    browser.post("/console/models/stop", {"reason": "recall"})
    assert stopped(application) == {"news2": "recall", "cxr-pneumonia": "recall"}
    assert commands(application) == [("model-stopped", "urn:ausculta:model:all", "recall")]


@pytest.mark.parametrize("form", [{}, {"reason": "  "}, {"reason": "x" * 501}, {"reason": "x" * 9000}])
def test_without_a_valid_reason_nothing_is_stopped(
    application: Application, browser: Browser, form: dict[str, str]
) -> None:
    assert browser.post("/console/models/news2/stop", form).status_code == 400
    assert stopped(application) == {}


def test_an_unknown_model_is_not_stopped(application: Application, browser: Browser) -> None:
    assert browser.post("/console/models/none/stop", {"reason": "a test"}).status_code == 404
    assert commands(application) == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"origin": ELSEWHERE, "sec_fetch_site": "cross-site"}, id="another site"),
        pytest.param({"origin": "http://127.0.0.1:9999", "sec_fetch_site": "same-site"}, id="another port"),
        pytest.param({"origin": ELSEWHERE}, id="another site in an old browser"),
        pytest.param({"origin": "null", "sec_fetch_site": "cross-site"}, id="a sandboxed frame"),
        pytest.param({"origin": HOST, "sec_fetch_site": "cross-site"}, id="contradiction"),
        pytest.param({"accept": "*/*"}, id="no origin"),
    ],
)
def test_a_form_from_another_origin_is_refused(
    application: Application, browser: Browser, headers: dict[str, str]
) -> None:
    job = park_job(application)
    answer = browser.post(f"/console/jobs/{job}/replay", **headers)
    assert answer.status_code == 403
    assert "only be asked for from a page of this console" in answer.text
    assert job_states(application) == {job: "parked"}


def test_a_form_without_sec_fetch_site_is_accepted_from_the_same_origin(
    application: Application, browser: Browser
) -> None:
    job = park_job(application)
    assert browser.post(f"/console/jobs/{job}/replay", origin=HOST).status_code == 303


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8080", 200), ("localhost:8080", 200), ("[::1]:8080", 200), ("rebound.evil.example:8080", 403)],
)
def test_a_request_with_a_foreign_host_name_is_refused(browser: Browser, host: str, status: int) -> None:
    assert browser.get("/console", host=host).status_code == status
