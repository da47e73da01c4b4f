"""Code that a model brings, in a process of its own: ``model.py`` of the folder, once an operator allows its digest.

The process has no files but the installation of Python, no sockets, no other processes, and the memory and time that
``model.yaml.runner`` declares: ``memory_mb`` (1024 where it is not stated) and ``seconds`` for a batch (10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from inference.code_permissions import not_allowed
from inference.contract import InputKind
from inference.digest import read_verified
from inference.folder import ModelFolder
from inference.isolated.child_process import ProcessLimits
from inference.isolated.keeper import Keeper
from inference.runners.array_inputs import Array
from inference.runners.arrays import ArrayRunner, Compute
from inference.runners.base import TryAgain
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

MOST_MEMORY_MB: Final = 65_536
MOST_SECONDS: Final = 100


class ProcessRunner(ArrayRunner):
    """Asks a process that runs the folder's code; always on the processor."""

    kinds: ClassVar[frozenset[InputKind]] = frozenset({"facts", "series", "image"})
    _keeper: Keeper | None = None

    def setup(self, device: str) -> None:
        """Start the process, and try it.

        Raises
        ------
        Problem
            ``forbidden`` when no operator has allowed the code; ``incorrect`` when it does not fit the declarations.
        """
        if not self.model.code_allowed:
            raise not_allowed(self.model.manifest.name, self.model.manifest.version)
        try:
            super().setup(device)
        except BaseException:
            self.close()
            raise
        self._source.held = {}

    def load(self, options: YamlMapping, device: str) -> Compute:  # noqa: ARG002 - always on the processor
        """Start the process and return what asks it.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``; ``memory_mb`` and ``seconds`` are read from it.
        device
            Not used.
        """
        self._source = _Source(model=self.model.without_files(), held=self.model.files)
        self._keeper = Keeper(self.model.manifest.name, self._source.files, process_limits(options))
        return self._keeper.ask

    def predict(self, batch: Array) -> Sequence[Array]:
        """Return the numbers of each item.

        Raises
        ------
        TryAgain
            When there is not one row of numbers for each item.
        """
        try:
            numbers = self._compute(batch)
        except MemoryError:
            if len(batch) > 1:
                raise  # fewer at a time may fit
            raise TryAgain("the model ran out of memory") from None
        if len(numbers) != len(batch):
            raise TryAgain(f"the model gave {len(numbers)} answers for {len(batch)} inputs")
        if numbers.shape[1] not in self._widths:
            raise TryAgain(f"the model gave {numbers.shape[1]} numbers for an input")
        if not np.isfinite(numbers).all():
            raise TryAgain("the model gave no number")
        return list(numbers)

    def close(self) -> None:
        """End the process."""
        if self._keeper is not None:
            self._keeper.close()

    @property
    def _widths(self) -> tuple[int, ...]:
        """How many numbers there may be for an item."""
        return (1, 2) if self.outputs.is_binary else (self.outputs.width,)


@dataclass(kw_only=True)
class _Source:
    """The files of a folder: as they were verified while they are held, and later read and verified again."""

    model: ModelFolder
    held: Mapping[str, bytes]

    def files(self) -> Mapping[str, bytes]:
        """Return them; raises ``conflict`` or ``incorrect`` when they changed."""
        if self.held:
            return self.held
        verified = read_verified(self.model.path)
        if verified.digest != self.model.digest:
            name = self.model.manifest.name
            raise Problem(Category.CONFLICT, f"the folder of {name} changed since it was registered")
        return verified.files


def process_limits(options: YamlMapping) -> ProcessLimits:
    """Return what a process may use, as ``model.yaml.runner`` declares it.

    Raises
    ------
    Problem
        ``incorrect`` when an option is no number, or out of range.
    """
    default = ProcessLimits()
    memory = int(options.positive("memory_mb", MOST_MEMORY_MB)) if options.has("memory_mb") else default.memory_mb
    seconds = float(options.positive("seconds", MOST_SECONDS)) if options.has("seconds") else default.seconds
    return ProcessLimits(memory_mb=memory, seconds=seconds)
