"""The runtime: the caller always gets an outcome, also when the model fails or hangs."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from inference import registry
from inference.batching import QueueLimits
from inference.contract import ModelInput, NotAvailable, Outcome, Prediction, result_id
from inference.folder import ModelFolder, bundled_folder, open_folder
from inference.model_files import ModelFiles
from inference.models import MODELS
from inference.registry import ModelRow
from inference.runners.base import Answer, Decoded
from inference.runtime import Runtime
from inference.testing import ADULT, NOW, ToyRunner, output_of_each_kind, radiograph, toy_folder, vitals
from kernel.db import Database
from kernel.errors import Category, Problem

Think = Callable[[Sequence[float]], Sequence[float]]
RuntimeFactory = Callable[..., Runtime]


@pytest.fixture
def runtime_of(sqlite: Database) -> Iterator[RuntimeFactory]:
    """Make a runtime whose only model, ``toy``, computes with the given function."""
    made: list[Runtime] = []
    folder = toy_folder()
    sqlite.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))

    def make(think: Think, **options: object) -> Runtime:
        runtime = Runtime(
            sqlite,
            ModelFiles(Path("nowhere")),
            device="cpu",
            load=lambda _model_files, _row, device: ToyRunner(think, folder),
            **options,
        )  # type: ignore[arg-type]
        made.append(runtime)
        return runtime

    yield make
    for runtime in made:
        runtime.close()


@pytest.fixture
def application(sqlite: Database, tmp_path: Path) -> Iterator[Runtime]:
    """The bundled models as they are shipped."""
    model_files = ModelFiles(tmp_path / "model-files")
    for name in MODELS:
        folder = open_folder(bundled_folder(name))
        model_files.keep(folder)
        sqlite.write(lambda tx, it=folder: registry.register_bundled(tx, it, by="software", at=NOW))
    runtime = Runtime(sqlite, model_files, device="cpu")
    yield runtime
    runtime.close()


def refused(outcome: Outcome) -> NotAvailable:
    assert isinstance(outcome, NotAvailable)
    return outcome


def raising(failure: BaseException) -> Think:
    def think(_items: Sequence[float]) -> Sequence[float]:
        raise failure

    return think


def test_an_answer_names_model_inputs_and_time(runtime_of: RuntimeFactory) -> None:
    given = vitals()
    outcome = runtime_of(list).predict("toy", given)
    assert isinstance(outcome, Prediction)
    assert outcome.outputs[0].value == 70
    assert outcome.input_versions == ("Observation/8867-4-1/_history/1",)
    assert (outcome.model.name, outcome.model.status, outcome.subject, outcome.at) == ("toy", "active", ADULT, NOW)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("secret"), "the model broke while it was running"),
        (SystemExit(3), "the model broke while it was running"),
        (MemoryError(), "the model ran out of memory"),
        (TimeoutError(), "the model did not answer in time"),
    ],
)
def test_a_model_that_breaks_is_a_visible_failure(
    runtime_of: RuntimeFactory, failure: BaseException, reason: str
) -> None:
    outcome = refused(runtime_of(raising(failure)).predict("toy", vitals()))
    assert (outcome.kind, outcome.reason) == ("failed", reason)
    assert [used.name for used in outcome.inputs] == ["pulse"]


def test_an_answer_that_is_no_number_is_a_failure(runtime_of: RuntimeFactory) -> None:
    outcome = refused(runtime_of(lambda items: [float("nan") for _ in items]).predict("toy", vitals()))
    assert (outcome.kind, outcome.reason) == ("failed", "the model gave no number")


def test_an_answer_that_is_missing_is_a_failure(runtime_of: RuntimeFactory) -> None:
    outcome = refused(runtime_of(lambda _items: []).predict("toy", vitals()))
    assert outcome.reason == "the model did not answer once per input"


def test_a_model_may_decline(runtime_of: RuntimeFactory) -> None:
    outcome = refused(runtime_of(list).predict("toy", vitals(_8867_4=None)))
    assert (outcome.kind, outcome.reason, outcome.missing) == ("declined", "missing pulse", ("pulse",))
    assert len(outcome.input_versions) == 6


def test_inputs_that_cannot_be_read_are_a_failure(runtime_of: RuntimeFactory) -> None:
    outcome = refused(runtime_of(list).predict("toy", vitals(_8867_4=("fast", "/min"))))
    assert (outcome.kind, outcome.reason) == ("failed", "the model broke while reading its inputs")


def test_a_hanging_model_fails_its_callers_and_does_not_affect_other_models(
    runtime_of: RuntimeFactory, sqlite: Database
) -> None:
    go = threading.Event()

    def think(items: Sequence[float]) -> Sequence[float]:
        go.wait(30)
        return items

    slow = runtime_of(think)
    slow.warm_up()
    outcomes = [refused(slow.predict("toy", vitals(), deadline_s=0.05)) for _ in range(2)]
    assert {(outcome.kind, outcome.reason) for outcome in outcomes} == {("failed", "the model did not answer in time")}
    assert isinstance(runtime_of(list).predict("toy", vitals()), Prediction)
    go.set()


def test_a_hanging_model_gets_a_new_thread(runtime_of: RuntimeFactory) -> None:
    now, go = [0.0], threading.Event()
    hang = iter([True])

    def think(items: Sequence[float]) -> Sequence[float]:
        if next(hang, False):
            go.wait(30)
        return items

    runtime = runtime_of(think, limits=QueueLimits(stuck_s=60, close_s=1), monotonic=lambda: now[0])
    assert refused(runtime.predict("toy", vitals(), deadline_s=0.05)).kind == "failed"
    now[0] = 61.0
    assert isinstance(runtime.predict("toy", vitals()), Prediction)
    go.set()


def test_a_version_can_be_run_by_name(runtime_of: RuntimeFactory, sqlite: Database) -> None:
    runtime = runtime_of(list)
    folder = toy_folder(version="1.1.0")
    sqlite.write(lambda tx: registry.register(tx, folder, "shadow", by="ada", at=NOW))
    assert runtime.predict("toy", vitals(), version="1.1.0").model.status == "shadow"
    assert runtime.predict("toy", vitals()).model.status == "active"
    with pytest.raises(Problem, match="there is no model toy"):
        runtime.predict("toy", vitals(), version="9.9.9")


def test_a_stop_takes_effect_at_the_next_prediction(runtime_of: RuntimeFactory, sqlite: Database) -> None:
    runtime = runtime_of(list)
    assert isinstance(runtime.predict("toy", vitals()), Prediction)
    sqlite.write(lambda tx: registry.stop(tx, None, "recall of batch 7", by="ada", at=NOW))
    outcome = refused(runtime.predict("toy", vitals()))
    assert (outcome.kind, outcome.reason) == ("stopped", "the model was stopped: recall of batch 7")
    sqlite.write(lambda tx: registry.resume(tx, "toy", by="ada", at=NOW))
    assert isinstance(runtime.predict("toy", vitals()), Prediction)


def test_a_mask_without_its_artefact_is_a_failure(sqlite: Database) -> None:
    class Forgetful(ToyRunner):
        def encode(self, item: float, raw: float) -> Answer:
            return Answer(outputs=(output_of_each_kind()["mask"],))

    folder = toy_folder()
    sqlite.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))
    runtime = Runtime(
        sqlite, ModelFiles(Path("nowhere")), device="cpu", load=lambda *_args, **_kwargs: Forgetful(list, folder)
    )
    outcome = refused(runtime.predict("toy", vitals()))
    runtime.close()
    assert (outcome.kind, outcome.reason) == ("failed", "the model gave a mask without its artefact")


def test_a_retired_model_has_no_new_results(runtime_of: RuntimeFactory, sqlite: Database) -> None:
    sqlite.write(lambda tx: registry.set_status(tx, "toy", "1.0.0", "retired", by="ada", at=NOW))
    assert refused(runtime_of(list).predict("toy", vitals())).reason == "the model is retired"


def test_an_unknown_model_is_not_found(runtime_of: RuntimeFactory) -> None:
    with pytest.raises(Problem) as problem:
        runtime_of(list).predict("none", vitals())
    assert problem.value.category is Category.NOT_FOUND


@pytest.mark.parametrize("failure", [Problem(Category.INCORRECT, "weights have been altered"), None])
def test_a_model_that_cannot_be_loaded_is_a_visible_failure(sqlite: Database, failure: Problem | None) -> None:
    folder = toy_folder()
    sqlite.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))

    def load(_model_files: ModelFiles, _row: ModelRow, device: str) -> ToyRunner:
        if failure:
            raise failure
        return ToyRunner(list, replace(folder, digest="1"))

    runtime = Runtime(sqlite, ModelFiles(Path("nowhere")), device="cpu", load=load)
    outcome = refused(runtime.predict("toy", vitals()))
    assert outcome.kind == "failed"
    expected = "weights have been altered" if failure else "the folder of toy changed since it was registered"
    assert outcome.reason == expected


def test_requests_over_the_queue_limit_are_refused_immediately(runtime_of: RuntimeFactory) -> None:
    entered, go = threading.Event(), threading.Event()

    def think(items: Sequence[float]) -> Sequence[float]:
        entered.set()
        go.wait(30)
        return items

    runtime = runtime_of(think, limits=QueueLimits(longest_queue=1, largest_batch=1))
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(runtime.predict, "toy", vitals())
        assert entered.wait(20)
        assert refused(runtime.predict("toy", vitals(), deadline_s=0.5)).kind == "failed"
        busy = 0
        for _ in range(3):
            try:
                runtime.predict("toy", vitals(), deadline_s=5)
            except Problem as problem:
                busy += problem.category is Category.BUSY
        go.set()
        assert isinstance(running.result(20), Prediction)
    assert busy == 3


def test_more_inputs_than_may_be_under_way_are_refused_before_they_are_read(sqlite: Database) -> None:
    folder = toy_folder()
    sqlite.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))
    runner = Slow("decode", folder)
    limits = QueueLimits(longest_queue=1, largest_batch=1)
    runtime = Runtime(sqlite, ModelFiles(Path("x")), device="cpu", limits=limits, load=lambda *_a, **_k: runner)
    runtime.warm_up()
    with ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(runtime.predict, "toy", vitals()) for _ in range(2)]
        (loaded,) = [future.result() for future in runtime._loaded.values()]
        while loaded._users[False] < 2:
            threading.Event().wait(0.001)
        with pytest.raises(Problem) as refused_one:
            runtime.predict("toy", vitals())
        assert refused_one.value.category is Category.BUSY
        urgent = pool.submit(runtime.predict, "toy", vitals(), urgent=True)
        runner.go.set()
        assert all(isinstance(one.result(20), Prediction) for one in (*accepted, urgent))
    runtime.close()


def test_closing_answers_waiting_callers_with_busy(runtime_of: RuntimeFactory) -> None:
    entered, go = threading.Event(), threading.Event()

    def think(items: Sequence[float]) -> Sequence[float]:
        entered.set()
        go.wait(30)
        return items

    runtime = runtime_of(think, limits=QueueLimits(largest_batch=1))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(runtime.predict, "toy", vitals())
        assert entered.wait(20)
        others = [pool.submit(runtime.predict, "toy", vitals()) for _ in range(2)]
        closing = pool.submit(runtime.close)
        for other in others:
            failure = other.exception(20)
            assert isinstance(failure, Problem)
            assert failure.category is Category.INTERRUPTED
        go.set()
        closing.result(20)
        assert isinstance(first.result(20), Prediction)
    with pytest.raises(Problem, match="stopping"):
        runtime.predict("toy", vitals())


def test_concurrent_callers_each_get_their_own_answer(runtime_of: RuntimeFactory) -> None:
    runtime = runtime_of(list)
    with ThreadPoolExecutor(16) as pool:
        given = [vitals(_8867_4=(str(pulse), "/min")) for pulse in range(40, 240)]
        outcomes = list(pool.map(lambda one: runtime.predict("toy", one), given))
    values = [outcome.outputs[0].value for outcome in outcomes if isinstance(outcome, Prediction)]
    assert values == [float(pulse) for pulse in range(40, 240)]


def test_the_shipped_models_answer(application: Runtime) -> None:
    application.warm_up()
    score, image = application.predict("news2", vitals()), application.predict("cxr-pneumonia", radiograph())
    assert isinstance(score, Prediction)
    assert isinstance(image, Prediction)
    assert (score.outputs[0].value, score.outputs[0].band) == (0, "low")
    assert image.model.demonstration
    assert "Demonstration model, not for clinical use." in image.outputs[0].text


def test_an_input_of_the_wrong_kind_is_declined(application: Runtime) -> None:
    assert refused(application.predict("news2", radiograph())).reason == "the model reads facts, not an image"
    assert refused(application.predict("cxr-pneumonia", vitals())).reason == "the model reads an image, not facts"


def test_the_same_inputs_give_the_same_result_at_any_time(application: Runtime) -> None:
    now = application.predict("news2", vitals())
    later = application.predict("news2", replace(vitals(), at=NOW.replace(minute=1)))
    assert result_id(now) == result_id(later)


class Slow(ToyRunner):
    """A toy of which one step waits until it is let go on."""

    def __init__(self, step: str, model: ModelFolder) -> None:
        super().__init__(list, model)
        self.go = threading.Event()
        self.step = step

    def _wait(self, step: str) -> None:
        if step == self.step:
            self.go.wait(30)

    def decode(self, given: ModelInput) -> Decoded[float]:
        self._wait("decode")
        return super().decode(given)

    def encode(self, item: float, raw: float) -> Answer:
        self._wait("encode")
        return super().encode(item, raw)


@pytest.mark.parametrize("step", ["decode", "encode"])
def test_reading_inputs_and_expressing_answers_end_at_the_deadline_too(sqlite: Database, step: str) -> None:
    folder = toy_folder()
    sqlite.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))
    runner = Slow(step, folder)
    runtime = Runtime(sqlite, ModelFiles(Path("nowhere")), device="cpu", load=lambda *_args, **_kwargs: runner)
    began = time.monotonic()
    outcome = refused(runtime.predict("toy", vitals(), deadline_s=0.5))
    assert time.monotonic() - began < 20
    assert (outcome.kind, outcome.reason) == ("failed", "the model did not answer in time")
    runner.go.set()
    assert isinstance(runtime.predict("toy", vitals()), Prediction)
    runtime.close()


def test_loading_ends_at_the_deadline_and_no_other_model_waits_for_it(sqlite: Database) -> None:
    slow, quick = toy_folder("slow"), toy_folder("quick")
    go = threading.Event()
    for folder in (slow, quick):
        sqlite.write(lambda tx, it=folder: registry.register(tx, it, "active", by="ada", at=NOW))

    def load(_model_files: ModelFiles, row: ModelRow, device: str) -> ToyRunner:
        if row.name == "slow":
            go.wait(30)
        return ToyRunner(list, slow if row.name == "slow" else quick)

    runtime = Runtime(sqlite, ModelFiles(Path("nowhere")), device="cpu", load=load)
    outcome = refused(runtime.predict("slow", vitals(), deadline_s=0.2))
    assert (outcome.kind, outcome.reason) == ("failed", "the model was not loaded in time")
    assert isinstance(runtime.predict("quick", vitals()), Prediction)
    go.set()
    assert isinstance(runtime.predict("slow", vitals()), Prediction)
    runtime.close()


def test_a_model_that_hangs_each_time_does_not_fill_the_process_with_threads(sqlite: Database) -> None:
    folder = toy_folder()
    sqlite.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))
    runner = Slow("decode", folder)
    limits = QueueLimits(longest_queue=2)
    runtime = Runtime(sqlite, ModelFiles(Path("x")), device="cpu", limits=limits, load=lambda *_a, **_k: runner)
    runtime.warm_up()
    before = threading.active_count()
    outcomes = [refused(runtime.predict("toy", vitals(), deadline_s=0.05)) for _ in range(8)]
    assert {outcome.reason for outcome in outcomes} == {"the model did not answer in time"}
    assert threading.active_count() <= before + 2
    runner.go.set()
    runtime.close()


def test_a_model_in_shadow_runs_with_less_processor_time_than_one_that_is_active(sqlite: Database) -> None:
    folder, seen = toy_folder(), []
    sqlite.write(lambda tx: registry.register(tx, folder, "shadow", by="ada", at=NOW))

    def think(items: Sequence[float]) -> Sequence[float]:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return items

    runner = ToyRunner(think, folder)
    runtime = Runtime(sqlite, ModelFiles(Path("nowhere")), device="cpu", load=lambda *_args, **_kwargs: runner)
    runtime.predict("toy", vitals())
    sqlite.write(lambda tx: registry.set_status(tx, "toy", "1.0.0", "active", by="ada", at=NOW))
    runtime.predict("toy", vitals())
    runtime.close()
    in_shadow, active = seen
    assert in_shadow > active
