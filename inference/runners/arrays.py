"""What all runners of arrays share; each of them only loads a file and computes.

At set-up a runner is tried on rows of zeros, and on rows without values where features may be without one: a file that
does not fit its declarations is refused then, with the line to change, and not at the first patient.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from inference.contract import InputKind, ModelInput
from inference.runners.array_inputs import Array, make_reader
from inference.runners.array_outputs import ArrayOutputs
from inference.runners.base import Answer, Decoded, Runner
from inference.runners.kinds import RUNNERS, weights_of
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

Compute: TypeAlias = Callable[[Array], Array]
"""(items, ...) -> (items, numbers)."""


class ArrayRunner(Runner[Array, Array, Array]):
    """Runs a model that turns an array into numbers."""

    kinds: ClassVar[frozenset[InputKind]] = frozenset({"facts"})

    @abstractmethod
    def load(self, options: YamlMapping, device: str) -> Compute:
        """Read the file of weights and return what computes.

        ``self.reader``, ``self.outputs``, ``self.file`` and ``self.content`` are set.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``.
        device
            ``cpu`` or ``cuda``.
        """

    def setup(self, device: str) -> None:
        """Read the declarations, load the model, and try it.

        Raises
        ------
        Problem
            ``incorrect``: which line of the declarations does not fit the file.
        """
        options = YamlMapping("model.yaml.runner", self.model.manifest.runner_options)
        self.file, self.content = weights_of(self.model, RUNNERS[self.model.manifest.runner].weights)
        self.reader = make_reader(self.model, options)
        self.outputs = ArrayOutputs(self.model.manifest.outputs, options)
        self._compute = self.load(options, device)
        self.content = b""
        options.done()
        self._try()

    def decode(self, given: ModelInput) -> Decoded[Array]:
        """Make the array of an input."""
        return self.reader.read(given)

    def batch(self, items: Sequence[Array]) -> Array:
        """Stack arrays to (items, ...)."""
        return np.stack(items)

    def predict(self, batch: Array) -> Sequence[Array]:
        """Return the numbers of each item."""
        return list(self._compute(batch))

    def encode(self, item: Array, raw: Array) -> Answer:  # noqa: ARG002 - the numbers are all that is needed
        """Express the numbers in the manifest's codes.

        Parameters
        ----------
        item
            The array of the input; not used.
        raw
            The numbers of the item.
        """
        return Answer(outputs=self.outputs.express(raw, notice=self.opening()))

    def refuse(self, detail: str, failure: BaseException | None = None) -> Problem:
        """Return the refusal of a folder.

        Parameters
        ----------
        detail
            What is wrong, and which line to change.
        failure
            What the library said.
        """
        return Problem(Category.INCORRECT, detail, diagnostics="" if failure is None else repr(failure))

    def _try(self) -> None:
        found = self._tried(np.zeros((2, *self.reader.shape)), self._misfit())
        if found.ndim != 2 or len(found) != 2:
            raise self.refuse(f"{self.file} must give one row of numbers for each item; for 2 it gave {found.shape}")
        self.outputs.check(found.shape[1], self.file)
        without = self.reader.without_values()
        if without is not None:
            wrong = (
                f"{self.file} gives no answer without a value: in features.yaml declare missing as refuse or with a "
                "default, or state a fill for each such feature in model.yaml.runner"
            )
            if not np.isfinite(self._tried(without[None], wrong)).all():
                raise self.refuse(wrong)

    def _tried(self, batch: Array, wrong: str) -> Array:
        try:
            return self._compute(batch)
        except Problem:
            raise
        except Exception as failure:
            raise self.refuse(wrong, failure) from failure

    def _misfit(self) -> str:
        shape = " x ".join(map(str, self.reader.shape))
        declared = "model.yaml.runner.resize and channels" if not self.reader.names else "features.yaml"
        return f"{self.file} takes no items of {shape} as {declared} declares, or only one at a time"

    def check_names(self, names: Sequence[str]) -> None:
        """Return when the features are those that the file was trained on, in its order.

        Parameters
        ----------
        names
            As the file states them; empty when it does not.

        Raises
        ------
        Problem
            ``incorrect``, naming the first feature that differs.
        """
        if not names:
            return
        self.check_count(len(names))
        for place, (declared, trained) in enumerate(zip(self.reader.names, names, strict=True)):
            if declared != trained:
                raise self.refuse(
                    f"features.yaml.features[{place}].name must be {trained}, as in {self.file}, and not {declared}"
                )

    def check_count(self, count: int) -> None:
        """Return when the file takes as many features as are declared.

        Raises
        ------
        Problem
            ``incorrect`` when it takes another number.
        """
        declared = len(self.reader.names)
        if count != declared:
            raise self.refuse(f"features.yaml.features has {declared} entries; {self.file} takes {count} features")
