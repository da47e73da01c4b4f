"""From a model's input to the tensors that a remote model declares.

A remote model of facts takes one tensor for each feature, of its name, or all of them as one tensor of rows. One of
series or of images takes one tensor. One of texts takes one tensor of texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from inference.contract import InputUsed, ModelInput, TextInput
from inference.features.extract import compile_features
from inference.features.records import FeatureSpec
from inference.features.rows import is_word, row_columns
from inference.features.values import FeatureValue
from inference.folder import ModelFolder
from inference.remote.tensors import DATATYPES, TEXT, Metadata, TensorSpec, Value
from inference.runners.array_inputs import RowReader, check_numbers, make_reader
from inference.runners.base import Decoded
from inference.runners.tabular import decode_features
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

Row: TypeAlias = Mapping[str, Value]
"""Name of a tensor -> what one item states for it."""

_MODEL: Final = "model.yaml.runner.model"


class Rows(Protocol):
    """Makes what a remote model takes."""

    #: The tensors of one request.
    tensors: tuple[TensorSpec, ...]

    def read(self, given: ModelInput) -> Decoded[Row]:
        """Return the values of an input; raises :class:`~inference.runners.base.Declined`."""


def rows_for(model: ModelFolder, options: YamlMapping, metadata: Metadata) -> Rows:
    """Return what makes the tensors of a model's inputs.

    Parameters
    ----------
    model
        The opened folder.
    options
        Of ``model.yaml.runner``; how features become numbers is read from it.
    metadata
        Of the remote model.

    Raises
    ------
    Problem
        ``incorrect`` when the declarations of the folder and of the remote model do not fit.
    """
    for spec in metadata.inputs.values():
        if spec.datatype not in DATATYPES:
            detail = f"takes {spec.datatype} for {spec.name}; what is sent is {', '.join(DATATYPES)}"
            raise _misfit(f"{_MODEL}: the remote model {detail}")
    kind, inputs = model.manifest.input.kind, metadata.inputs
    if kind == "facts" and all(spec.is_single for spec in inputs.values()):
        for columns in ({spec.name: spec for spec in model.features}, row_columns(model.features)):
            if set(columns) == set(inputs):
                return _columns(model, options, metadata, columns)
    if len(inputs) != 1:
        taken = ", ".join(sorted(inputs)) or "nothing"
        if kind == "facts":
            raise _misfit(f"features.yaml must declare the features that the remote model takes: {taken}")
        raise _misfit(f"{_MODEL}: the remote model must take one tensor for an input of kind {kind}; it takes {taken}")
    (spec,) = inputs.values()
    if spec.is_text != (kind == "text"):
        raise _misfit(f"{_MODEL}: the remote model takes {spec.datatype} for {spec.name}, not an input of kind {kind}")
    if kind == "text":
        return _Texts(spec)
    return _Arrays(model, options, spec)


def _columns(model: ModelFolder, options: YamlMapping, metadata: Metadata, columns: Mapping[str, FeatureSpec]) -> Rows:
    """Return what makes one tensor for each feature, in their order."""
    tensors = tuple(metadata.inputs[name] for name in columns)
    numbers: list[FeatureSpec] = []
    for spec, tensor in zip(columns.values(), tensors, strict=True):
        if tensor.is_text and not (is_word(spec) and all(source.answers for source in spec.sources)):
            detail = f"each source of {spec.name} must have answers; the remote model takes {TEXT} for it"
            raise _misfit(f"features.yaml: {detail}")
        if not tensor.is_text and tensor.name != spec.name:
            detail = f"{tensor.name} must not be one_hot; the remote model takes one number for it"
            raise _misfit(f"features.yaml: {detail}")
        numbers += [] if tensor.is_text else [spec]
    if numbers:
        check_numbers(numbers)
    as_stated = metadata.transforms and any(spec.transform for spec in model.features)
    if len(numbers) == len(model.features) and not as_stated:
        return _Numbers(model, options, tensors)
    return _Stated(model, tensors, transformed=not metadata.transforms)


class _Numbers:
    """One tensor of numbers for each feature."""

    def __init__(self, model: ModelFolder, options: YamlMapping, tensors: tuple[TensorSpec, ...]) -> None:
        self.tensors = tensors
        self._reader = RowReader(model, options)

    def read(self, given: ModelInput) -> Decoded[Row]:
        decoded = self._reader.read(given)
        values = zip(self.tensors, decoded.item.tolist(), strict=True)
        return _decoded(decoded, {spec.name: value for spec, value in values})


class _Stated:
    """One tensor for each feature: a word, where it takes texts, or a number.

    Of a feature that became one for each answer the tensor is the answer. Where an indicator of missing
    values is not sent, its feature is sent as missing: the other server makes the indicator of that.
    """

    def __init__(self, model: ModelFolder, tensors: tuple[TensorSpec, ...], *, transformed: bool) -> None:
        self.tensors = tensors
        self._limits, self._transformed = model.manifest.limits, transformed
        self._extract = compile_features(model.features)
        self._answers = {
            tensor.name: tuple(spec for spec in model.features if spec.declared == tensor.name) for tensor in tensors
        }
        self._indicators = {
            spec.missing_of: spec.name
            for spec in model.features
            if spec.missing_of is not None and spec.name not in self._answers
        }

    def read(self, given: ModelInput) -> Decoded[Row]:
        decoded = decode_features(self._extract, given, self._limits)
        return _decoded(decoded, {tensor.name: self._value(tensor, decoded.item.readings) for tensor in self.tensors})

    def _value(self, tensor: TensorSpec, readings: Mapping[str, FeatureValue | None]) -> Value:
        indicator = readings.get(self._indicators.get(tensor.name, ""))
        if indicator is not None and indicator.value == 1:
            return None
        if answers := self._answers[tensor.name]:
            given = (spec.indicates for spec in answers if (one := readings[spec.name]) is not None and one.value == 1)
            return next(given, None)
        reading = readings[tensor.name]
        if reading is None:
            return None
        value = reading.value if self._transformed else reading.in_unit
        return str(value) if tensor.is_text else float(value)


class _Arrays:
    """One tensor of rows, grids or images."""

    def __init__(self, model: ModelFolder, options: YamlMapping, tensor: TensorSpec) -> None:
        self.tensors: tuple[TensorSpec, ...] = (tensor,)
        self._reader = make_reader(model, options)
        made, taken = self._reader.shape, tensor.shape
        if len(made) != len(taken) or not all(size in {-1, is_made} for size, is_made in zip(taken, made, strict=True)):
            declared = "model.yaml.runner.resize and channels" if not self._reader.names else "features.yaml"
            raise _misfit(
                f"{declared} must make items of {_sizes(taken)}, as the remote model takes them for {tensor.name}; "
                f"they are of {_sizes(made)}"
            )

    def read(self, given: ModelInput) -> Decoded[Row]:
        decoded = self._reader.read(given)
        return _decoded(decoded, {self.tensors[0].name: decoded.item})


class _Texts:
    """One tensor of texts."""

    def __init__(self, tensor: TensorSpec) -> None:
        if not tensor.is_single:
            raise _misfit(f"{_MODEL}: the remote model must take one text of each item for {tensor.name}")
        self.tensors: tuple[TensorSpec, ...] = (tensor,)

    def read(self, given: ModelInput) -> Decoded[Row]:
        if not isinstance(given, TextInput):
            raise Problem(Category.FAULT, "a model of texts was given another kind of input")
        used = tuple(
            InputUsed(name="text", value=None, unit=None, effective=given.authored_at, source=source)
            for source in given.sources
        )
        return Decoded(item={self.tensors[0].name: given.text}, inputs=used, shape=())


def outputs_of(model: ModelFolder, options: YamlMapping, metadata: Metadata) -> tuple[TensorSpec, ...]:
    """Return the outputs of the remote model that count, in the order of the manifest's.

    Parameters
    ----------
    model
        The opened folder.
    options
        Of ``model.yaml.runner``; ``output`` names the one that counts.
    metadata
        Of the remote model.

    Raises
    ------
    Problem
        ``incorrect`` when it is not clear which they are.
    """
    numeric = {name: spec for name, spec in metadata.outputs.items() if spec.datatype in DATATYPES and not spec.is_text}
    if options.has("output"):
        return (numeric[options.choice("output", *numeric)],)
    found = [
        numeric.get(f"{spec.name}.probabilities" if spec.kind == "class-set" else spec.name, numeric.get(spec.name))
        for spec in model.manifest.outputs
    ]
    named = [spec for spec in found if spec is not None]
    if len(named) == len(found):
        return tuple(named)
    if len(numeric) == 1:
        return tuple(numeric.values())
    raise _misfit(f"model.yaml.runner.output must say which output of the remote model counts: {', '.join(numeric)}")


def _decoded(decoded: Decoded[Any], item: Row) -> Decoded[Row]:
    return Decoded(item=item, inputs=decoded.inputs, shape=decoded.shape, features=decoded.features)


def _sizes(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _misfit(detail: str) -> Problem:
    return Problem(Category.INCORRECT, detail)
