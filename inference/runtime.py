"""The runtime: the only module that runs models.

In every case the caller gets an :data:`~inference.contract.Outcome`: a prediction, or the reason why there
is none. Only these things are raised: that no such model exists, that too much is waiting, that the server is stopping,
and that another server, which runs the model, is busy or cannot be reached. Each of them is about a server, not about
the model, and the caller's job is tried again or parked.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeAlias

from inference import registry
from inference.batching import QueueLimits
from inference.contract import (
    ModelInput,
    Outcome,
)
from inference.deadline import Overdue, start, wait
from inference.devices import Device, DeviceName, devices_of, free_memory
from inference.loading import AnyRunner, load_registered
from inference.model_files import ModelFiles
from inference.outcomes import not_available
from inference.registry import ModelRow, Status
from inference.replicas import LoadedModel, Replica
from inference.run import TRY_AGAIN, Run
from inference.runners.base import TryAgain
from inference.warm_up import golden_items, largest_batch
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.log import get_logger

_Key: TypeAlias = tuple[str, str, str]

_log = get_logger(__name__)


class _Stopped(Exception):
    """The version may not run; the message is safe to show."""


class Runtime:
    """Runs models.

    Parameters
    ----------
    database
        Where the registry's rows are; read at every prediction, so that a stop takes effect in every process.
    model_files
        The files of the registered versions.
    device
        ``cpu``, ``cuda``, or ``auto`` (the CUDA devices where there are any), or the devices themselves.
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
        device: str | Sequence[DeviceName] = "auto",
        limits: QueueLimits | None = None,
        load: Callable[..., AnyRunner] = load_registered,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._model_files = model_files
        self._wanted = device
        self._devices: tuple[Device, ...] = ()
        self._limits = limits or QueueLimits()
        self._load = load
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._loaded: dict[_Key, Future[LoadedModel]] = {}
        self._closed = False

    def predict(
        self,
        name: str,
        model_input: ModelInput,
        *,
        version: str | None = None,
        deadline_s: float = 30.0,
        urgent: bool = False,
        begun_as: Status | None = None,
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
        urgent
            Whether it runs before what is not.
        begun_as
            The status of the version when the work began of which this is a part: a version that was retired since
            completes it. A stop holds all the same.

        Returns
        -------
        Outcome
            A prediction, or why there is none: the model declined, failed, or is stopped.

        Raises
        ------
        Problem
            ``not-found``: no such model; ``busy``: its queue is full; ``interrupted``: the server is stopping;
            ``unavailable``: another server runs it, and cannot be reached.
        """
        row = self._row(name, version)
        if row.status == "retired" and begun_as not in (None, "retired"):
            row = replace(row, status=begun_as)
        (outcome,) = self.predict_all(row, (model_input,), deadline_s=deadline_s, urgent=urgent)
        return outcome

    def predict_all(
        self, row: ModelRow, model_inputs: Sequence[ModelInput], *, deadline_s: float = 30.0, urgent: bool = False
    ) -> Sequence[Outcome]:
        """Run a version on several inputs at once; each gets its own outcome.

        Parameters
        ----------
        row
            The version, as the registry has it now.
        model_inputs
            The inputs.
        deadline_s, urgent
            As for :meth:`predict`.

        Raises
        ------
        Problem
            ``busy`` when one of them does not fit into the queue, so that none is answered; ``interrupted``: the server
            is stopping; ``unavailable``: another server runs it, and cannot be reached; ``fault``
            (:class:`~inference.runners.base.TryAgain`) when a later run may succeed.
        """
        deadline = self._monotonic() + deadline_s
        try:
            _check_runs(row)
            loaded = self._use(row, deadline, len(model_inputs), urgent=urgent)
        except _Stopped as stopped:
            if row.brings_code and not row.code_allowed:
                self._unload([_key(row)])  # its process ends
            return [not_available(row.identity(), one, "stopped", str(stopped)) for one in model_inputs]
        except Overdue:
            _log.error("model_not_loaded_in_time", model=row.name, version=row.version)
            why = "the model was not loaded in time"
            return [not_available(row.identity(), one, "failed", why) for one in model_inputs]
        except Problem as problem:
            if isinstance(problem, TryAgain) or problem.category in TRY_AGAIN:
                raise
            _log.error("model_not_loaded", model=row.name, version=row.version, failure=problem)
            return [not_available(row.identity(), one, "failed", problem.detail) for one in model_inputs]
        begun: list[Run] = []
        try:
            for one in model_inputs:
                begun.append(Run(loaded, row, one, deadline))
                begun[-1].begin(urgent=urgent)
            return [run.end(self._monotonic) for run in begun]
        finally:
            for run in begun:
                run.give_up()
            loaded.leave(len(model_inputs), urgent=urgent)

    def warm_up(self) -> None:
        """Load every model that runs, so that the first patient does not wait for it; failures wait for predict.

        Active models come first.
        """
        with self._database.read() as connection:
            rows = registry.serving(connection)
        for row in sorted(rows, key=lambda row: row.status != "active"):
            try:
                self._load_once(row).result()
            except Problem as problem:
                _log.error("model_not_loaded", model=row.name, version=row.version, failure=problem)

    def is_ready(self, row: ModelRow) -> bool:
        """Return whether a version is loaded and may run; one that is not loaded yet begins to be."""
        return row.may_run and _is_loaded(self._load_once(row))

    def close(self) -> None:
        """Answer everything that waits with ``interrupted`` and stop all threads."""
        with self._guard:
            self._closed = True
            loaded = [future.result() for future in self._loaded.values() if _is_loaded(future)]
        for model in loaded:
            model.close()

    def _row(self, name: str, version: str | None) -> ModelRow:
        with self._database.read() as connection:
            row = registry.get(connection, name, version)
        if row is None:
            raise Problem(Category.NOT_FOUND, f"there is no model {name}")
        return row

    def _use(self, row: ModelRow, deadline: float, inputs: int, *, urgent: bool) -> LoadedModel:
        """Return the loaded model, which stays loaded until the caller leaves it."""
        while True:
            loaded = wait(self._load_once(row), deadline - self._monotonic())
            if loaded.enter(inputs, urgent=urgent):
                return loaded

    def _load_once(self, row: ModelRow) -> "Future[LoadedModel]":
        """Return the loaded model, or start to load it: on a thread of its own, so that no model waits for another."""
        key = _key(row)
        with self._guard:
            if self._closed:
                raise Problem(Category.INTERRUPTED, "the server is stopping")
            future = self._loaded.get(key)
            if future is None or (future.done() and not _is_loaded(future)):
                future = self._loaded[key] = start(lambda: self._set_up(row))
            return future

    def _set_up(self, row: ModelRow) -> LoadedModel:
        files = self._model_files.path(row.digest)
        replicas = []
        for device in self._devices_in_use():
            with device.name.chosen():
                runner = self._load(self._model_files, row, device=device.name.kind)
                if runner.model.digest != row.digest:
                    raise Problem(Category.CONFLICT, f"the folder of {row.name} changed since it was registered")
                largest = {
                    shape: largest_batch(runner, item, self._limits.largest_batch)
                    for shape, item in golden_items(runner, files).items()
                }
            replicas.append(Replica(runner=runner, device=device, largest=largest))
        self._unload_replaced()
        return LoadedModel(replicas, self._limits, self._monotonic)

    def _devices_in_use(self) -> tuple[Device, ...]:
        wanted = self._wanted
        names = devices_of(wanted) if isinstance(wanted, str) else wanted
        with self._guard:
            self._devices = self._devices or tuple(Device(name) for name in names)
            return self._devices

    def _unload_replaced(self) -> None:
        """Unload the versions that neither run nor are the last of their name that ran, which a rollback needs."""
        with self._database.read() as connection:
            rows = registry.everything(connection)
        with self._guard:
            kept = {_key(row) for row in rows if row.status != "retired"}
            retired = [row for row in rows if row.status == "retired" and _key(row) in self._loaded]
            kept.update({row.name: _key(row) for row in sorted(retired, key=lambda row: row.changed_at)}.values())
            gone = [key for key, future in self._loaded.items() if key not in kept and future.done()]
        self._unload(gone)

    def _unload(self, keys: Iterable[_Key]) -> None:
        with self._guard:
            futures = [self._loaded.pop(key) for key in keys if key in self._loaded]
        for future in futures:
            if _is_loaded(future):
                future.result().unload()
        if futures:
            del future, futures
            free_memory()


def _check_runs(row: ModelRow) -> None:
    if row.stopped:
        raise _Stopped(f"the model was stopped: {row.stop_reason}")
    if row.status == "retired":
        raise _Stopped("the model is retired")
    if row.brings_code and not row.code_allowed:
        raise _Stopped("no operator allows the code of the model")


def _key(row: ModelRow) -> _Key:
    return row.name, row.version, row.digest


def _is_loaded(future: "Future[LoadedModel]") -> bool:
    return future.done() and future.exception() is None
