"""Only a receipt counts as delivered: a page that a proxy answers with, such as its login page, is none."""

from collections.abc import Callable, Iterator

import pytest

from .hospital import Hospital
from .scripted import Answer, ScriptedEhr
from .test_held_deliveries import ADA, deliveries, pass_time, score

PAGE = "<!DOCTYPE html>\n<html><body>Please sign in</body></html>"
HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.fixture
def peer() -> Iterator[ScriptedEhr]:
    server = ScriptedEhr()
    yield server
    server.close()


@pytest.fixture(params=["fhir", "webhook"])
def hospital(request: pytest.FixtureRequest, open_hospital: Callable[..., Hospital], peer: ScriptedEhr) -> Hospital:
    """A hospital with one destination over HTTP."""
    table = {"name": "peer", "kind": request.param, "url": peer.url}
    secret = {"secret": "a long random text"} if request.param == "webhook" else {}
    return open_hospital(ehr_url="", interface_engine=None, pacs=None, destination=(table | secret,))


@pytest.mark.parametrize(
    "page",
    [
        Answer(status=200, text=PAGE, headers=HTML),
        Answer(status=200, text=f"\ufeff  {PAGE.lower()}"),
        Answer(status=200, text="", headers=HTML),
        Answer(status=201, text="<html/>", headers={"Content-Type": "application/xhtml+xml"}),
        Answer(status=302, headers={"Location": "/login"}),
    ],
    ids=["html", "html-without-type", "empty-html", "xhtml", "redirect"],
)
def test_a_login_page_is_no_receipt_and_is_tried_on_the_schedule_of_a_404(
    hospital: Hospital, peer: ScriptedEhr, page: Answer
) -> None:
    peer.answers[""] = page
    score(hospital, ADA)
    (held,) = deliveries(hospital, "pending")
    assert held.category == "not-found"
    pass_time(hospital, 1)
    assert 5 < len(peer.requests) < 20
    peer.answers.clear()
    pass_time(hospital, 0.5)
    assert (len(peer.accepted), hospital.parked()) == (1, [])


def test_a_login_page_that_stays_is_parked_with_the_reason_in_words(hospital: Hospital, peer: ScriptedEhr) -> None:
    peer.answers[""] = Answer(status=200, text=PAGE, headers=HTML)
    score(hospital, ADA)
    pass_time(hospital, 6)
    (reason,) = hospital.parked()
    assert reason.endswith("answered 200 with a web page, such as a login page, and no receipt")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_empty_answer_is_a_receipt_as_no_body_was_asked_for(
    hospital: Hospital, peer: ScriptedEhr, status: int
) -> None:
    """We send ``Prefer: return=minimal``, which asks for no body (FHIR R4, http.html#ops)."""
    peer.answers[""] = Answer(status=status, text="")
    score(hospital, ADA)
    (sent,) = deliveries(hospital, "delivered")
    assert sent.receipt == str(status)
