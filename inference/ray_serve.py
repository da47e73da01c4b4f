"""A model folder as a deployment of Ray Serve: the same runner, in processes and on machines that Ray has.

Each process verifies the folder, sets the model up and answers the golden cases before it takes part. Inputs are read,
and answers expressed, where the caller is; a batch goes to the process with the least load. Ray sends items as pickles
between its own processes, so its cluster is trusted as this server is.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from inference.contract import ModelInput
from inference.loading import AnyRunner, load_model
from inference.runners.base import Answer, Decoded, Runner
from kernel.errors import Category, Problem

_ANSWER_S: Final = 30.0
"""Seconds for an answer where nobody states a time."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A problem, as it is sent between processes."""

    category: Category
    detail: str


class ModelProcess:
    """A set-up model in a process of Ray.

    Parameters
    ----------
    folder
        The sealed folder, at the same path on every machine.
    digest
        What it must be.
    device
        ``cpu``, ``cuda`` or ``auto``.

    Raises
    ------
    Problem
        As :func:`inference.loading.load_model`; ``conflict`` when the folder has another digest here.
    """

    def __init__(self, folder: str, digest: str, device: str) -> None:
        self._runner = load_model(Path(folder), device=device)
        if self._runner.model.digest != digest:
            raise Problem(Category.CONFLICT, f"the folder {Path(folder).name} is another one on this machine")

    def predict(self, items: Sequence[Any]) -> list[Any] | Refused:
        """Return one raw result for each item, in order, or what was refused."""
        try:
            return list(self._runner.predict(self._runner.batch(items)))
        except Problem as problem:
            return Refused(category=problem.category, detail=problem.detail)


class RayRunner(Runner[Any, Sequence[Any], Any]):
    """Runs a model in processes of Ray; made by :func:`deploy`.

    Parameters
    ----------
    local
        The same model, set up here: it reads inputs and expresses answers.
    name
        Of the application of Ray Serve.
    handle
        Its handle.
    """

    uses_device: ClassVar[bool] = False

    def __init__(self, local: AnyRunner, name: str, handle: Any) -> None:
        super().__init__(local.model)
        self._local, self._name, self._handle = local, name, handle

    def setup(self, device: str) -> None:
        """Do nothing: the processes are set up when they start."""

    def decode(self, given: ModelInput) -> Decoded[Any]:
        """Turn an input into an item, as the model's own runner does."""
        return self._local.decode(given)

    def batch(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return the items as they are: the process joins them."""
        return items

    def predict(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Run the model in one of the processes."""
        return self.predict_within(batch, _ANSWER_S)

    def predict_within(self, batch: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Run the model in one of the processes, and wait for it so long.

        Parameters
        ----------
        batch
            The items.
        seconds
            Longest time.

        Raises
        ------
        TimeoutError
            When there is no answer in time.
        Problem
            ``unavailable`` when the process has ended, or there is none; else what the model's own runner raises.
        """
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError  # noqa: PLC0415 - optional
        from ray.serve.exceptions import RayServeException  # noqa: PLC0415

        answer = self._handle.predict.remote(list(batch))
        try:
            found: Sequence[Any] | Refused = answer.result(timeout_s=max(0.0, seconds))
        except (GetTimeoutError, TimeoutError):
            answer.cancel()
            raise TimeoutError from None
        except RayTaskError as failure:
            raise failure.cause from None
        except (RayActorError, RayServeException) as failure:
            detail = "the process that runs the model has ended"
            raise Problem(Category.UNAVAILABLE, detail, diagnostics=type(failure).__name__) from failure
        if isinstance(found, Refused):
            raise Problem(found.category, found.detail)
        return found

    def encode(self, item: Any, raw: Any) -> Answer:
        """Express a raw result, as the model's own runner does.

        Parameters
        ----------
        item, raw
            As for the model's own runner.
        """
        return self._local.encode(item, raw)

    def out_of_memory(self, failure: BaseException) -> bool:
        """Return whether a smaller batch could have succeeded."""
        return self._local.out_of_memory(failure)

    def close(self) -> None:
        """End the processes."""
        importlib.import_module("ray.serve").delete(self._name)


def deploy(folder: Path, *, processes: int = 2, device: str = "cpu") -> RayRunner:
    """Deploy a model folder on the cluster that Ray is connected to, and return what calls it.

    Parameters
    ----------
    folder
        The sealed folder, at the same path on every machine of the cluster.
    processes
        How many run it.
    device
        ``cpu``, ``cuda`` or ``auto``; one processor core, or one GPU, for each process.

    Raises
    ------
    Problem
        ``unsupported`` when Ray is not installed; as :func:`inference.loading.load_model` when the folder is refused.
    """
    if importlib.util.find_spec("ray") is None:
        raise Problem(Category.UNSUPPORTED, "Ray is not installed; run: pip install '.[ray]' -c constraints.txt")
    from ray import serve  # noqa: PLC0415 - optional

    local = load_model(folder)
    name = f"{local.model.manifest.name}-{local.model.digest[:12]}"
    needs = {"num_cpus": 1} if device == "cpu" else {"num_gpus": 1}
    made = serve.deployment(ModelProcess).options(num_replicas=processes, ray_actor_options=needs)
    serve.start(proxy_location="Disabled")  # its HTTP server would answer anyone who reaches the port
    handle = serve.run(made.bind(str(folder), local.model.digest, device), name=name, route_prefix=None)
    return RayRunner(local, name, handle)
