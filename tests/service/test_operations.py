"""Operations: the same act by whichever way it is requested, recorded in the same words, or not allowed at all."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from fhir_adapter.testing import LoopbackServer
from inference import registry
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.errors import Category, Problem
from kernel.outbox import Delivery
from kernel.tables import audit_log, models
from kernel.testing import FakeClock
from privacy.authorize import Request
from privacy.principal import Principal
from service.api import http_application
from service.application import Application, build
from service.commands import command_context
from service.operations import models as operations
from service.settings import load

PERSON = Principal(client="command line", client_address="", user="somebody")


class Refusing:
    """An authorizer that lets nobody do anything, and remembers what was wanted."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []

    def require(self, principal: Principal, request: Request) -> None:
        self.requests.append((request.interaction.value, request.target))
        raise Problem(Category.FORBIDDEN, "not for you")


class Recording(Refusing):
    """An authorizer that lets everybody do everything, and remembers what was wanted."""

    def require(self, principal: Principal, request: Request) -> None:
        self.requests.append((request.interaction.value, request.target))


def open_application(folder: Path, authorizer: Refusing | None = None) -> Application:
    settings = load({}, data_dir=folder / "ausculta", ehr_url="http://127.0.0.1:9/fhir")
    return build(settings, clock=FakeClock(), authorizer=authorizer)


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    opened = open_application(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def ausculta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command on the application's database, in this process, and return its exit code."""
    monkeypatch.setenv("AUSCULTA_DATA_DIR", str(tmp_path / "ausculta"))
    monkeypatch.setattr(command_context, "configure_logging", lambda **_: None)

    def run(*words: str) -> int:
        from service.cli import main

        monkeypatch.setattr(sys, "argv", ["ausculta", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def post(application: Application, path: str, **form: str) -> int:
    with LoopbackServer(http_application(application)) as server:
        return httpx.post(f"{server.url}/console/{path}", data=form, headers={"Origin": server.url}).status_code


def commands(application: Application) -> list[dict[str, Any]]:
    """The audit events of operations, without what differs between two runs: who, when and which row."""
    with application.database.read() as connection:
        events = [json.loads(text) for text in connection.execute(select(audit_log.c.event)).scalars()]
    wanted = [event for event in events if event["subtype"][0]["system"] == "urn:ausculta:command"]
    return [{key: event[key] for key in event if key not in {"id", "recorded", "agent"}} for event in wanted]


def agents(application: Application) -> list[list[str]]:
    with application.database.read() as connection:
        events = [json.loads(text) for text in connection.execute(select(audit_log.c.event)).scalars()]
    return [
        [agent["who"]["identifier"]["value"] for agent in event["agent"] if agent["requestor"]]
        for event in events
        if event["subtype"][0]["system"] == "urn:ausculta:command"
    ]


def parked_job(application: Application) -> str:
    application.database.write(lambda tx: application.jobs.enqueue(tx, "convert", {"message": "m"}))
    job = application.database.write(lambda tx: application.jobs.claim(tx, "w"))
    assert job is not None
    problem = Problem(Category.INCORRECT, "no patient")
    application.database.write(lambda tx: application.jobs.fail(tx, job, problem))
    return job.id


def parked_delivery(application: Application) -> str:
    key = application.ids.new()
    sent = Delivery(destination="ehr", idempotency_key=key, subject="r", patient="Patient/p", payload=b"{}")
    application.database.write(lambda tx: application.outbox.add(tx, sent))
    with application.database.read() as connection:
        queued = application.outbox.pending(connection, "ehr")[-1]
    problem = Problem(Category.CONFLICT, "another patient")
    application.database.write(lambda tx: application.outbox.failed(tx, queued, problem, park=True))
    return queued.id


def test_a_stop_is_recorded_alike_from_the_command_line_and_the_console(
    application: Application, ausculta: Callable[..., int]
) -> None:
    assert ausculta("models", "stop", "news2", "--reason", "wrong units") == 0
    assert post(application, "models/news2/stop", reason="wrong units") == 303
    by_command, by_console = commands(application)
    assert by_command == by_console
    by_command_line, by_page = agents(application)
    assert by_command_line[0] == "command line"
    assert len(by_command_line) == 2
    assert by_page == ["console"]


@pytest.mark.parametrize(
    ("park", "kind"), [(parked_job, "jobs"), (parked_delivery, "deliveries")], ids=["job", "delivery"]
)
def test_a_replay_is_recorded_alike_from_the_command_line_and_the_console(
    application: Application, ausculta: Callable[..., int], park: Callable[[Application], str], kind: str
) -> None:
    first, second = park(application), park(application)
    assert ausculta("jobs", "replay", first) == 0
    assert post(application, f"{kind}/{second}/replay") == 303
    by_command, by_console = commands(application)
    assert json.loads(json.dumps(by_command).replace(first, second)) == by_console


def test_every_model_operation_is_recorded(application: Application, folders: tuple[Path, Path]) -> None:
    context = application.operations
    operations.stop(context, PERSON, "news2", "drill")
    operations.resume(context, PERSON, "news2", "drill over")
    operations.activate(context, PERSON, "news2")
    operations.verify(context, PERSON, "news2")
    for folder in folders:
        operations.register(context, PERSON, folder)
        operations.activate(context, PERSON, PULSE_RISK)
    operations.rollback(context, PERSON, PULSE_RISK)
    operations.retire(context, PERSON, PULSE_RISK)
    assert [event["subtype"][0]["code"] for event in commands(application)] == [
        "model-stopped",
        "model-resumed",
        "model-activated",
        "model-verified",
        "model-added",
        "model-activated",
        "model-added",
        "model-activated",
        "model-rolled-back",
        "model-retired",
    ]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of versions 1.0.0 and 9.0.0 of a model."""
    return pulse_risk(tmp_path / "older"), pulse_risk(tmp_path / "newer", version="9.0.0")


def statuses(application: Application, name: str = PULSE_RISK) -> dict[str, str]:
    with application.database.read() as connection:
        return {row.version: row.status for row in registry.everything(connection) if row.name == name}


def test_a_rollback_activates_the_version_before(
    application: Application, ausculta: Callable[..., int], folders: tuple[Path, Path]
) -> None:
    for folder in folders:
        operations.register(application.operations, PERSON, folder)
        operations.activate(application.operations, PERSON, PULSE_RISK)
    assert statuses(application) == {"1.0.0": "retired", "9.0.0": "active"}
    assert ausculta("models", "rollback", PULSE_RISK) == 0
    assert statuses(application) == {"1.0.0": "active", "9.0.0": "retired"}


def test_two_sealed_versions_go_through_every_operation_by_the_commands(
    application: Application, ausculta: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real folders with a real runner: each operation opens the folder, and its golden case runs the model."""
    older = pulse_risk(tmp_path / "older")
    newer = pulse_risk(tmp_path / "newer", version="2.0.0", slope=0.7)

    def succeed(*words: str) -> str:
        capsys.readouterr()
        assert ausculta("models", *words) == 0
        return capsys.readouterr().out

    assert f"{PULSE_RISK} 1.0.0 is registered as shadow" in succeed("add", str(older))
    assert f"{PULSE_RISK} 2.0.0 is registered as shadow" in succeed("add", str(newer))
    verified = succeed("verify", PULSE_RISK, "--version", "2.0.0")
    assert f"{PULSE_RISK} 2.0.0: files and golden cases are as registered" in verified
    assert statuses(application, PULSE_RISK) == {"1.0.0": "shadow", "2.0.0": "shadow"}
    succeed("activate", PULSE_RISK, "--version", "1.0.0")
    succeed("activate", PULSE_RISK, "--version", "2.0.0")
    assert statuses(application, PULSE_RISK) == {"1.0.0": "retired", "2.0.0": "active"}
    assert f"{PULSE_RISK} 1.0.0 is active" in succeed("rollback", PULSE_RISK)
    assert statuses(application, PULSE_RISK) == {"1.0.0": "active", "2.0.0": "retired"}
    assert f"{PULSE_RISK} 1.0.0 is retired" in succeed("retire", PULSE_RISK)
    assert statuses(application, PULSE_RISK) == {"1.0.0": "retired", "2.0.0": "retired"}

    with application.database.read() as connection:
        row = registry.get(connection, PULSE_RISK, "2.0.0")
    assert row is not None
    (newer / "card.md").write_text("a better card")  # what runs is the copy that was kept
    succeed("verify", PULSE_RISK, "--version", "2.0.0")
    (application.operations.model_files.path(row.digest) / "card.md").write_text("a better card")
    assert ausculta("models", "verify", PULSE_RISK, "--version", "2.0.0") == 2
    assert "card.md has been altered" in capsys.readouterr().err


def test_without_an_earlier_version_nothing_is_rolled_back(application: Application) -> None:
    with pytest.raises(Problem) as refused:
        operations.rollback(application.operations, PERSON, "news2")
    assert refused.value.category is Category.CONFLICT
    assert statuses(application, "news2") == {"1.0.0": "active"}


def test_a_failed_check_is_recorded_as_a_failure(application: Application) -> None:
    altered = update(models).where(models.c.name == "news2").values(digest="0" * 64)
    application.database.write(lambda tx: tx.execute(altered))
    with pytest.raises(Problem):
        operations.verify(application.operations, PERSON, "news2")
    assert [(event["subtype"][0]["code"], event["outcome"]) for event in commands(application)] == [
        ("model-verified", "4")
    ]


def test_a_command_that_is_not_allowed_ends_with_exit_code_2_and_changes_nothing(
    application: Application, ausculta: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing()
    monkeypatch.setattr(command_context, "build_authorizer", lambda: refusing)
    assert ausculta("models", "stop", "news2") == 2
    assert refusing.requests == [("view", "models stop")]
    assert commands(application) == []


def test_the_console_refuses_pages_and_forms_with_a_403_page(tmp_path: Path) -> None:
    application = open_application(tmp_path, Refusing())
    try:
        with LoopbackServer(http_application(application)) as server:
            page = httpx.get(f"{server.url}/console/models")
        assert (page.status_code, "Not for you" in page.text) == (403, True)
        assert post(application, "models/news2/stop", reason="drill") == 403
        assert commands(application) == []
    finally:
        application.close()


def test_every_page_and_every_form_is_decided(tmp_path: Path) -> None:
    recording = Recording()
    application = open_application(tmp_path, recording)
    pages = (
        "",
        "/queue",
        "/models",
        "/models/news2/1.0.0",
        "/audit",
        "/results/none",
        "/results/none/image.png",
        "/deliveries/none",
        "/identity",
        "/identity/none",
    )
    try:
        with LoopbackServer(http_application(application)) as server:
            for path in pages:
                httpx.get(f"{server.url}/console{path}")
        names = ("overview", "queue", "models", "model", "audit", "result", "image", "delivery")
        opened = ("view", "identity"), ("view", "identity_hold"), ("operate", "identity-open")
        assert recording.requests == [*(("view", name) for name in names), ("operate", "delivery-open"), *opened]
        recording.requests.clear()
        names = (
            *("jobs/j/replay", "models/stop", "models/m/stop", "models/m/resume", "models/resume"),
            *("deliveries/replay", "deliveries/d/replay", "deliveries/d/park", "deliveries/d/dismiss"),
            *("results/r/ask-again", "messages/m/dismiss", "identity/h/accept", "identity/h/reject"),
        )
        for path in names:
            post(application, path, reason="drill")
        operated = ("job-replay", "model-stop", "model-stop", "model-resume", "model-resume")
        operated += ("delivery-replay", "delivery-replay", "delivery-park", "delivery-dismiss", "result-ask-again")
        operated += ("message-dismiss", "identity-accept", "identity-reject")
        assert recording.requests == [("operate", name) for name in operated]
    finally:
        application.close()
