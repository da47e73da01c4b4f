"""Networks in PyTorch that turn an array into numbers: what both ways of bringing one share."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from inference.contract import InputKind
from inference.runners.array_inputs import Array
from inference.runners.arrays import ArrayRunner, Compute
from inference.runners.program import Program, read_program
from inference.runners.torch_device import TorchPrecision, is_out_of_memory
from inference.yaml_mapping import YamlMapping

Forward: TypeAlias = Callable[[Tensor], Tensor]


class TorchArrayRunner(ArrayRunner):
    """Runs a network on the processor or on a GPU."""

    kinds: ClassVar[frozenset[InputKind]] = frozenset({"facts", "series", "image"})
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format
    """In which order the numbers of an image lie in memory."""

    @abstractmethod
    def forward(self, options: YamlMapping, device: torch.device) -> Forward:
        """Return the network as a function.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``.
        device
            Where its numbers lie.
        """

    def load(self, options: YamlMapping, device: str) -> Compute:
        """Return what computes: arrays to the device, through the network, and back.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``.
        device
            ``cpu`` or ``cuda``.
        """
        where = torch.device(device)
        self._precision = TorchPrecision(options, where)
        network = self.forward(options, where)

        def compute(items: Array) -> Array:
            given = torch.from_numpy(np.ascontiguousarray(items, dtype=np.float32)).to(where)
            if given.dim() == 4:
                given = given.contiguous(memory_format=self.memory_format)
            with torch.no_grad(), self._precision.context():
                found = network(given)
                numbers: Array = found.reshape(len(items), -1).double().cpu().numpy()
            return numbers

        return compute

    def precisions(self) -> Sequence[str]:
        """Return single precision and, where folder and device allow it, bfloat16."""
        return self._precision.allowed

    def compute_in(self, precision: str) -> None:
        """Compute in one of :meth:`precisions` from now on."""
        self._precision.used = precision

    def out_of_memory(self, failure: BaseException) -> bool:
        """Return whether a smaller batch could have succeeded, on either device."""
        return is_out_of_memory(failure)


class ProgramRunner(TorchArrayRunner):
    """Runs a program of ``torch.export``."""

    def forward(self, options: YamlMapping, device: torch.device) -> Forward:  # noqa: ARG002 - a program has no options
        """Read the program and compare what it takes with what is declared.

        Parameters
        ----------
        options
            Not used.
        device
            Where its numbers lie.

        Raises
        ------
        Problem
            ``incorrect`` when the file holds what is not allowed, or takes something else.
        """
        program = read_program(self.file, self.content)
        self._check_shape(program)
        return program.on(device)

    def _check_shape(self, program: Program) -> None:
        batch, *item = program.shape
        if batch is not None:
            raise self.refuse(
                f"{self.file} takes {batch} at a time: export it with dynamic_shapes, the first axis as "
                "torch.export.Dim('items', min=1, max=4096)"
            )
        if program.dtype != torch.float32:
            raise self.refuse(f"{self.file} must take float32; it takes {program.dtype}")
        if len(item) == len(self.reader.shape) == 1 and item[0] is not None:
            self.check_count(item[0])
        pairs = zip(item, self.reader.shape, strict=False)
        if len(item) != len(self.reader.shape) or any(one not in {None, made} for one, made in pairs):
            takes = " x ".join("any" if one is None else str(one) for one in item)
            raise self.refuse(f"{self._misfit()}; it takes {takes}")
