"""From the numbers that a model gives for one item to the outputs of its manifest.

In the order of the manifest's outputs: one number for each of kind ``probability`` and ``score``, one for each band
of a ``class-set``. A classifier of two classes that declares one probability gives two numbers; the second counts.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference.contract import ClassSet, Output
from inference.manifest import OutputSpec
from inference.outputs import make_output
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

Numbers: TypeAlias = NDArray[np.float64]

_KINDS: Final = ("probability", "score", "class-set")


def _softmax(numbers: Numbers) -> Numbers:
    grown = np.exp(numbers - numbers.max(axis=-1, keepdims=True))
    shares: Numbers = grown / grown.sum(axis=-1, keepdims=True)
    return shares


_TRANSFORMS: Final[Mapping[str, Callable[[Numbers], Numbers]]] = MappingProxyType(
    {
        "none": lambda numbers: numbers,
        "sigmoid": lambda numbers: np.exp(-np.logaddexp(0.0, -numbers)),
        "softmax": _softmax,
    }
)
"""``transform`` of ``model.yaml.runner`` -> what is done to the numbers of an item first."""

_ROUNDING: Final = 1e-6
"""By so much a probability may leave [0, 1]: sums of single precision do."""


class ArrayOutputs:
    """Expresses numbers as the outputs of a manifest.

    Parameters
    ----------
    specs
        The outputs.
    options
        Of ``model.yaml.runner``; ``transform`` is read from it.
    default
        The transform where none is stated.

    Raises
    ------
    Problem
        ``incorrect`` when an output is of a kind that is no number, or the transform is not known.
    """

    def __init__(self, specs: tuple[OutputSpec, ...], options: YamlMapping, *, default: str = "none") -> None:
        self._specs = specs
        name = options.choice("transform", *_TRANSFORMS) if options.has("transform") else default
        self._transform = _TRANSFORMS[name]
        #: Whether the numbers become others first.
        self.is_transformed = name != "none"
        self._widths = tuple(len(spec.bands) if spec.kind == "class-set" else 1 for spec in specs)
        for number, spec in enumerate(specs):
            place = f"model.yaml.outputs[{number}]"
            if spec.kind not in _KINDS:
                raise Problem(Category.INCORRECT, f"{place}.kind must be one of {', '.join(_KINDS)} for this runner")
            if spec.kind == "score" and any(band.at_least is None for band in spec.bands):
                raise Problem(Category.INCORRECT, f"{place}.bands must each have at_least")

    @property
    def of_classes(self) -> bool:
        """Whether probabilities are declared, of whatever form."""
        return any(spec.kind != "score" for spec in self._specs)

    @property
    def is_binary(self) -> bool:
        """Whether one probability is all that is declared, as of a classifier of two classes."""
        return [spec.kind for spec in self._specs] == ["probability"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the one class set; empty when something else is declared."""
        (spec, *others) = self._specs
        return tuple(band.name for band in spec.bands) if spec.kind == "class-set" and not others else ()

    @property
    def width(self) -> int:
        """Numbers that the model must give for an item."""
        return sum(self._widths)

    def check(self, width: int, source: str) -> None:
        """Return when a model that gives so many numbers for an item fits the declared outputs.

        Parameters
        ----------
        width
            Numbers that it gives.
        source
            Name of its file.

        Raises
        ------
        Problem
            ``incorrect`` when they do not fit.
        """
        wanted = self.width
        if width != wanted and not (self.is_binary and width == 2):
            raise Problem(
                Category.INCORRECT,
                f"model.yaml.outputs declares {_count(wanted, 'number')} "
                f"(one for each output, of a class-set one for each band); {source} gives {width}",
            )

    def express(self, raw: Numbers, *, notice: str, columns: Sequence[int] | None = None) -> tuple[Output, ...]:
        """Return the outputs of one item.

        Parameters
        ----------
        raw
            The numbers of the item.
        notice
            Begins each text.
        columns
            Which of the numbers count, once they are transformed; None for all.
        """
        numbers = self._transform(raw)
        if columns is not None:
            numbers = numbers[list(columns)]
        if self.is_binary and len(numbers) == 2:
            numbers = numbers[1:]
        parts = np.split(numbers, np.cumsum(self._widths)[:-1])
        return tuple(_output(spec, part, notice) for spec, part in zip(self._specs, parts, strict=True))


def _output(spec: OutputSpec, numbers: Numbers, notice: str) -> Output:
    if spec.kind == "score":
        return make_output(spec, float(numbers[0]), notice=notice)
    if not ((numbers >= -_ROUNDING) & (numbers <= 1 + _ROUNDING)).all():  # also when one is not a number
        raise Problem(
            Category.FAULT,
            f"the model gave a number for {spec.name} that is no probability; model.yaml.runner.transform "
            "says how its numbers become one: sigmoid or softmax",
        )
    shares = np.clip(numbers, 0.0, 1.0)
    if spec.kind == "probability":
        return make_output(spec, float(shares[0]), notice=notice)
    named = tuple((band.name, float(share)) for band, share in zip(spec.bands, shares, strict=True))
    return make_output(spec, detail=ClassSet(probabilities=named), notice=notice)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
