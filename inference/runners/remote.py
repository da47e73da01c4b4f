"""Models that another server runs, called by the Open Inference Protocol (version 2, over HTTP, in JSON).

The operator lists the hosts that models may call. What is sent are the tensors alone, no identifier and no time.
The folder's golden cases are answered by the remote model at every load, as those of every other runner. ``runner``
declares:

- ``url``: of the server, without ``/v2``; ``model`` and, where it is to be one version alone, ``version``
- ``output``: which output counts, where neither their names nor their number say it
- the options of arrays: ``fill``, ``mean``, ``scale``, ``mask``, ``resize``, ``channels``, ``transform``
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from inference.contract import InputKind, ModelInput
from inference.remote.peer import Peer, RequestRefused
from inference.remote.rows import Row, outputs_of, rows_for
from inference.remote.tensors import Array, Metadata, numbers_of, read_metadata, written
from inference.runners.array_outputs import ArrayOutputs
from inference.runners.base import Answer, Decoded, Runner
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
"""Of a model or a version: it becomes part of a URL."""
_METADATA_S: Final = 10.0
_ANSWER_S: Final = 30.0
"""Seconds for an answer where nobody states a time: when golden cases are checked."""
_SOURCE: Final = "the remote model"


@dataclass(frozen=True, kw_only=True)
class RemoteAnswer:
    """What the remote model gave for one item."""

    numbers: Array
    #: URL of the model, with the version that answered where it is known.
    computed_by: str


class RemoteRunner(Runner[Row, Sequence[Row], RemoteAnswer]):
    """Calls a model of another server."""

    kinds: ClassVar[frozenset[InputKind]] = frozenset({"facts", "series", "image", "text"})
    uses_device: ClassVar[bool] = False

    def setup(self, device: str) -> None:  # noqa: ARG002 - the other server has its own
        """Read the declarations, and compare them with what the remote model says of itself.

        Raises
        ------
        Problem
            ``incorrect``: which line does not fit; ``forbidden`` when the operator does not list the host;
            ``unavailable`` or ``busy`` when the server does not say anything at present.
        """
        options = YamlMapping("model.yaml.runner", self.model.manifest.runner_options)
        url = options.text("url")
        address = self.remote_hosts.require(url)
        self._version = _name(options, "version") if options.has("version") else ""
        self._model = _name(options, "model")
        self._peer = Peer(url, self.remote_hosts.token(address))
        metadata = self._metadata()
        self._rows = rows_for(self.model, options, metadata)
        self._wanted = outputs_of(self.model, options, metadata)
        self._outputs = ArrayOutputs(self.model.manifest.outputs, options)
        options.done()
        sizes = [spec.shape or (1,) for spec in self._wanted]
        if all(len(size) == 1 and size[0] > 0 for size in sizes):
            self._outputs.check(sum(size[0] for size in sizes), _SOURCE)

    def decode(self, given: ModelInput) -> Decoded[Row]:
        """Return what the tensors state of an input."""
        return self._rows.read(given)

    def batch(self, items: Sequence[Row]) -> Sequence[Row]:
        """Return the items as they are."""
        return items

    def predict(self, batch: Sequence[Row]) -> Sequence[RemoteAnswer]:
        """Ask the remote model, for golden cases and the trial of batches.

        Raises
        ------
        Problem
            ``unavailable`` when there is no answer in time; else as :meth:`predict_within`.
        """
        try:
            return self.predict_within(batch, _ANSWER_S)
        except TimeoutError:
            raise _late() from None

    def predict_within(self, batch: Sequence[Row], seconds: float) -> Sequence[RemoteAnswer]:
        """Ask the remote model, and wait for its answer so long.

        Parameters
        ----------
        batch
            The items.
        seconds
            Longest time of the whole exchange.

        Raises
        ------
        TimeoutError
            When there is no answer in time.
        Problem
            As :meth:`inference.remote.peer.Peer.post`; ``fault`` when the answer is not what the metadata said.
        """
        content = {
            "inputs": [written(spec, [row[spec.name] for row in batch]) for spec in self._rows.tensors],
            "outputs": [{"name": spec.name} for spec in self._wanted],
        }
        answer = self._peer.post(f"{self._path(self._version)}/infer", content, seconds)
        if not isinstance(answer, dict):
            raise Problem(Category.FAULT, f"{_SOURCE} gave an answer that is not of the Open Inference Protocol")
        computed_by = f"{self._peer.url}{self._path(self._answered(answer))}"
        numbers = np.concatenate([numbers_of(answer, spec.name, len(batch)) for spec in self._wanted], axis=1)
        self._outputs.check(numbers.shape[1], _SOURCE)
        return [RemoteAnswer(numbers=row, computed_by=computed_by) for row in numbers]

    def encode(self, item: Row, raw: RemoteAnswer) -> Answer:  # noqa: ARG002 - the numbers are all that is needed
        """Express the numbers in the manifest's codes.

        Parameters
        ----------
        item
            What was sent; not used.
        raw
            What came back for it.

        Raises
        ------
        Problem
            ``fault`` when a number is missing.
        """
        if not np.isfinite(raw.numbers).all():
            raise Problem(Category.FAULT, f"{_SOURCE} gave no number")
        outputs = self._outputs.express(raw.numbers, notice=self.opening())
        return Answer(outputs=outputs, computed_by=raw.computed_by)

    def out_of_memory(self, failure: BaseException) -> bool:
        """Return whether the remote model may accept fewer items."""
        return isinstance(failure, RequestRefused) or super().out_of_memory(failure)

    def _path(self, version: str) -> str:
        return f"/v2/models/{self._model}" + (f"/versions/{version}" if version else "")

    def _metadata(self) -> Metadata:
        try:
            found = read_metadata(self._peer.get(self._path(self._version), _METADATA_S))
        except TimeoutError:
            raise _late() from None
        except Problem as problem:
            if problem.category is not Category.NOT_FOUND:
                raise
            version = f" in version {self._version}" if self._version else ""
            detail = f"model.yaml.runner.model: the server has no model {self._model}{version}"
            raise Problem(Category.INCORRECT, detail) from None
        if self._version and found.versions and self._version not in found.versions:
            known = ", ".join(one for one in found.versions if _NAME.fullmatch(one))
            raise Problem(Category.INCORRECT, f"model.yaml.runner.version must be one of: {known}")
        return found

    def _answered(self, answer: Mapping[str, Any]) -> str:
        """Return which version answered."""
        stated = answer.get("model_version")
        version = str(stated) if stated else ""
        if self._version and version not in {"", self._version}:
            detail = f"{_SOURCE} answered in another version than model.yaml.runner.version"
            raise Problem(Category.FAULT, detail)
        return version if _NAME.fullmatch(version) else self._version


def _late() -> Problem:
    return Problem(Category.UNAVAILABLE, f"{_SOURCE} did not answer in time")


def _name(options: YamlMapping, key: str) -> str:
    name = options.text(key)
    if not _NAME.fullmatch(name):
        raise Problem(Category.INCORRECT, f"{options.place}.{key} must have the form {_NAME.pattern}")
    return name
