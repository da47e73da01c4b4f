"""``ausculta demo``: from the command line through every interface to three stand-ins."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from fhir_adapter.hl7v2.synthesise import adt_a01
from service.demo import Hospital, hospital, run_story
from service.demo.story import MARA, Step, story
from service.demo.story_run import Answer, StepReport

pytestmark = pytest.mark.xdist_group("demo")  # run once, read by many tests

AUSCULTA = Path(sys.executable).with_name("ausculta")


def environment(temporary: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"}


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def completed(temporary: Path) -> subprocess.CompletedProcess[str]:
    """The demo, run once for the tests that read what was printed."""
    return subprocess.run(
        [AUSCULTA, "demo", "--once"],
        env=environment(temporary),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def rows(completed: subprocess.CompletedProcess[str]) -> dict[int, str]:
    """The table's rows by their number, the lines of a cell joined by spaces, cells by bars."""
    found: dict[int, list[list[str]]] = {}
    for line in completed.stdout.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if len(cells) == 4 and (cells[0].isdigit() or (found and not cells[0])):
            number = int(cells[0]) if cells[0] else max(found)
            found.setdefault(number, []).append(cells[1:])
    return {number: " | ".join(" ".join(cell) for cell in zip(*lines, strict=True)) for number, lines in found.items()}


def test_it_ends_well_once_every_expected_result_has_been_received(completed: subprocess.CompletedProcess[str]) -> None:
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "The stand-ins have received all 6 expected results" in completed.stdout


def test_the_run_logs_nothing_and_removes_its_folder(
    completed: subprocess.CompletedProcess[str], temporary: Path
) -> None:
    assert completed.stderr == ""
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("number", "inputs", "said"),
    [
        (2, "HL7 v2 ORU^R01 vital signs, 5 h ago Mara Ashdown, 100234 DEMO-0002", r"total score: 1 \(low\)"),
        (3, "HL7 v2 ORU^R01 vital signs, 2 h ago Mara Ashdown, 100234 DEMO-0003", r"total score: 6 \(medium\)"),
        (6, "HL7 v2 ORU^R01 vital signs, 20 min ago Mara Ashdown, 100234 DEMO-0005", r"total score: 11 \(high\)"),
        (
            7,
            "FHIR 5 Observations, an incomplete set Tomas Weller, 100871 Observation/",
            "AI result not available: missing oxygen saturation, level of consciousness",
        ),
        (8, "FHIR 2 Observations, what was missing Tomas Weller, 100871 Observation/", r"total score: 1 \(low\)"),
    ],
)
def test_a_score_is_shown_with_what_inputs_and_the_ids_of_its_deliveries(
    rows: dict[int, str], number: int, inputs: str, said: str
) -> None:
    assert rows[number].startswith(inputs)
    assert re.search(rf"\| news2 1\.0\.0 .*{said} +\|", rows[number])
    assert re.search(
        r"\| EHR +RiskAssessment/[\w-]{36} EHR +Observation/[\w-]{36} engine ORU\^R01 [0-9a-f]{20}", rows[number]
    )


def test_the_radiograph_is_shown_with_its_reading_and_the_ids_of_its_deliveries(rows: dict[int, str]) -> None:
    assert rows[5].startswith("DICOM chest X-ray, frontal and lateral Ida Calder, 100512 2.25.")
    assert re.search(r"\| cxr-pneumonia 1\.1\.0 Pneumonia: [\d.]+ % \((positive|negative)\)", rows[5])
    assert re.search(
        r"\| EHR +Observation/[\w-]{36} EHR +DiagnosticReport/[\w-]{36} engine ORU\^R01 [0-9a-f]{20}"
        r" PACS +SR 2\.25\.\d+ PACS +OT 2\.25\.\d+",
        rows[5],
    )


@pytest.mark.parametrize("number", [1, 4])
def test_data_that_no_model_reads_is_shown_without_a_result(rows: dict[int, str], number: int) -> None:
    assert "| nothing: no model reads this" in rows[number]


def test_without_once_it_stays_up_with_its_console_until_it_receives_sigterm(tmp_path: Path) -> None:
    with subprocess.Popen(
        [AUSCULTA, "demo"], env=environment(tmp_path), stdout=subprocess.PIPE, encoding="utf-8"
    ) as running:
        assert running.stdout is not None
        printed = ""
        for line in running.stdout:
            printed += line
            if "The server stays up" in line:
                break
        result = re.search(r"http://\S+/console/results/\w{64}", printed)
        console = re.search(r"The server stays up until Ctrl-C. Console: (\S+)", printed)
        try:
            assert result, printed
            assert console, printed
            assert httpx.get(console[1]).status_code == 200
            assert httpx.get(result[0]).status_code == 200
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
    assert not list(tmp_path.iterdir())


def perform(opened: Hospital, steps: Sequence[Step], *, width: int = 156, deadline_s: float = 30) -> tuple[int, str]:
    """Run a part of the scenario; return the exit status and what was printed."""
    screen = Console(file=StringIO(), width=width)
    status = run_story(opened, steps, screen, deadline_s=deadline_s)
    assert isinstance(screen.file, StringIO)
    return status, screen.file.getvalue()


@pytest.fixture
def opened() -> Iterator[Hospital]:
    with hospital() as running:
        yield running


@pytest.fixture
def steps() -> tuple[Step, ...]:
    return story(datetime.now(UTC))


def test_on_a_narrow_screen_the_ids_stand_whole_below_the_table(opened: Hospital, steps: tuple[Step, ...]) -> None:
    status, printed = perform(opened, steps[:2], width=80)
    assert status == 0
    assert "│ engine ORU^R01 " in printed
    for whole in (r"HL7 v2 DEMO-0002", r"EHR    RiskAssessment/[\w-]{36}", r"engine ORU\^R01 [0-9a-f]{20}"):
        assert re.search(rf"^   {whole}$", printed, re.MULTILINE)


def test_an_unreachable_stand_in_makes_the_demonstration_fail_and_name_what_is_missing(
    opened: Hospital, steps: tuple[Step, ...]
) -> None:
    opened.stand_ins.engine.close()
    for _ in range(15):  # the same messages sent again lead to the same result, which the EHR has sooner or later
        status, printed = perform(opened, steps[:2], deadline_s=2)
        assert status == 1
        if "Observation/" in printed:
            break
    assert "  of step 2 (ORU^R01 vital signs, 5 h ago) news2's ORU^R01 at the engine did not arrive\n" in printed


def test_a_refused_step_makes_the_demonstration_fail_and_name_the_step(
    opened: Hospital, steps: tuple[Step, ...]
) -> None:
    unknown = adt_a01(MARA, "DEMO-9999", datetime.now(UTC)).replace(b"ADT^A01", b"ADT^Z99")
    status, printed = perform(opened, (replace(steps[0], content=(unknown,)), steps[1]))
    assert status == 1
    assert "step 1 (ADT^A01 admission) was not taken: the HL7 receiver rejected the message" in printed
    assert "step 2 (ORU^R01 vital signs, 5 h ago) was not sent" in printed


def test_an_unexpected_score_makes_the_demonstration_fail(steps: tuple[Step, ...]) -> None:
    answer = Answer(result="r", model="news2 1.0.0", text="total score: 2 (low)")
    wrong = StepReport(number=2, step=steps[1], identifier="DEMO-0002", answer=answer)
    assert "news2 said “total score: 2 (low)” instead of “total score: 1 (low)”" in wrong.missing
