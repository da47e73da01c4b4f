"""The runtime: the only module that runs models.

In every case the caller gets an :data:`~inference.contract.Outcome`: a prediction, or the reason why there
is none. Only three things are raised: that no such model exists, that too much is waiting, and that the server is
stopping; each of them is about the server, not about the model, and the caller's job is tried again or parked.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from inference import registry
from inference.age import with_age
from inference.artefacts import artefacts_fit
from inference.batching import Batcher, QueueLimits
from inference.contract import (
    FactsInput,
    FeatureUse,
    InputUsed,
    ModelIdentity,
    ModelInput,
    NotAvailable,
    Outcome,
    Output,
    Prediction,
    SeriesInput,
    StudyInput,
)
from inference.deadline import Overdue, Threads, start, wait
from inference.gaps import check_gaps, imputed_in_words, with_gaps
from inference.limits import check_limits
from inference.loading import AnyRunner, load_registered
from inference.model_files import ModelFiles
from inference.registry import ModelRow
from inference.runners.base import Answer, Declined, Decoded
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.log import get_logger

Kind: TypeAlias = Literal["declined", "failed", "stopped"]
_Key: TypeAlias = tuple[str, str, str]

_LATE: Final = "the model did not answer in time"

_log = get_logger(__name__)


class _Failed(Exception):
    """The model failed; the message is safe to show."""


@dataclass(frozen=True, kw_only=True)
class _Served:
    """A loaded model and its queues, one per shape; those of a model in shadow run in the background."""

    runner: AnyRunner
    #: For reading inputs and expressing answers.
    threads: Threads
    #: (whether in the background, shape) -> queue.
    queues: dict[tuple[bool, Hashable], Batcher[Any, Any]] = field(default_factory=dict)


class Runtime:
    """Runs models.

    Parameters
    ----------
    database
        Where the registry's rows are; read at every prediction, so that a stop takes effect in every process.
    model_files
        The files of the registered versions.
    device
        ``cpu``, ``cuda``, or ``auto``: a CUDA device where there is one.
    limits
        Bounds of every model's queue.
    load
        ModelFiles, row and device -> runner.
    monotonic
        Seconds that never go back, for deadlines.
    """

    def __init__(
        self,
        database: Database,
        model_files: ModelFiles,
        *,
        device: str = "auto",
        limits: QueueLimits | None = None,
        load: Callable[..., AnyRunner] = load_registered,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._model_files = model_files
        self._device = device
        self._limits = limits or QueueLimits()
        self._load = load
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._turns = {background: threading.Lock() for background in (False, True)}
        self._served: dict[_Key, Future[_Served]] = {}
        self._closed = False

    def predict(
        self, name: str, model_input: ModelInput, *, version: str | None = None, deadline_s: float = 30.0
    ) -> Outcome:
        """Run a model on one input.

        Parameters
        ----------
        name
            The model's name.
        model_input
            The input, of the kind that the manifest declares.
        version
            Which version; the active one by default.
        deadline_s
            Seconds after which there is no answer.

        Returns
        -------
        Outcome
            A prediction, or why there is none: the model declined, failed, or is stopped.

        Raises
        ------
        Problem
            ``not-found``: no such model; ``busy``: its queue is full; ``interrupted``: the server is stopping.
        """
        deadline = self._monotonic() + deadline_s
        row = self._row(name, version)
        if row.stopped:
            return _not_available(row.identity(), model_input, "stopped", f"the model was stopped: {row.stop_reason}")
        if row.status == "retired":
            return _not_available(row.identity(), model_input, "stopped", "the model is retired")
        try:
            served = wait(self._serve(row), deadline - self._monotonic())
        except Overdue:
            _log.error("model_not_loaded_in_time", model=row.name, version=row.version)
            return _not_available(row.identity(), model_input, "failed", "the model was not loaded in time")
        except Problem as problem:
            _log.error("model_not_loaded", model=row.name, version=row.version, failure=problem)
            return _not_available(row.identity(), model_input, "failed", problem.detail)
        return self._run(served, row, model_input, deadline)

    def warm_up(self) -> None:
        """Load every model that runs, so that the first patient does not wait for it; failures wait for predict.

        Active models come first.
        """
        with self._database.read() as connection:
            rows = registry.serving(connection)
        for row in sorted(rows, key=lambda row: row.status != "active"):
            try:
                self._serve(row).result()
            except Problem as problem:
                _log.error("model_not_loaded", model=row.name, version=row.version, failure=problem)

    def close(self) -> None:
        """Answer everything that waits with ``interrupted`` and stop all threads."""
        with self._guard:
            self._closed = True
            loaded = [future.result() for future in self._served.values() if _is_loaded(future)]
            queues = [queue for served in loaded for queue in served.queues.values()]
        for queue in queues:
            queue.close()

    def _row(self, name: str, version: str | None) -> ModelRow:
        with self._database.read() as connection:
            row = registry.get(connection, name, version)
        if row is None:
            raise Problem(Category.NOT_FOUND, f"there is no model {name}")
        return row

    def _serve(self, row: ModelRow) -> "Future[_Served]":
        """Return the loaded model, or start to load it: on a thread of its own, so that no model waits for another."""
        key = (row.name, row.version, row.digest)
        with self._guard:
            future = self._served.get(key)
            if future is None or (future.done() and not _is_loaded(future)):
                future = self._served[key] = start(lambda: self._set_up(row))
            return future

    def _set_up(self, row: ModelRow) -> _Served:
        runner = self._load(self._model_files, row, device=self._device)
        if runner.model.digest != row.digest:
            raise Problem(Category.CONFLICT, f"the folder of {row.name} changed since it was registered")
        return _Served(runner=runner, threads=Threads(self._limits.longest_queue, self._monotonic))

    def _run(self, served: _Served, row: ModelRow, model_input: ModelInput, deadline: float) -> Outcome:
        runner = served.runner
        identity = runner.model.identity(row.status)
        inputs: tuple[InputUsed, ...] = ()
        features = model_input.uses if isinstance(model_input, SeriesInput | StudyInput) else ()
        try:
            decoded = _decode(served, model_input, deadline)
            inputs, features = decoded.inputs, decoded.features or features
            check_gaps(runner.model.manifest.limits, runner.model.features, features)
            queue = self._queue(served, row, decoded.shape)
            raw = self._wait(runner, queue.submit(decoded.item, deadline=deadline), deadline)
            answer = _encode(served, decoded, raw, deadline)
        except Declined as no:
            available = no.inputs or inputs
            declined = _not_available(
                identity, model_input, "declined", no.reason, inputs=available, missing=no.missing
            )
            features = no.features or features
            return replace(
                declined,
                features=features,
                input_versions=_with_gaps_named(declined.input_versions, features),
                out_of_scope=no.out_of_scope,
            )
        except _Failed as failure:
            _log.error("model_failed", model=row.name, version=row.version, failure=failure.__cause__)
            return replace(
                _not_available(identity, model_input, "failed", str(failure), inputs=inputs), features=features
            )
        return Prediction(
            model=identity,
            subject=model_input.subject,
            outputs=_with_inputs(runner, answer, inputs, features, model_input),
            inputs=inputs,
            input_versions=_with_gaps_named(_versions(model_input, inputs), features),
            at=model_input.at,
            artefacts=answer.artefacts,
            features=features,
        )

    def _queue(self, served: _Served, row: ModelRow, shape: Hashable) -> Batcher[Any, Any]:
        runner, background = served.runner, row.status != "active"
        with self._guard:
            if self._closed:
                raise Problem(Category.INTERRUPTED, "the server is stopping")
            queue = served.queues.get((background, shape))
            if queue is not None and queue.stuck():
                _log.error("model_stuck", model=runner.model.manifest.name, version=runner.model.manifest.version)
                queue.close(wait=False)
                queue = None
            if queue is None:
                queue = served.queues[background, shape] = Batcher(
                    lambda items: runner.predict(runner.batch(items)),
                    self._turns[background],
                    self._limits,
                    out_of_memory=runner.out_of_memory,
                    monotonic=self._monotonic,
                    background=background,
                )
            return queue

    def _wait(self, runner: AnyRunner, future: "Future[Any]", deadline: float) -> Any:
        try:
            # Read as a value: an exception raised here would be this thread's own (an interrupt, say), not the model's.
            failure = future.exception(timeout=max(0.0, deadline - self._monotonic()))
        except TimeoutError:
            future.cancel()
            raise _Failed(_LATE) from None
        if failure is None:
            return future.result()
        if isinstance(failure, Declined):
            raise failure
        if isinstance(failure, Problem) and failure.category is Category.INTERRUPTED:
            raise failure
        raise _Failed(_in_words(runner, failure)) from failure


def _in_words(runner: AnyRunner, failure: BaseException) -> str:
    if isinstance(failure, Problem):
        return failure.detail
    if isinstance(failure, TimeoutError):
        return _LATE
    if runner.out_of_memory(failure):
        return "the model ran out of memory"
    return "the model broke while it was running"


def _is_loaded(future: "Future[_Served]") -> bool:
    return future.done() and future.exception() is None


def _decode(served: _Served, model_input: ModelInput, deadline: float) -> Decoded[Any]:
    runner = served.runner
    try:
        check_limits(runner.model.manifest, model_input)
        return served.threads.run(lambda: runner.decode(model_input), deadline)
    except Declined:
        raise
    except Overdue:
        raise _Failed(_LATE) from None
    except Exception as failure:
        raise _Failed("the model broke while reading its inputs") from failure


def _encode(served: _Served, decoded: Decoded[Any], raw: Any, deadline: float) -> Answer:
    try:
        answer = served.threads.run(lambda: served.runner.encode(decoded.item, raw), deadline)
    except Declined:
        raise
    except Overdue:
        raise _Failed(_LATE) from None
    except Exception as failure:
        raise _Failed("the model gave an answer that cannot be expressed") from failure
    for output in answer.outputs:
        if output.value is not None and not math.isfinite(output.value):
            raise _Failed("the model gave no number")
    if not artefacts_fit(answer.outputs, answer.artefacts):
        raise _Failed("the model gave a mask without its artefact")
    return answer


def _with_inputs(
    runner: AnyRunner,
    answer: Answer,
    inputs: tuple[InputUsed, ...],
    features: tuple[FeatureUse, ...],
    model_input: ModelInput,
) -> tuple[Output, ...]:
    """Return the outputs, with what their texts say of the values that they rest on."""
    specs = runner.model.features
    titles = {spec.declared: spec.title for spec in specs} | {spec.name: spec.title for spec in specs}
    imputed = imputed_in_words(runner.model.manifest.limits, specs, features)
    return tuple(
        with_age(with_gaps(output, features, titles, imputed), inputs, model_input.at, titles)
        for output in answer.outputs
    )


def _not_available(
    model: ModelIdentity,
    model_input: ModelInput,
    kind: Kind,
    reason: str,
    *,
    inputs: tuple[InputUsed, ...] = (),
    missing: tuple[str, ...] = (),
) -> NotAvailable:
    return NotAvailable(
        model=model,
        subject=model_input.subject,
        kind=kind,
        reason=reason,
        missing=missing,
        inputs=inputs,
        input_versions=_versions(model_input, inputs),
        at=model_input.at,
    )


def _with_gaps_named(versions: tuple[str, ...], features: tuple[FeatureUse, ...]) -> tuple[str, ...]:
    """Return versions together with those of values that could not be used: another such value is another result."""
    return tuple(sorted({use.source for use in features if use.source is not None}.union(versions)))


def _versions(model_input: ModelInput, inputs: tuple[InputUsed, ...]) -> tuple[str, ...]:
    """Return the versions of what was used, or of all that was available when nothing could be used."""
    if isinstance(model_input, FactsInput) and inputs:
        return tuple(sorted({used.source for used in inputs}))
    return tuple(sorted(set(model_input.sources)))
