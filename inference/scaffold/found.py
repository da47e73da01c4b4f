"""The record that every reader of files returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from inference.contract import InputKind, OutputKind


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a file says of its model."""

    #: Kind of the runner.
    runner: str
    #: What must be declared beside the kind.
    options: Mapping[str, object] = field(default_factory=dict)
    #: Name that the file gets in the folder.
    file: str
    #: Name in the folder -> content, of everything that is copied.
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    input: InputKind = "facts"
    #: In the order in which the model takes them; numbered where the file names none.
    features: tuple[str, ...] = ()
    #: (steps,) of a series; (rows, columns) of an image; 0 where the file leaves it open.
    size: tuple[int, ...] = ()
    output: OutputKind = "probability"
    #: Names of the classes, in order.
    classes: tuple[str, ...] = ()
    #: Names of findings, each of which is an output of its own, in order; empty for a model of one output.
    findings: tuple[str, ...] = ()
    #: Sentences for the card.
    warnings: tuple[str, ...] = ()
    #: What the file says and a person must compare, as comments beside the runner.
    notes: tuple[str, ...] = ()

    def with_classes(self, classes: tuple[str, ...]) -> "Found":
        """Return the same for a model that gives the probability of each of several classes."""
        return replace(self, output="class-set", classes=classes)


def numbered(count: int, word: str = "feature") -> tuple[str, ...]:
    """Return names for what a file does not name.

    Parameters
    ----------
    count
        How many.
    word
        What each is.
    """
    return tuple(f"{word}-{number}" for number in range(1, count + 1))
