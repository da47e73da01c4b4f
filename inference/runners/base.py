"""What a runner is: five methods, one exception for declining, and one for a run that may succeed later.

- ``setup``: load everything, onto a device; nothing is loaded before
- ``decode``: input -> item, or :class:`Declined`; on the caller's thread
- ``batch``: items of one shape -> what the model takes
- ``predict``: batch -> one raw result an item; on the device's thread
- ``encode``: item and raw result -> outputs, or :class:`Declined`; on the caller's thread
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from inference.contract import Artefact, FeatureUse, InputKind, InputUsed, ModelInput, Output, notice
from inference.remote.permitted import NO_HOSTS, RemoteHosts
from kernel.errors import Category, Problem

if TYPE_CHECKING:
    from inference.folder import ModelFolder  # a folder knows no runner; a runner only names its type

SINGLE: Final = "single"
BF16: Final = "bf16"
"""Precisions: numbers of 32 bits, and multiplications of numbers of 16 bits with the exponents of 32 (bfloat16)."""

Item = TypeVar("Item")
Batch = TypeVar("Batch")
Raw = TypeVar("Raw")


class Declined(Exception):
    """The model may not or cannot predict on this input.

    Parameters
    ----------
    reason
        Completes "AI result not available: ..."; safe to show.
    missing
        Names of the inputs that would be needed.
    inputs
        What was available all the same.
    features
        What became of each feature.
    out_of_scope
        Whether the model is not for such a patient or such an image, rather than unable to answer.
    """

    def __init__(
        self,
        reason: str,
        *,
        missing: tuple[str, ...] = (),
        inputs: tuple[InputUsed, ...] = (),
        features: tuple[FeatureUse, ...] = (),
        out_of_scope: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.missing = missing
        self.inputs = inputs
        self.features = features
        self.out_of_scope = out_of_scope


@dataclass(frozen=True, kw_only=True)
class Decoded(Generic[Item]):
    """An input, ready for the model."""

    item: Item
    #: What of the input is used, for people.
    inputs: tuple[InputUsed, ...]
    #: Only items of the same shape share a batch.
    shape: Hashable
    #: What became of each feature.
    features: tuple[FeatureUse, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model predicted for one item."""

    outputs: tuple[Output, ...]
    #: Heat maps and masks; an output of kind ``mask`` names one.
    artefacts: tuple[Artefact, ...] = ()
    #: URL of the model of another server that computed it; empty when this server did.
    computed_by: str = ""


class TryAgain(Problem):
    """The run failed, and the same run may succeed later: its job is tried again, and parked in the end.

    Parameters
    ----------
    detail
        Why; safe to show.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Category.FAULT, detail)


class Runner(ABC, Generic[Item, Batch, Raw]):
    """Runs the models of one kind.

    Parameters
    ----------
    model
        The opened folder.
    remote_hosts
        Servers that the model may call.
    """

    kinds: ClassVar[frozenset[InputKind]] = frozenset()
    """Kinds of input that it reads; a folder with another kind is refused. Empty: the runner decides itself."""

    uses_device: ClassVar[bool] = True
    """Whether it computes on the device that it is set up on, so that models take turns."""

    def __init__(self, model: "ModelFolder", remote_hosts: RemoteHosts = NO_HOSTS) -> None:
        self.model = model
        self.remote_hosts = remote_hosts

    @abstractmethod
    def setup(self, device: str) -> None:
        """Load what the model needs onto ``cpu`` or ``cuda``."""

    @abstractmethod
    def decode(self, given: ModelInput) -> Decoded[Item]:
        """Turn an input into an item; raises :class:`Declined`."""

    @abstractmethod
    def batch(self, items: Sequence[Item]) -> Batch:
        """Join items of one shape."""

    @abstractmethod
    def predict(self, batch: Batch) -> Sequence[Raw]:
        """Run the model: one raw result per item, in order."""

    def predict_within(self, batch: Batch, seconds: float) -> Sequence[Raw]:  # noqa: ARG002 - for runners that wait for others
        """Run the model as :meth:`predict` does; one that waits for another server waits no longer.

        Parameters
        ----------
        batch
            As :meth:`batch` made it.
        seconds
            After so many there is nobody who waits for the answer.
        """
        return self.predict(batch)

    @abstractmethod
    def encode(self, item: Item, raw: Raw) -> Answer:
        """Express a raw result in the manifest's codes; raises :class:`Declined`.

        Parameters
        ----------
        item
            The item, as :meth:`decode` returned it.
        raw
            The model's result for it, as :meth:`predict` returned it.
        """

    def precisions(self) -> Sequence[str]:
        """Return the precisions that the folder and the device allow: the approved one, then faster ones."""
        return (SINGLE,)

    def compute_in(self, precision: str) -> None:
        """Compute in one of :meth:`precisions` from now on; after ``setup`` it is the first."""

    def out_of_memory(self, failure: BaseException) -> bool:
        """Return whether a smaller batch could have succeeded after this failure."""
        return isinstance(failure, MemoryError)

    def close(self) -> None:
        """Give back what the memory of this process does not hold; nothing runs any more."""
        return

    def opening(self) -> str:
        """Return the words that every text begins with."""
        return notice(demonstration=self.model.manifest.demonstration)
