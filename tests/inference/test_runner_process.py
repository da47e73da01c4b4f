"""The code of a model runs in a process of its own: its answers, and what becomes of a process that fails."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.digest import seal
from inference.folder import open_folder
from inference.isolated import child_process
from inference.isolated.keeper import ENDS_IN_A_ROW, Keeper
from inference.isolated.messages import LONGEST_WORDS, Malformed, receive
from inference.loading import load_model
from inference.runners.base import TryAgain
from kernel.errors import Category, Problem

from . import tiny_models as tiny
from .code_models import ROW, SUM, WAIT_S, Models, needs_isolation, pid, predicting, state, wait_until

pytestmark = needs_isolation


class TestAnswers:
    def test_the_code_answers_as_where_it_was_written(self, models: Models) -> None:
        runner = models.load(SUM, outputs=[tiny.RISK])
        (found,) = runner.predict(ROW)
        assert found == pytest.approx([0.5], abs=1e-6)

    def test_it_is_given_the_files_of_its_folder_and_may_import_its_modules(
        self, models: Models, tmp_path: Path
    ) -> None:
        code = "import helper\ndef load(files):\n    return helper.predicting(files['extra/numbers.txt'])\n"
        helper = (
            "import numpy as np\n"
            "def predicting(content):\n"
            "    return lambda rows: np.full((len(rows), 1), float(content))\n"
        )
        folder = tiny.bring(
            tmp_path / "several",
            "code",
            {"model.py": code.encode(), "helper.py": helper.encode(), "extra/numbers.txt": b"42"},
            outputs=[tiny.SCORE],
            run_code=True,
        )
        runner = load_model(folder, run_code=True)
        assert runner.predict(ROW)[0] == [42.0]
        runner.close()

    @pytest.mark.parametrize(
        ("load", "predict"),
        [
            ("from sklearn.linear_model import LogisticRegression", "LogisticRegression().fit(rows, [0, 1]).coef_"),
            ("import torch", "torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 8, 8)).flatten(1).detach().numpy()"),
            ("import onnxruntime", "rows[:, :1]"),
            ("import xgboost", "xgboost.DMatrix(rows).get_data().toarray()"),
            ("import getpass, zoneinfo", "np.array([[len(getpass.getuser()), len(zoneinfo.available_timezones())]])"),
        ],
    )
    def test_its_libraries_are_those_that_are_installed(
        self, keep: Callable[..., Keeper], load: str, predict: str
    ) -> None:
        keeper = keep(predicting(f"return {predict}", before=load), seconds=WAIT_S)
        assert np.isfinite(keeper.ask(np.array([[0.0, 0.0], [200.0, 200.0]]))).all()

    def test_what_it_prints_is_not_seen(self, models: Models, capfd: pytest.CaptureFixture[str]) -> None:
        models.load(predicting("print(rows); print(rows, file=sys.stderr); return rows[:, :1]")).predict(ROW)
        assert capfd.readouterr() == ("", "")

    def test_threads_of_its_own_may_run(self, keep: Callable[..., Keeper]) -> None:
        body = """
            import threading
            found = []
            thread = threading.Thread(target=lambda: found.append(7.0))
            thread.start(); thread.join()
            return np.array([found])
        """
        assert keep(predicting(body)).ask(ROW) == [[7.0]]


HANGS = predicting("""
    if rows[0, 0] == 100:
        import time
        while True:
            time.sleep(1)
    return rows[:, :1]
""")

OTHER = np.array([[1.0, 2.0]])


class TestFailures:
    def test_a_process_that_is_killed_fails_its_batch_and_is_replaced(self, keep: Callable[..., Keeper]) -> None:
        keeper = keep(HANGS, seconds=WAIT_S)
        keeper.ask(OTHER)
        process = pid(keeper)
        wait_until(lambda: state(process) == "T", "it waits")

        def kill_once_it_runs() -> None:
            wait_until(lambda: state(process) not in {"T", ""}, "it runs")
            os.kill(process, signal.SIGKILL)

        killer = threading.Thread(target=kill_once_it_runs)
        killer.start()
        with pytest.raises(TryAgain, match="the process of the model ended by SIGKILL"):
            keeper.ask(ROW)
        killer.join()
        assert keeper.ask(OTHER) == [[1.0]]
        assert pid(keeper) != process

    def test_one_that_is_killed_while_it_waits_costs_one_batch(self, keep: Callable[..., Keeper]) -> None:
        keeper = keep(HANGS)
        keeper.ask(OTHER)
        os.kill(pid(keeper), signal.SIGKILL)
        with pytest.raises(TryAgain):
            keeper.ask(OTHER)
        assert keeper.ask(OTHER) == [[1.0]]

    def test_one_that_hangs_is_ended_after_its_time(self, keep: Callable[..., Keeper]) -> None:
        keeper = keep(HANGS, seconds=0.5)
        process = pid(keeper)
        with pytest.raises(TryAgain, match=r"the model did not answer within 0.5 seconds"):
            keeper.ask(ROW)
        assert state(process) == ""

    def test_a_server_that_stops_does_not_wait_for_one_that_hangs(self, keep: Callable[..., Keeper]) -> None:
        keeper = keep(HANGS, seconds=WAIT_S)
        process = pid(keeper)
        wait_until(lambda: state(process) == "T", "it waits")
        failures: list[Problem] = []

        def ask() -> None:
            with pytest.raises(Problem) as interrupted:
                keeper.ask(ROW)
            failures.append(interrupted.value)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: state(process) not in {"T", ""}, "it runs")
        keeper.close()
        asking.join()
        assert failures[0].category is Category.INTERRUPTED
        wait_until(lambda: state(process) == "", "it is ended and waited for")

    def test_one_that_computes_without_end_is_ended_too(self, keep: Callable[..., Keeper]) -> None:
        with pytest.raises(TryAgain, match="did not answer"):
            keep(predicting("while True: pass"), seconds=0.5).ask(ROW)

    def test_one_that_is_not_loaded_in_time_is_ended(
        self, keep: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(child_process, "START_S", 0.5)
        with pytest.raises(TryAgain, match=r"did not answer within 0.5 seconds"):
            keep("while True: pass").ask(ROW)

    def test_one_that_exits_is_replaced(self, keep: Callable[..., Keeper]) -> None:
        keeper = keep(predicting("if rows[0, 0] == 100: os._exit(3)\nreturn rows[:, :1]"))
        with pytest.raises(TryAgain, match=r"the process of the model ended$"):
            keeper.ask(ROW)
        assert keeper.ask(OTHER) == [[1.0]]

    @pytest.mark.parametrize(
        ("gives", "words"),
        [
            ("np.full((len(rows), 1), np.nan if rows[0, 0] == 100 else 1.0)", "the model gave no number"),
            ("np.full((len(rows), 1), np.inf if rows[0, 0] == 100 else 1.0)", "the model gave no number"),
            ("np.ones((3 if rows[0, 0] == 100 else len(rows), 1))", "3 answers for 1 inputs"),
            ("np.ones((0 if rows[0, 0] == 100 else len(rows), 1))", "0 answers for 1 inputs"),
            ("np.ones((len(rows), 4 if rows[0, 0] == 100 else 1))", "the model gave 4 numbers for an input"),
            ("np.ones(len(rows)) if rows[0, 0] == 100 else rows[:, :1]", "no row of numbers for each input"),
        ],
    )
    def test_an_answer_that_is_none_is_never_a_result(self, models: Models, gives: str, words: str) -> None:
        with pytest.raises(TryAgain, match=words):
            models.load(predicting(f"return {gives}")).predict(ROW)

    def test_an_exception_is_named_by_type_and_line_and_not_by_its_words(self, keep: Callable[..., Keeper]) -> None:
        keeper = keep(predicting("raise ValueError(f'patient {rows[0, 0]}')"))
        with pytest.raises(Problem, match=r"broke while it was running: ValueError in model.py, line 6$") as failed:
            keeper.ask(ROW)
        assert "100" not in f"{failed.value.detail}{failed.value.diagnostics}"
        assert not isinstance(failed.value, TryAgain)

    @pytest.mark.parametrize(
        "raised",
        [
            "raise type(f'Pulse{rows[0, 0]:.0f}', (Exception,), {})",
            """os.write(3, bytes([25, 0, 0, 0]) + bytes(8) + b'{"failed": "pulse is 100"}'[:25])""",
        ],
    )
    def test_no_word_of_the_code_is_passed_on(self, keep: Callable[..., Keeper], raised: str) -> None:
        with pytest.raises(Problem) as failed:
            keep(predicting(f"{raised}\nreturn rows[:, :1]")).ask(ROW)
        assert "100" not in f"{failed.value.detail}{failed.value.diagnostics}"

    @pytest.mark.parametrize(
        "written",
        [
            "b'garbage that is no message at all, but long enough for one'",
            "b'\\x00' * 12",
            "b'\\xff' * 64",
            "b'\\x02\\x00\\x00\\x00' + b'\\x00' * 8 + b'[]'",
        ],
    )
    def test_what_is_no_message_ends_the_process(self, keep: Callable[..., Keeper], written: str) -> None:
        body = f"if rows[0, 0] == 100: os.write(3, {written})\nreturn rows[:, :1]"
        keeper = keep(predicting(body))
        with pytest.raises(TryAgain, match="in no form that is known"):
            keeper.ask(ROW)
        assert keeper.ask(OTHER) == [[1.0]]

    def test_an_answer_too_many_is_not_taken_for_that_of_the_next_batch(self, keep: Callable[..., Keeper]) -> None:
        body = """
            if rows[0, 0] == 100:
                words, content = b'{"shape": [1, 1]}', np.array([0.5]).tobytes()
                lengths = len(words).to_bytes(4, sys.byteorder) + len(content).to_bytes(8, sys.byteorder)
                os.write(3, lengths + words + content)
            return rows[:, :1]
        """
        keeper = keep(predicting(body))
        with pytest.raises(TryAgain, match="does not belong to the batch"):
            keeper.ask(ROW)
        assert keeper.ask(OTHER) == [[1.0]]

    def test_messages_that_lie_about_their_length_are_not_read(self) -> None:
        too_many_words = (LONGEST_WORDS + 1).to_bytes(4, sys.byteorder) + bytes(8)
        too_many_bytes = (2).to_bytes(4, sys.byteorder) + (1 << 60).to_bytes(8, sys.byteorder)
        for lengths in (too_many_words, too_many_bytes):
            with pytest.raises(Malformed):
                receive(io.BytesIO(lengths).read, 1024)


class TestMemory:
    def test_a_leak_ends_at_the_limit_and_the_process_is_replaced(self, keep: Callable[..., Keeper]) -> None:
        leaks = (
            "kept.append(np.ones(1 << 22))\nwhile rows[0, 0] == 100: kept.append(np.ones(1 << 22))\nreturn rows[:, :1]"
        )
        keeper = keep(predicting(leaks, before="kept = []"), memory_mb=512)
        keeper.ask(OTHER)
        process = pid(keeper)
        with pytest.raises(MemoryError):
            keeper.ask(ROW)
        assert state(process) == ""
        assert keeper.ask(OTHER) == [[1.0]]

    def test_of_one_input_it_may_be_tried_again(self, models: Models) -> None:
        code = predicting("if rows[0, 0] == 100: np.ones(1 << 40)\nreturn rows[:, :1]")
        with pytest.raises(TryAgain, match="ran out of memory"):
            models.load(code).predict(ROW)

    def test_memory_that_is_no_heap_counts_too(self, keep: Callable[..., Keeper]) -> None:
        body = """
            import mmap
            kept = []
            try:
                for _ in range(100):
                    kept.append(mmap.mmap(-1, 1 << 27))
            except OSError:
                return np.array([[float(len(kept))]])
            return np.array([[-1.0]])
        """
        found = keep(predicting(body), memory_mb=512).ask(ROW)
        assert 0 <= found[0, 0] < 64

    def test_a_slow_leak_costs_no_batch(self, keep: Callable[..., Keeper]) -> None:
        code = predicting("kept.append(np.ones(3 << 21))\nreturn rows[:, :1]", before="kept = []")
        keeper = keep(code, memory_mb=512)
        processes = set()
        for _ in range(24):  # 48 MiB each: far more than the limit
            assert keeper.ask(OTHER) == [[1.0]]
            processes.add(pid(keeper))
        assert len(processes) > 2


class TestManyEnds:
    def test_after_several_in_a_row_a_batch_is_refused_at_once_until_a_pause_is_over(
        self, keep: Callable[..., Keeper]
    ) -> None:
        now = [0.0]
        keeper = keep(predicting("if rows[0, 0] == 100: os._exit(1)\nreturn rows[:, :1]"), monotonic=lambda: now[0])
        for _ in range(ENDS_IN_A_ROW):
            with pytest.raises(TryAgain, match="the process of the model ended"):
                keeper.ask(ROW)
        with pytest.raises(TryAgain, match="ended 3 times in a row; it is started again later"):
            keeper.ask(OTHER)
        now[0] += 1.0
        assert keeper.ask(OTHER) == [[1.0]]
        assert keeper.ask(OTHER) == [[1.0]], "it answered, so nothing is counted any more"
        with pytest.raises(TryAgain, match=r"ended$"):
            keeper.ask(ROW)
        assert keeper.ask(OTHER) == [[1.0]], "and the next end is the first again"

    def test_the_pause_grows(self, keep: Callable[..., Keeper]) -> None:
        now = [0.0]
        keeper = keep(predicting("os._exit(1)"), monotonic=lambda: now[0])
        for _ in range(ENDS_IN_A_ROW):
            with pytest.raises(TryAgain, match=r"ended$"):
                keeper.ask(ROW)
        for pause in (1.0, 2.0, 4.0):
            now[0] += pause - 0.01
            with pytest.raises(TryAgain, match="later"):
                keeper.ask(ROW)
            now[0] += 0.02
            with pytest.raises(TryAgain, match=r"ended$"):
                keeper.ask(ROW)


class TestPermission:
    def test_no_code_runs_that_is_not_allowed(self, models: Models) -> None:
        folder = models.folder(SUM, outputs=[tiny.RISK])
        with pytest.raises(Problem, match=r"brings code, and no operator has allowed its digest; .* allow-code") as no:
            load_model(folder)
        assert no.value.category is Category.FORBIDDEN

    def test_the_code_never_runs_in_this_process(self, models: Models) -> None:
        folder = open_folder(models.folder("import sys; sys.in_a_process = True\n" + SUM, outputs=[tiny.RISK]))
        assert folder.code is None
        load_model(folder.path, run_code=True).close()
        assert not hasattr(sys, "in_a_process")

    def test_code_of_another_runner_is_refused_as_before(self, tmp_path: Path, models: Models) -> None:
        folder = models.folder(SUM, outputs=[tiny.RISK])
        manifest = folder / "model.yaml"
        manifest.write_text(manifest.read_text().replace("kind: code\n", "kind: score\n"))
        seal(folder)
        with pytest.raises(Problem, match=r"in model.yaml state runner: code"):
            load_model(folder, run_code=True)

    def test_files_that_change_are_not_given_to_the_next_process(self, models: Models) -> None:
        runner = models.load(predicting("return rows[:, :1]"))
        (runner.model.path / "model.py").write_text("raise SystemExit")
        seal(runner.model.path)
        assert runner._keeper is not None
        os.kill(pid(runner._keeper), signal.SIGKILL)
        with pytest.raises(TryAgain):
            runner.predict(ROW)
        with pytest.raises(Problem, match="changed since it was registered"):
            runner.predict(ROW)

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ({"memory_mb": 0}, "memory_mb must be above 0"),
            ({"memory_mb": 1 << 20}, "memory_mb must be at most 65536"),
            ({"seconds": 101}, "seconds must be at most 100"),
            ({"sockets": True}, "sockets is not known"),
        ],
    )
    def test_limits_are_declared_within_bounds(self, models: Models, option: dict[str, Any], words: str) -> None:
        with pytest.raises(Problem, match=words):
            models.folder(SUM, outputs=[tiny.RISK], **option)

    def test_code_that_does_not_fit_its_declarations_is_refused(self, models: Models) -> None:
        with pytest.raises(Problem, match=r"model.yaml.outputs declares 1 number .* model.py gives 3"):
            models.folder(predicting("return np.ones((len(rows), 3))"))

    def test_code_without_load_is_refused(self, models: Models) -> None:
        with pytest.raises(Problem, match="cannot be loaded: AttributeError"):
            models.folder("x = 1")
