"""A model that brings code: what becomes of its jobs when its process fails, and who may let it run."""

import json
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pytest
import yaml
from sqlalchemy import select
from typer.testing import CliRunner

from fhir_adapter.hl7v2.synthesise import SyntheticPatient
from inference import registry
from inference.digest import seal
from inference.runners.process import ProcessRunner
from kernel.errors import Category, Problem
from kernel.tables import audit_log
from privacy.principal import Principal
from service.cli import app
from service.commands import command_context
from service.operations import model_code
from service.operations import models as operations

from ..inference import tiny_models as tiny  # noqa: TID252 - the models of the tests of the runners
from ..inference.code_models import needs_isolation, pid, state, wait_until  # noqa: TID252 - the same
from .hospital import ADULT, CHILD, Hospital

PERSON = Principal(client="test", client_address="", user="somebody")

pytestmark = needs_isolation

HANGS, NOT_A_NUMBER, TOO_MANY, LEAKS, EXITS, CALM = "151", "152", "153", "154", "155", "90"
"""What the pulse makes the model do."""

CODE: Final = """
import os, time
import numpy as np

def load(files):
    kept = []
    def predict(rows):
        pulse = rows[0, 0]
        while pulse == {hangs} and not os.path.exists({flag!r}):
            time.sleep(0.01)
        if pulse == {not_a_number}:
            return np.full((len(rows), 1), np.nan)
        if pulse == {too_many}:
            return np.ones((len(rows) + 1, 1))
        while pulse == {leaks}:
            kept.append(np.ones(1 << 22))
        if pulse == {exits}:
            os._exit(1)
        return np.minimum(rows[:, :1] / 200, 1)
    return predict
"""


class Site:
    """The hospital, with the model in service beside NEWS2."""

    def __init__(self, hospital: Hospital, tmp_path: Path) -> None:
        self.hospital = hospital
        self.operations = hospital.application.operations
        #: The model hangs until this exists.
        self.flag = tmp_path / "go on"
        self.folder = tmp_path / "tiny"

    def bring(self, **options: Any) -> None:
        names = {
            "hangs": HANGS,
            "not_a_number": NOT_A_NUMBER,
            "too_many": TOO_MANY,
            "leaks": LEAKS,
            "exits": EXITS,
        }
        code = CODE.format(flag=str(self.flag), **names).encode()
        tiny.bring(self.folder, {"kind": "code", "memory_mb": 512, **options}, {"model.py": code}, run_code=True)

    def serve(self, **options: Any) -> None:
        self.bring(**options)
        model_code.allow_code(self.operations, PERSON, self.folder, "read line by line")
        operations.register(self.operations, PERSON, self.folder)
        operations.activate(self.operations, PERSON, "tiny")
        self.hospital.application.runtime.warm_up()

    @property
    def process(self) -> int:
        """The number of the process that runs the code."""
        runtime = self.hospital.application.runtime
        (loaded,) = [future.result() for (name, *_), future in runtime._loaded.items() if name == "tiny"]
        assert isinstance(loaded.runner, ProcessRunner)
        assert loaded.runner._keeper is not None
        return pid(loaded.runner._keeper)

    def assess(self, pulse: str, patient: SyntheticPatient = ADULT) -> None:
        """Send vital signs and do what is due, without the attempts that wait for later."""
        self.hospital.clock.advance(60)
        assert self.hospital.hl7(self.hospital.vitals(patient, pulse=pulse)) == "AA"
        self.hospital.work()

    def try_again(self) -> None:
        """Let the time of every further attempt come."""
        for _ in range(8):
            self.hospital.clock.advance(60)
            self.hospital.work()

    def said(self, model: str = "tiny") -> list[tuple[str, str | None]]:
        return [(row.kind, row.reason) for row in self.hospital.results() if row.model == model]

    def events(self, command: str) -> list[dict[str, Any]]:
        with self.hospital.application.database.read() as connection:
            rows = connection.execute(select(audit_log).order_by(audit_log.c.seq)).all()
        return [json.loads(row.event) for row in rows if command.encode() in bytes(row.event)]


@pytest.fixture
def site(hospital: Hospital, tmp_path: Path) -> Site:
    hospital.admit()
    return Site(hospital, tmp_path)


def test_a_job_whose_process_is_killed_is_tried_again_and_gives_its_result(site: Site) -> None:
    site.serve(seconds=100)
    process = site.process
    wait_until(lambda: state(process) == "T", "it waits for a batch")

    def kill_in_the_batch() -> None:
        wait_until(lambda: state(process) not in {"T", ""}, "it runs")
        os.kill(process, signal.SIGKILL)
        site.flag.touch()

    killer = threading.Thread(target=kill_in_the_batch)
    killer.start()
    site.assess(HANGS)
    killer.join()
    assert site.said() == []
    assert site.said("news2") == [("prediction", None)], "the other model is not concerned"
    site.hospital.clock.advance(1)
    site.hospital.work()
    assert site.said() == [("prediction", None)]
    assert site.process != process
    assert site.hospital.parked() == []


def test_while_a_model_hangs_the_server_answers_and_other_models_go_on(site: Site) -> None:
    site.serve(seconds=100)
    process = site.process
    site.hospital.admit(CHILD)
    assert site.hospital.hl7(site.hospital.vitals(pulse=HANGS)) == "AA"
    worker = threading.Thread(target=site.hospital.work)
    worker.start()
    wait_until(lambda: state(process) not in {"T", ""}, "the model runs")

    assert site.hospital.hl7(site.hospital.vitals(CHILD, pulse=CALM)) == "AA"
    assert httpx.get(f"{site.hospital.url}/Patient").status_code == 200
    infer = {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [90.0]} for name in SEVEN]}
    assert httpx.post(f"{site.hospital.web.url}/v2/models/news2/infer", json=infer, timeout=60).status_code != 500
    assert state(process) not in {"T", ""}, "all of that while it hangs"

    site.flag.touch()
    worker.join()
    site.hospital.work()
    assert [kind for kind, _ in site.said()] == ["prediction", "prediction"]


SEVEN: Final = ("respirations", "spo2", "oxygen", "systolic", "pulse", "consciousness", "temperature")


@pytest.mark.parametrize(
    ("pulse", "reason"),
    [
        (HANGS, "the model did not answer within 4 seconds|ended 3 times in a row"),
        (NOT_A_NUMBER, "the model gave no number"),
        (TOO_MANY, "the model gave 2 answers for 1 inputs"),
        (LEAKS, "the model ran out of memory|ended 3 times in a row"),
        (EXITS, "the process of the model ended|ended 3 times in a row"),
    ],
)
def test_a_job_that_fails_each_time_is_parked_and_its_reason_is_published(site: Site, pulse: str, reason: str) -> None:
    site.serve(seconds=4 if pulse == HANGS else 60)
    site.assess(pulse)
    assert site.said() == [], "it is tried again first"
    assert site.said("news2") == [("prediction", None)]
    site.try_again()
    (parked,) = site.hospital.parked()
    ((kind, published),) = site.said()
    assert kind == "failed"
    assert published is not None
    assert any(one in parked and one in published for one in reason.split("|")), (parked, published)


def test_the_model_answers_again_once_the_cause_is_gone(site: Site) -> None:
    site.serve()
    site.assess(NOT_A_NUMBER)
    site.try_again()
    site.assess(CALM)
    assert [kind for kind, _ in site.said()] == ["failed", "prediction"]


def test_a_call_over_http_says_that_the_model_failed(site: Site) -> None:
    site.serve()
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in (("pulse", float(NOT_A_NUMBER)), ("systolic", 90.0))
    ]
    answer = httpx.post(f"{site.hospital.web.url}/v2/models/tiny/infer", json={"inputs": inputs}, timeout=60)
    assert answer.status_code == 500
    assert "the model gave no number" in answer.text


def test_the_guide_leads_to_a_result(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "bring-code.md").read_text(encoding="utf-8")
    code = guide.partition("```python\n")[2].partition("```")[0]
    files = {"model.py": code.encode(), "weights.bin": np.array([0.05, -0.05, 0.0]).tobytes()}
    (runner,) = [line for line in guide.splitlines() if line.startswith("runner: ")]
    tiny.bring(site.folder, yaml.safe_load(runner)["runner"], files, run_code=True)
    (site.folder / "SHA256SUMS").unlink()
    monkeypatch.setenv("AUSCULTA_DATA_DIR", str(tmp_path / "ausculta"))
    monkeypatch.setattr(command_context, "configure_logging", lambda **_: None)
    mine = str(site.folder)
    for words, code_of_exit in (
        (("verify", mine, "--record"), 1),
        (("verify", mine, "--record", "--run-code"), 0),
        (("verify", mine), 1),
        (("allow-code", mine, "--reason", "read by two; ticket 4711"), 0),
        (("add", mine), 0),
        (("activate", "tiny"), 0),
    ):
        assert CliRunner().invoke(app, ["models", *words]).exit_code == code_of_exit, words
    site.assess("130")  # at a systolic pressure of 90
    (row,) = [row for row in site.hospital.results() if row.model == "tiny"]
    assert json.loads(row.outputs)[0]["value"] == pytest.approx(1 / (1 + math.exp(-0.05 * 40)))


class TestPermission:
    """An operator lists the digest; who did so, when and why is in the audit log."""

    def test_a_folder_that_is_not_allowed_is_not_added(self, site: Site) -> None:
        site.bring()
        with pytest.raises(Problem, match="brings code, and no operator has allowed its digest") as refused:
            operations.register(site.operations, PERSON, site.folder)
        assert refused.value.category is Category.FORBIDDEN
        with site.hospital.application.database.read() as connection:
            assert registry.get(connection, "tiny") is None

    def test_nor_is_one_that_the_settings_name(self, open_hospital: Callable[..., Hospital], tmp_path: Path) -> None:
        folder = tiny.bring(
            tmp_path / "tiny",
            "code",
            {"model.py": b"load = lambda files: lambda rows: rows[:, :1] / 200"},
            run_code=True,
        )
        hospital = open_hospital(model_dirs=(folder,))
        with hospital.application.database.read() as connection:
            assert registry.get(connection, "tiny") is None

    def test_by_the_commands(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUSCULTA_DATA_DIR", str(tmp_path / "ausculta"))
        monkeypatch.setattr(command_context, "configure_logging", lambda **_: None)
        site.bring(seconds=7)

        def ausculta(*words: str) -> tuple[int, str]:
            result = CliRunner().invoke(app, ["models", *words])
            return result.exit_code, f"{result.output}{result.exception or ''}"

        code, said = ausculta("add", str(site.folder))
        assert code != 0
        assert "run: ausculta models allow-code FOLDER --reason WHY" in " ".join(said.split())
        digest = seal(site.folder)
        code, said = ausculta("allow-code", str(site.folder), "--reason", "read by two", "--digest", digest)
        assert (code, digest in said, "512 MiB, 7 s for a batch" in said, "model.py" in said) == (0, True, True, True)
        assert ausculta("add", str(site.folder))[0] == 0
        code, said = ausculta("allowed-code")
        assert digest in said
        assert "read by two" in said
        code, said = ausculta("withdraw-code", "tiny", "--reason", "a fault was found")
        assert (code, digest in said) == (0, True)
        assert "code not allowed" in ausculta("list")[1]

    def test_a_reason_and_the_digest_that_was_reviewed_are_required(self, site: Site) -> None:
        site.bring()
        with pytest.raises(Problem, match="a reason is required"):
            model_code.allow_code(site.operations, PERSON, site.folder, " ")
        with pytest.raises(Problem, match="not the one that was reviewed") as other:
            model_code.allow_code(site.operations, PERSON, site.folder, "read", digest="00000000")
        assert other.value.category is Category.CONFLICT
        for too_short in ("", seal(site.folder)[:7]):
            with pytest.raises(Problem, match="8 characters of the digest at least"):
                model_code.allow_code(site.operations, PERSON, site.folder, "read", digest=too_short)
        model_code.allow_code(site.operations, PERSON, site.folder, "read", digest=seal(site.folder)[:12])

    def test_it_is_recorded_with_the_person_the_reason_and_the_digest(self, site: Site) -> None:
        site.serve()
        model_code.withdraw_code(site.operations, PERSON, "tiny", "a fault was found")
        for command, reason in (("model-code-allowed", "read line by line"), ("model-code-withdrawn", "a fault")):
            (event,) = site.events(command)
            stated = json.dumps(event)
            assert seal(site.folder) in stated
            assert reason in stated
            assert "somebody" in stated

    def test_a_file_that_is_changed_is_another_digest(self, site: Site) -> None:
        site.bring()
        model_code.allow_code(site.operations, PERSON, site.folder, "read line by line")
        with (site.folder / "model.py").open("a") as file:
            file.write("\n# one more line\n")
        with pytest.raises(Problem, match=r"model.py has been altered"):
            operations.register(site.operations, PERSON, site.folder)
        seal(site.folder)
        with pytest.raises(Problem, match="no operator has allowed its digest"):
            operations.register(site.operations, PERSON, site.folder)

    def test_withdrawn_it_stops_at_the_next_prediction_and_runs_again_once_allowed(self, site: Site) -> None:
        site.serve()
        site.assess(CALM)
        process = site.process
        model_code.withdraw_code(site.operations, PERSON, "tiny", "a fault was found")
        site.assess("91")
        assert state(process) == "", "its process has ended"
        model_code.allow_code(site.operations, PERSON, site.folder, "the fault was none")
        site.assess("92")
        assert site.said() == [
            ("prediction", None),
            ("stopped", "no operator allows the code of the model"),
            ("prediction", None),
        ]

    def test_a_model_whose_code_is_not_allowed_is_not_activated(self, site: Site) -> None:
        site.bring()
        model_code.allow_code(site.operations, PERSON, site.folder, "read line by line")
        operations.register(site.operations, PERSON, site.folder)
        model_code.withdraw_code(site.operations, PERSON, "tiny", "a fault was found")
        with pytest.raises(Problem, match="no operator has allowed its digest"):
            operations.activate(site.operations, PERSON, "tiny")

    def test_only_a_folder_that_brings_code_needs_it(self, site: Site, tmp_path: Path) -> None:
        folder = tiny.bring(tmp_path / "other", "onnx", {"weights.onnx": tiny.onnx_bytes()})
        with pytest.raises(Problem, match="brings no code"):
            model_code.allow_code(site.operations, PERSON, folder, "read")
        with pytest.raises(Problem, match="no code of other is allowed"):
            model_code.withdraw_code(site.operations, PERSON, "other", "read")
