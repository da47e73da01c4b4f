"""What did not arrive is seen, and a person decides about it: commands, console, health and metrics."""

from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import select

from kernel.tables import outbox

from .hospital import Hospital
from .scripted import Answer, ScriptedEhr
from .test_commands import Command, ausculta  # noqa: F401 - a fixture
from .test_held_deliveries import ADA, BOB, CARL, OUTCOME, deliveries, pass_time, score


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], ehr: ScriptedEhr) -> Hospital:
    return open_hospital(ehr_url=ehr.url, interface_engine=None, pacs=None)


def post(hospital: Hospital, path: str, **form: str) -> int:
    answer = httpx.post(f"{hospital.web.url}/console/{path}", data=form, headers={"Origin": hospital.web.url})
    return answer.status_code


def page(hospital: Hospital, path: str) -> str:
    return httpx.get(f"{hospital.web.url}/console/{path}").text


def ready(hospital: Hospital) -> dict:  # type: ignore[type-arg]
    answer = httpx.get(f"{hospital.web.url}/health/ready")
    assert answer.status_code == 200
    return answer.json()


def recorded(hospital: Hospital) -> list[str]:
    return [event["subtype"][0]["code"] for event in hospital.all("AuditEvent?_count=200")]


def test_the_peers_own_words_are_sealed_and_shown_to_those_who_may_see_them(
    hospital: Hospital,
    ehr: ScriptedEhr,
    ausculta: Command,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    ehr.answers["|ADA"] = Answer(status=422, text=OUTCOME)
    score(hospital, ADA)
    (parked,) = deliveries(hospital, "parked")
    assert "Mrs PHI" not in "".join(capfd.readouterr())
    with hospital.application.database.read() as connection:
        assert b"Mrs PHI" not in connection.execute(select(outbox.c.problem_diagnostics)).scalar_one()
    assert "Mrs PHI" not in page(hospital, "queue")
    assert "no chart of Mrs PHI" in page(hospital, f"deliveries/{parked.id}")
    assert "no chart of Mrs PHI" in ausculta("deliveries", "show", parked.id).stdout
    listed = ausculta("deliveries", "list").stdout
    assert ("the FHIR server answered 422" in listed, "Mrs PHI" in listed) == (True, False)
    assert page(hospital, "deliveries/none").count("Mrs PHI") == 0
    reads = [
        event
        for event in hospital.all("AuditEvent?_count=200")
        if any(parked.id in str(entity) for entity in event.get("entity", ()))
    ]
    assert len(reads) == 2


def test_the_head_can_be_parked_so_that_those_behind_it_pass(
    hospital: Hospital,
    ehr: ScriptedEhr,
    ausculta: Command,  # noqa: F811
) -> None:
    ehr.answers["|ADA"] = Answer(status=500, text=OUTCOME)
    score(hospital, ADA)
    (head,) = deliveries(hospital, "pending")
    assert ausculta("deliveries", "park", head.id).returncode == 2
    assert ausculta("deliveries", "park", head.id, "--reason", "wrong ward").returncode == 0
    ehr.answers.clear()
    score(hospital, ADA, pulse="100")
    assert len(ehr.of("ADA")) == 1
    assert [one.id for one in deliveries(hospital, "parked")] == [head.id]
    assert "delivery-parked" in recorded(hospital)


def test_a_dismissed_delivery_is_never_sent(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers["|ADA"] = Answer(status=500, text=OUTCOME)
    score(hospital, ADA)
    score(hospital, ADA, pulse="100")
    head, behind = deliveries(hospital, "pending")
    assert post(hospital, f"deliveries/{head.id}/dismiss") == 400
    assert post(hospital, f"deliveries/{head.id}/dismiss", reason="by telephone") == 303
    ehr.answers.clear()
    pass_time(hospital, 0.1)
    assert [one.id for one in deliveries(hospital, "delivered")] == [behind.id]
    assert post(hospital, f"deliveries/{head.id}/replay") == 404
    assert "delivery-dismissed" in recorded(hospital)


def test_parked_deliveries_are_replayed_by_destination_category_and_time(
    hospital: Hospital,
    ehr: ScriptedEhr,
    ausculta: Command,  # noqa: F811
) -> None:
    ehr.answers["|ADA"] = ehr.answers["|BOB"] = Answer(status=422, text=OUTCOME)
    ehr.answers["|CARL"] = Answer(status=405, text=OUTCOME)
    score(hospital, ADA, CARL)
    hospital.clock.advance(3600)
    between = hospital.clock.now()
    score(hospital, BOB)
    ehr.answers.clear()
    assert ausculta("deliveries", "replay").returncode == 2
    assert ausculta("deliveries", "replay", "--category", "nonsense").returncode == 2
    run = ausculta("deliveries", "replay", "--category", "incorrect", "--since", f"{between:%Y-%m-%dT%H:%M}")
    assert "1 deliveries wait to be sent" in run.stdout
    (replayed,) = deliveries(hospital, "pending")
    assert replayed.created_at >= between.replace(second=0, microsecond=0)
    assert post(hospital, "deliveries/replay", destination="pacs") == 303
    assert len(deliveries(hospital, "parked")) == 2
    assert post(hospital, "deliveries/replay", destination="ehr") == 303
    hospital.work()
    assert (len(ehr.of("ADA")), len(ehr.of("BOB")), len(ehr.of("CARL"))) == (1, 1, 1)
    assert recorded(hospital).count("delivery-replayed") == 3


def test_health_warns_of_what_does_not_arrive_and_metrics_name_it(hospital: Hospital, ehr: ScriptedEhr) -> None:
    assert ready(hospital)["status"] == "pass"
    ehr.answers["|ADA"] = Answer(status=500, text=OUTCOME)
    ehr.answers["|BOB"] = Answer(status=422, text=OUTCOME)
    score(hospital, ADA, BOB)
    held = ready(hospital)
    assert (held["status"], held["deliveries"]["ehr"]["held"], held["deliveries"]["ehr"]["overdue"]) == ("warn", 1, 0)
    hospital.clock.advance(600)
    assert ready(hospital)["deliveries"]["ehr"]["overdue"] == 1
    metrics = httpx.get(f"{hospital.web.url}/metrics").text.splitlines()
    assert 'ausculta_deliveries{destination="ehr",status="parked"} 1' in metrics
    assert 'ausculta_deliveries_overdue{destination="ehr"} 1' in metrics
    oldest = next(
        line for line in metrics if line.startswith("ausculta_delivery_oldest_seconds{") and "pending" in line
    )
    assert int(oldest.rpartition(" ")[2]) >= 600
    ehr.answers.clear()
    (parked,) = deliveries(hospital, "parked")
    assert post(hospital, f"deliveries/{parked.id}/replay") == 303
    hospital.work()
    assert ready(hospital)["status"] == "pass"


def test_a_paused_destination_is_seen(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = Answer(status=401, text=OUTCOME)
    score(hospital, ADA)
    state = ready(hospital)
    assert (state["status"], state["deliveries"]["ehr"]["output"]) == ("warn", "the FHIR server answered 401")
    assert "ehr is paused" in page(hospital, "queue")
    assert 'ausculta_destination_paused{destination="ehr"} 1' in httpx.get(f"{hospital.web.url}/metrics").text
