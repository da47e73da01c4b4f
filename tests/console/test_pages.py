"""What each person finds on the console's pages."""

import html
import re

import pytest
from sqlalchemy import insert

from kernel.tables import workers
from kernel.testing import FakeClock
from service.application import Application

from .examples import (
    HOST,
    Browser,
    Examples,
    add_result,
    audit_events,
    browser_of,
    new_application,
    park_delivery,
    park_job,
    result_of,
    shut,
)


def words(page: str) -> str:
    """The text of a page as a person reads it, white space folded."""
    text = html.unescape(re.sub(r"</?(?:strong|time|a|span|code)\b[^>]*>", "", page))
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


class TestOverview:
    def test_names_model_version_status_patient_and_what_was_said(self, examples: Examples) -> None:
        page = words(examples.browser.get("/console").text)
        assert "total score: 8 (high) news2 1.0.0 active p-ill" in page

    def test_shows_a_refusal_as_such_with_its_reason(self, examples: Examples) -> None:
        page = words(examples.browser.get("/console").text)
        assert "AI result not available: missing oxygen saturation" in page
        assert "AI result not available: AI result not available" not in page

    def test_shows_where_each_result_is_on_its_way(self, examples: Examples) -> None:
        page = words(examples.browser.get("/console").text)
        assert "ehr: waiting, 1 attempt" in page
        assert "engine: waiting, 1 attempt" in page

    def test_has_no_banner_when_nothing_is_wrong(self, browser: Browser) -> None:
        page = browser.get("/console").text
        assert "There are no results." in page
        assert 'class="banner"' not in page

    def test_has_a_banner_when_something_is_parked(self, application: Application, browser: Browser) -> None:
        park_job(application)
        park_delivery(application, "r-1")
        assert "Waiting for a person: 1 parked job and 1 parked delivery." in words(browser.get("/console").text)

    def test_has_a_banner_when_a_model_is_stopped(self, browser: Browser) -> None:
        browser.post("/console/models/news2/stop", {"reason": "wrong units from ward 3"})
        assert "news2 1.0.0 is stopped: wrong units from ward 3." in words(browser.get("/console").text)

    def test_can_be_held_to_one_patient(self, examples: Examples) -> None:
        page = words(examples.browser.get("/console?patient=p-ill").text)
        assert "p-ill" in page
        assert "p-unknown" not in page

    def test_goes_on_with_older_results(self, application: Application, browser: Browser) -> None:
        for number in range(51):
            add_result(application, id=f"{number:064x}", summary=f"summary {number}.")
        first = browser.get("/console").text
        (older,) = re.findall(r'href="(/console\?before=\d+)"', first)
        assert "summary 0." not in first
        assert "summary 0." in browser.get(older).text


class TestResult:
    def test_says_first_that_no_person_has_reviewed_it(self, examples: Examples) -> None:
        assert (
            "AI-generated, not reviewed by a person" in examples.browser.get(f"/console/results/{examples.news2}").text
        )

    def test_shows_value_band_and_the_arithmetic(self, examples: Examples) -> None:
        page = examples.browser.get(f"/console/results/{examples.news2}").text
        assert '<span class="figure">8</span>' in page
        assert '<span class="band">high</span>' in page
        assert "temperature 38.5 Cel = 1" in words(page)

    def test_shows_every_input_as_it_was_sent_with_a_link_to_its_version(self, examples: Examples) -> None:
        page = examples.browser.get(f"/console/results/{examples.news2}").text
        assert "Body temperature 38.50 Cel 2026-01-15 11:40:00 UTC" in words(page)
        assert len(re.findall(r'<td class="id long"><a href="/fhir/Observation/[^"]+/_history/1">', page)) == 7

    def test_names_the_model_exactly_and_links_its_card(self, examples: Examples) -> None:
        row = result_of(examples.application, "Patient/p-ill")
        page = examples.browser.get(f"/console/results/{examples.news2}").text
        assert row.digest in page
        assert 'href="/console/models/news2/1.0.0"' in page
        assert "Detecting acute illness and deterioration in adults" in page

    def test_links_every_resource_that_was_written(self, examples: Examples) -> None:
        page = examples.browser.get(f"/console/results/{examples.news2}").text
        for kind in ("DocumentReference", "Device", "Observation", "RiskAssessment", "Provenance"):
            assert re.search(rf'<li><a class="id long" href="/fhir/{kind}/[^"]+/_history/\d+">', page), kind

    def test_shows_why_a_delivery_has_not_arrived(self, examples: Examples) -> None:
        page = words(examples.browser.get(f"/console/results/{examples.news2}").text)
        assert "unavailable: the FHIR server cannot be reached" in page

    def test_shows_a_refusal_large_and_says_what_it_does_not_mean(self, examples: Examples) -> None:
        page = examples.browser.get(f"/console/results/{examples.refused}").text
        assert '<h2 class="absent">AI result not available: missing oxygen saturation' in page
        assert "This says nothing about the patient's condition." in html.unescape(page)
        assert 'class="figure"' not in page

    def test_shows_the_x_ray_beside_its_heat_map(self, examples: Examples) -> None:
        page = examples.browser.get(f"/console/results/{examples.x_ray}").text
        pictures = re.findall(r'<img src="([^"]+)"', page)
        assert [picture.rsplit("/", 1)[1] for picture in pictures] == ["image.png", "heat-map.png"]
        for picture in pictures:
            answer = examples.browser.get(picture)
            assert answer.headers["content-type"] == "image/png"
            assert answer.content.startswith(b"\x89PNG")

    def test_warns_of_a_demonstration_model(self, examples: Examples) -> None:
        assert (
            "Demonstration model, not for clinical use."
            in examples.browser.get(f"/console/results/{examples.x_ray}").text
        )

    def test_shows_what_became_of_each_feature(self, examples: Examples) -> None:
        used = words(examples.browser.get(f"/console/results/{examples.news2}").text)
        assert "pulse 112 /min used" in used
        refused = words(examples.browser.get(f"/console/results/{examples.refused}").text)
        assert "oxygen saturation missing there was no value" in refused

    def test_shows_state_latency_and_software_version(self, examples: Examples) -> None:
        page = words(examples.browser.get(f"/console/results/{examples.news2}").text)
        assert "State preliminary" in page
        assert re.search(r"Latency [0-9.]+ ms", page)
        row = result_of(examples.application, "Patient/p-ill")
        assert f"Software version {row.software_version}" in page

    @pytest.mark.parametrize(
        ("state", "shown"),
        [
            ("superseded", "a newer result replaces this one: abc."),
            ("withdrawn", "this result was taken back. Do not act on it."),
            ("entered-in-error", "this result should not exist. Do not act on it."),
        ],
    )
    def test_says_when_a_result_no_longer_holds(
        self, application: Application, browser: Browser, state: str, shown: str
    ) -> None:
        name = add_result(application, state=state, superseded_by="abc" if state == "superseded" else None)
        assert shown in words(browser.get(f"/console/results/{name}").text)

    def test_a_result_of_an_earlier_release_is_shown_without_what_it_lacks(
        self, application: Application, browser: Browser
    ) -> None:
        page = words(browser.get(f"/console/results/{add_result(application)}").text)
        assert "Software version not recorded" in page
        assert "Latency" not in page

    def test_marks_a_shadow_result(self, application: Application, browser: Browser) -> None:
        name = add_result(application, status="shadow")
        assert "nothing of this leaves the server" in browser.get(f"/console/results/{name}").text

    def test_survives_resources_that_are_gone(self, application: Application, browser: Browser) -> None:
        name = add_result(
            application, resources='["Observation/gone/_history/1"]', inputs='["Observation/gone/_history/1"]'
        )
        assert browser.get(f"/console/results/{name}").status_code == 200

    def test_of_an_unknown_id_is_an_error_page(self, browser: Browser) -> None:
        answer = browser.get("/console/results/none")
        assert answer.status_code == 404
        assert "There is no such result." in answer.text

    @pytest.mark.parametrize("picture", ["image.png", "heat-map.png"])
    def test_a_result_without_a_picture_shows_none(self, examples: Examples, picture: str) -> None:
        assert examples.browser.get(f"/console/results/{examples.news2}/{picture}").status_code == 404


class TestAccess:
    """An opened result is recorded before it is shown."""

    def test_opening_a_result_is_recorded_with_its_patient_and_the_peer(
        self, application: Application, browser: Browser
    ) -> None:
        name = add_result(application, subject="Patient/p-1")
        browser.get(f"/console/results/{name}")
        event = audit_events(application)[-1]
        assert event["subtype"][0]["code"] == "read"
        assert [entity["what"] for entity in event["entity"]] == [
            {"identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:ausculta:result:{name}"}},
            {"reference": "Patient/p-1"},
        ]
        assert event["agent"][0]["who"]["identifier"]["value"] == "console"
        assert event["agent"][0]["network"]["address"] == "127.0.0.1"

    def test_opening_a_picture_is_recorded(self, examples: Examples) -> None:
        examples.browser.get(f"/console/results/{examples.x_ray}/heat-map.png")
        entities = [entity["what"] for entity in audit_events(examples.application)[-1]["entity"]]
        assert entities[0]["identifier"]["value"].endswith(f"{examples.x_ray}#heat-map")

    def test_a_result_is_not_shown_when_the_access_cannot_be_recorded(
        self, application: Application, browser: Browser
    ) -> None:
        name = add_result(application, summary="secret summary")
        application.database.close()
        answer = browser.get(f"/console/results/{name}")
        assert answer.status_code == 503
        assert "secret summary" not in answer.text


class TestQueue:
    def test_shows_what_is_parked_why_and_how_often_it_was_tried(
        self, application: Application, browser: Browser
    ) -> None:
        job = park_job(application, "the message has no patient")
        page = browser.get("/console/queue").text
        assert "incorrect: the message has no patient 1" in words(page)
        assert f'action="/console/jobs/{job}/replay"' in page
        assert "Mrs PHI" not in page

    def test_shows_a_parked_delivery_with_its_replay(self, application: Application, browser: Browser) -> None:
        delivery = park_delivery(application, "r-1")
        page = browser.get("/console/queue").text
        assert "conflict: the EHR knows another patient" in words(page)
        assert f'action="/console/deliveries/{delivery}/replay"' in page

    def test_shows_when_a_waiting_delivery_is_tried_again(self, examples: Examples) -> None:
        page = words(examples.browser.get("/console/queue").text)
        assert (
            "unavailable: the FHIR server cannot be reached 1 2026-01-15 12:00:31 UTC 2026-01-15 12:00:32 UTC" in page
        )

    def test_shows_the_running_workers_or_that_there_are_none(self, application: Application, browser: Browser) -> None:
        assert "No worker is running" in browser.get("/console/queue").text
        row = {"id": "w", "host": "app-1", "pid": 7, "process_start": "", "heartbeat_at": application.clock.now()}
        application.database.write(lambda tx: tx.execute(insert(workers), row | {"threads": 4}))
        page = words(browser.get("/console/queue").text)
        assert "No worker is running" not in page
        assert "Worker 7 on app-1, 4 jobs at a time, last sign of life 2026-01-15 12:00:00 UTC" in page


class TestModels:
    def test_lists_name_version_digest_status_and_owner(self, browser: Browser) -> None:
        page = words(browser.get("/console/models").text)
        assert "Name and version news2 1.0.0" in page
        assert "active since 2026-01-15 12:00:00 UTC, by Ausculta" in page
        assert re.search(r"Digest [0-9a-f]{64}", page)

    def test_shows_a_card_as_readable_text(self, browser: Browser) -> None:
        page = browser.get("/console/models/cxr-pneumonia/1.1.0").text
        assert "<strong>A DEMONSTRATION MODEL, NOT FOR CLINICAL USE.</strong>" in page
        assert "<td>Area under the ROC curve</td>" in page

    def test_of_an_unknown_version_is_an_error_page(self, browser: Browser) -> None:
        assert browser.get("/console/models/news2/9.9.9").status_code == 404


class TestAudit:
    def test_shows_the_newest_events_and_the_size_of_the_log(self, examples: Examples) -> None:
        size = len(audit_events(examples.application))
        page = words(examples.browser.get("/console/audit").text)
        assert f"{size} events are in the log" in page
        assert "Verify with: ausculta audit verify" in page
        assert "create Patient/p-ill/_history/1 p-ill" in page

    def test_can_be_held_to_one_patient(self, examples: Examples) -> None:
        page = words(examples.browser.get("/console/audit?patient=Patient/p-unknown").text)
        assert "Events about Patient/p-unknown" in page
        assert "Patient/p-ill" not in page

    def test_shows_how_far_the_log_is_signed(self, application: Application, browser: Browser) -> None:
        browser.get(f"/console/results/{add_result(application)}")
        application.checkpoints.sign()
        assert "the first 1 were signed 2026-01-15 12:00:00 UTC" in words(browser.get("/console/audit").text)

    def test_refuses_a_position_that_is_not_a_number(self, browser: Browser) -> None:
        assert browser.get("/console/audit?before=x").status_code == 400


def test_markup_in_a_summary_is_shown_as_text(application: Application, browser: Browser) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    name = add_result(application, summary=hostile, model="<b>m</b>", subject="Patient/'\"><svg>")
    for path in ("/console", f"/console/results/{name}"):
        page = browser.get(path).text
        assert "<script" not in page
        assert "<img" not in page
        assert "<b>m" not in page
        assert "<svg" not in page
        assert hostile in html.unescape(page)


def test_times_are_shown_in_the_zone_of_the_site(tmp_path, clock: FakeClock) -> None:
    from zoneinfo import ZoneInfo

    application = new_application(tmp_path / "data", clock, time_zone=ZoneInfo("Europe/Berlin"))
    page = browser_of(application).get("/console/models").text
    shut(application)
    assert '<time datetime="2026-01-15T12:00:00+00:00">2026-01-15 13:00:00 CET</time>' in page


def test_links_hold_under_the_path_where_the_console_is_mounted(application: Application) -> None:
    from fastapi import FastAPI

    from service.api import console_services
    from service.console import console_router

    inner, outer = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    inner.include_router(console_router(console_services(application)))
    outer.mount("/ausculta", inner)
    browser = Browser(outer)
    page = browser.get("/ausculta/console/models").text
    links = re.findall(r'(?:href|action)="(/[^"]*)"', page)
    assert links
    assert all(link.startswith("/ausculta/console") for link in links)
    moved = browser.post("/ausculta/console/models/news2/stop", {"reason": "a test"})
    assert moved.headers["location"] == "/ausculta/console/models"


def test_an_unknown_page_is_an_error_page(browser: Browser) -> None:
    answer = browser.get("/console/nothing/here")
    assert answer.status_code == 404
    assert "The console has no such page." in answer.text


@pytest.mark.parametrize("path", ["/console", "/console/queue", "/console/nothing", "/console/style.css"])
def test_every_answer_forbids_scripts_and_foreign_content(browser: Browser, path: str) -> None:
    headers = browser.get(path).headers
    assert "default-src 'self'; script-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_pages_about_patients_are_not_kept_by_the_browser(examples: Examples) -> None:
    assert examples.browser.get(f"{HOST}/console/results/{examples.news2}").headers["cache-control"] == "no-store"
