"""One run of a loaded model: read the input, wait for the batch that it is part of, express the answer."""

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from inference.artefacts import artefacts_fit
from inference.contract import FeatureUse, InputUsed, ModelInput, Outcome, Prediction, SeriesInput, StudyInput
from inference.deadline import Overdue
from inference.gaps import check_gaps
from inference.limits import check_limits
from inference.loading import AnyRunner
from inference.outcomes import not_available, versions_of, with_gaps_named, with_inputs
from inference.registry import ModelRow
from inference.replicas import LoadedModel
from inference.runners.base import Answer, Declined, Decoded, TryAgain
from kernel.errors import Category, Problem
from kernel.log import get_logger

_LATE: Final = "the model did not answer in time"

TRY_AGAIN: Final = frozenset({Category.INTERRUPTED, Category.BUSY, Category.UNAVAILABLE})
"""Categories of what says nothing about the model and its input."""

_log = get_logger(__name__)


class _Failed(Exception):
    """The model failed; the message is safe to show."""


class Run:
    """One input on its way through a loaded model.

    Parameters
    ----------
    loaded
        The model; the caller has entered it.
    row
        The version, as the registry has it.
    model_input
        The input.
    deadline
        When there is no answer any more.
    """

    def __init__(self, loaded: LoadedModel, row: ModelRow, model_input: ModelInput, deadline: float) -> None:
        self._loaded = loaded
        self._row = row
        self._input = model_input
        self._deadline = deadline
        self._identity = loaded.runner.model.identity(row.status)
        self._inputs: tuple[InputUsed, ...] = ()
        self._features: tuple[FeatureUse, ...] = (
            model_input.uses if isinstance(model_input, SeriesInput | StudyInput) else ()
        )
        self._decoded: Decoded[Any] | None = None
        self._pending: tuple[AnyRunner, Future[Any]] | None = None
        self._outcome: Outcome | None = None

    def begin(self, *, urgent: bool) -> None:
        """Read the input and queue it.

        Parameters
        ----------
        urgent
            Whether it runs before what is not.

        Raises
        ------
        Problem
            ``busy`` when the queue is full, ``interrupted`` when the server is stopping.
        """
        model = self._loaded.runner.model
        try:
            decoded = self._decoded = _decode(self._loaded, self._input, self._deadline)
            self._inputs, self._features = decoded.inputs, decoded.features or self._features
            check_gaps(model.manifest.limits, model.features, self._features)
            background = self._row.status != "active"
            self._pending = self._loaded.submit(decoded, background=background, deadline=self._deadline, urgent=urgent)
        except Declined as no:
            self._outcome = self._declined(no)
        except _Failed as failure:
            self._outcome = self._failed(failure)

    def end(self, monotonic: Callable[[], float]) -> Outcome:
        """Wait for the answer and return it as an outcome.

        Parameters
        ----------
        monotonic
            The clock of the deadline.

        Raises
        ------
        TryAgain
            When the same run may succeed later.
        Problem
            ``interrupted`` when the server is stopping; ``busy`` or ``unavailable`` when another server computes, and
            cannot at present.
        """
        if self._outcome is not None:
            return self._outcome
        assert self._pending is not None and self._decoded is not None  # noqa: PT018 - begin has set both or an outcome
        runner, future = self._pending
        try:
            raw = _answer_of(runner, future, self._deadline - monotonic())
            answer = _encode(self._loaded, self._decoded, raw, self._deadline)
        except Declined as no:
            return self._declined(no)
        except _Failed as failure:
            return self._failed(failure)
        return Prediction(
            model=self._identity,
            subject=self._input.subject,
            outputs=with_inputs(runner, answer, self._inputs, self._features, self._input),
            inputs=self._inputs,
            input_versions=with_gaps_named(versions_of(self._input, self._inputs), self._features),
            at=self._input.at,
            artefacts=answer.artefacts,
            features=self._features,
            computed_by=answer.computed_by,
        )

    def give_up(self) -> None:
        """Take an item that still waits out of its queue."""
        if self._pending is not None:
            self._pending[1].cancel()

    def _declined(self, no: Declined) -> Outcome:
        available = no.inputs or self._inputs
        declined = not_available(
            self._identity, self._input, "declined", no.reason, inputs=available, missing=no.missing
        )
        features = no.features or self._features
        return replace(
            declined,
            features=features,
            input_versions=with_gaps_named(declined.input_versions, features),
            out_of_scope=no.out_of_scope,
        )

    def _failed(self, failure: _Failed) -> Outcome:
        _log.error("model_failed", model=self._row.name, version=self._row.version, failure=failure.__cause__)
        outcome = not_available(self._identity, self._input, "failed", str(failure), inputs=self._inputs)
        return replace(outcome, features=self._features)


def _answer_of(runner: AnyRunner, future: "Future[Any]", seconds: float) -> Any:
    try:
        # Read as a value: an exception raised here would be this thread's own (an interrupt, say), not the model's.
        failure = future.exception(timeout=max(0.0, seconds))
    except TimeoutError:
        future.cancel()
        raise _Failed(_LATE) from None
    if failure is None:
        return future.result()
    if isinstance(failure, Declined):
        raise failure
    if isinstance(failure, TryAgain) or (isinstance(failure, Problem) and failure.category in TRY_AGAIN):
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


def _decode(loaded: LoadedModel, model_input: ModelInput, deadline: float) -> Decoded[Any]:
    runner = loaded.runner
    try:
        check_limits(runner.model.manifest, model_input)
        return loaded.threads.run(lambda: runner.decode(model_input), deadline)
    except Declined:
        raise
    except Overdue:
        raise _Failed(_LATE) from None
    except Exception as failure:
        raise _Failed("the model broke while reading its inputs") from failure


def _encode(loaded: LoadedModel, decoded: Decoded[Any], raw: Any, deadline: float) -> Answer:
    try:
        answer = loaded.threads.run(lambda: loaded.runner.encode(decoded.item, raw), deadline)
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
