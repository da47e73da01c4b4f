"""What a model that takes arrays is given: one row, one grid or one image, made from an input of that kind.

The options of ``model.yaml.runner`` that say how:

- ``fill``, ``mean``, ``scale``: feature -> number. A feature without a value becomes ``fill``; then each becomes
  ``(x - mean) / scale``. A feature that is not named stays as it is; NaN stands for one without a value and a fill.
- ``mask`` (series): true adds a column for each feature, 1 where it was measured and 0 where not
- ``resize`` (image, required): ``[rows, columns]``; ``channels``: 1 or 3, the same image in each;
  ``pixel_mean``, ``pixel_scale``: of the pixels, which are in [0, 1]; one number, or one for each channel
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference.contract import FeatureUse, ImageInput, InputUsed, ModelInput, SeriesInput
from inference.features.extract import Extraction, compile_features
from inference.features.rows import read_words
from inference.features.spec import FeatureSpec
from inference.folder import ModelFolder
from inference.runners.base import Decoded
from inference.runners.tabular import decode_features
from inference.yaml_mapping import YamlMapping, as_number
from kernel.errors import Category, Problem

Array: TypeAlias = NDArray[np.float64]


class Reader(Protocol):
    """Makes the arrays that a model takes."""

    #: Of one item.
    shape: tuple[int, ...]
    #: Names of the features, in order of the columns; empty for an image.
    names: tuple[str, ...]

    def read(self, given: ModelInput) -> Decoded[Array]:
        """Return the array of an input; raises :class:`~inference.runners.base.Declined`."""

    def without_values(self) -> Array | None:
        """Return an array in which every feature that may be without a value is NaN; None when there is none."""


def make_reader(model: ModelFolder, options: YamlMapping) -> Reader:
    """Return the reader of a model's kind of input.

    Parameters
    ----------
    model
        The opened folder.
    options
        Of ``model.yaml.runner``; what the reader knows is read from it.

    Raises
    ------
    Problem
        ``incorrect`` when an option or a feature does not fit the kind.
    """
    kind = model.manifest.input.kind
    if kind == "series":
        return GridReader(model, options)
    return ImageReader(model, options) if kind == "image" else RowReader(model, options)


class RowReader:
    """Makes one row of the features, in the order of ``features.yaml``.

    Parameters
    ----------
    model
        The opened folder.
    options
        Of ``model.yaml.runner``.
    """

    def __init__(self, model: ModelFolder, options: YamlMapping) -> None:
        check_numbers(model.features)
        self._specs, self._limits = model.features, model.manifest.limits
        self.names = tuple(spec.name for spec in model.features)
        self.shape: tuple[int, ...] = (len(self.names),)
        self._scaling = _Scaling(self.names, options)
        self._extract = compile_features(model.features)

    def read(self, given: ModelInput) -> Decoded[Array]:
        """Extract the features; what ``fill`` stands in for is named as imputed."""
        decoded = decode_features(self._extract, given, self._limits)
        features = tuple(self._filled(use, decoded.item) for use in decoded.features)
        row = np.array([number_of(decoded.item, name) for name in self.names])
        item = self._scaling.apply(row)
        return Decoded(item=item, inputs=decoded.inputs, shape=item.shape, features=features)

    def without_values(self) -> Array | None:
        """Return a row in which every feature of the policy ``nan`` is without a value."""
        optional = [spec.missing == "nan" and not (spec.stated or spec.missing_of) for spec in self._specs]
        return self._scaling.apply(np.where(optional, np.nan, 0.0)) if any(optional) else None

    def _filled(self, use: FeatureUse, extraction: Extraction) -> FeatureUse:
        fill = self._scaling.fill[self.names.index(use.name)]
        if extraction.readings[use.name] is not None or np.isnan(fill):
            return use
        return replace(
            use, value=Decimal(repr(float(fill))), status="imputed" if use.status == "missing" else use.status
        )


class GridReader:
    """Makes (steps, features), and with ``mask`` (steps, 2 x features), oldest step first.

    Parameters
    ----------
    model
        The opened folder.
    options
        Of ``model.yaml.runner``.
    """

    def __init__(self, model: ModelFolder, options: YamlMapping) -> None:
        selection = model.manifest.input.selection
        assert selection.hours is not None
        assert selection.step_hours is not None
        self.names = tuple(spec.name for spec in model.features)
        self._scaling = _Scaling(self.names, options)
        self._mask = options.take("mask", bool) if options.has("mask") else False
        steps = int(selection.hours / selection.step_hours)
        self.shape: tuple[int, ...] = (steps, len(self.names) * (1 + self._mask))

    def read(self, given: ModelInput) -> Decoded[Array]:
        """Return the grid, with ``fill`` where nothing was measured.

        Raises
        ------
        Problem
            ``fault`` when the input is not a series.
        """
        if not isinstance(given, SeriesInput):
            raise Problem(Category.FAULT, "a model of series was given another kind of input")
        values = self._scaling.apply(given.values.astype(np.float64))
        item = np.concatenate([values, given.mask], axis=1) if self._mask else values
        return Decoded(item=item, inputs=(), shape=item.shape, features=given.uses)

    def without_values(self) -> Array | None:
        """Return a grid in whose first step nothing was measured; any step of any patient may be so."""
        values = np.zeros((self.shape[0], len(self.names)))
        values[0] = np.nan
        scaled = self._scaling.apply(values)
        return np.concatenate([scaled, ~np.isnan(values)], axis=1) if self._mask else scaled


class ImageReader:
    """Makes (channels, rows, columns).

    Parameters
    ----------
    model
        The opened folder.
    options
        Of ``model.yaml.runner``.

    Raises
    ------
    Problem
        ``incorrect`` when an option is missing or wrong.
    """

    def __init__(self, model: ModelFolder, options: YamlMapping) -> None:  # noqa: ARG002 - as the other readers
        size = [int(as_number(f"{options.place}.resize", side)) for side in options.take("resize", list)]
        if len(size) != 2 or not all(0 < side <= _MOST_PIXELS for side in size):
            raise Problem(
                Category.INCORRECT, f"{options.place}.resize must be [rows, columns], each in 1..{_MOST_PIXELS}"
            )
        self._channels = options.take("channels", int) if options.has("channels") else 1
        if self._channels not in {1, 3}:
            raise Problem(Category.INCORRECT, f"{options.place}.channels must be 1 or 3")
        self.names: tuple[str, ...] = ()
        self._size = (size[0], size[1])
        self.shape: tuple[int, ...] = (self._channels, *self._size)
        self._mean = self._numbers(options, "pixel_mean", 0.0)
        self._scale = self._numbers(options, "pixel_scale", 1.0)
        if not (self._scale > 0).all():
            raise Problem(Category.INCORRECT, f"{options.place}.pixel_scale must be above 0")

    def read(self, given: ModelInput) -> Decoded[Array]:
        """Return the image, resized so that each pixel is a mean of the pixels that it stands for.

        Raises
        ------
        Problem
            ``fault`` when the input is not an image.
        """
        if not isinstance(given, ImageInput):
            raise Problem(Category.FAULT, "a model of images was given another kind of input")
        small = _resized(given.pixels, self._size)
        item = (np.broadcast_to(small, self.shape) - self._mean) / self._scale
        used = tuple(
            InputUsed(name="image", value=None, unit=None, effective=given.acquired_at, source=source)
            for source in given.sources
        )
        return Decoded(item=item, inputs=used, shape=item.shape)

    def without_values(self) -> Array | None:
        """Return None: every pixel has a value."""
        return None

    def _numbers(self, options: YamlMapping, key: str, default: float) -> Array:
        if not options.has(key):
            return np.full((1, 1, 1), default)
        stated = options.take(key, object)
        listed = stated if isinstance(stated, list) else [stated] * self._channels
        if len(listed) != self._channels:
            raise Problem(Category.INCORRECT, f"{options.place}.{key} must have {self._channels} numbers")
        return np.array([float(as_number(f"{options.place}.{key}", one)) for one in listed]).reshape(-1, 1, 1)


class _Scaling:
    """Fills and standardises columns.

    Parameters
    ----------
    names
        Of the columns.
    options
        Of ``model.yaml.runner``.
    """

    def __init__(self, names: Sequence[str], options: YamlMapping) -> None:
        columns = {key: _by_feature(names, options, key) for key in _DEFAULTS}
        self.fill, self._mean, self._scale = columns["fill"], columns["mean"], columns["scale"]
        if not (self._scale > 0).all():
            raise Problem(Category.INCORRECT, f"{options.place}.scale must be above 0")

    def apply(self, values: Array) -> Array:
        """Return (..., columns), filled and standardised."""
        filled: Array = (np.where(np.isnan(values), self.fill, values) - self._mean) / self._scale
        return filled


_DEFAULTS: Final[Mapping[str, float]] = MappingProxyType({"fill": np.nan, "mean": 0.0, "scale": 1.0})
_MOST_PIXELS: Final = 4096


def _by_feature(names: Sequence[str], options: YamlMapping, key: str) -> Array:
    """Return the number that an option states for each feature."""
    column = np.full(len(names), _DEFAULTS[key])
    if options.has(key):
        table = options.table(key)
        for name in table.all_keys():
            if name not in names:
                raise Problem(Category.INCORRECT, f"{table.place}.{name} is no feature of features.yaml")
            column[names.index(name)] = float(table.number(name))
    return column


def check_numbers(specs: Sequence[FeatureSpec]) -> None:
    """Return when every feature is a number, in one unit.

    Raises
    ------
    Problem
        ``incorrect``, naming the feature that is not, or when there is no feature.
    """
    if not specs:
        raise Problem(Category.INCORRECT, "features.yaml must declare the features that the model takes, in order")
    for spec in specs:
        if len({source.unit for source in spec.sources}) > 1:
            raise Problem(Category.INCORRECT, f"features.yaml: the sources of {spec.name} must have one unit")
        if not all(map(_is_number, read_words(spec))):
            raise Problem(
                Category.INCORRECT,
                f"features.yaml: the answers of {spec.name} must be numbers; or declare one_hot: true",
            )


def number_of(extraction: Extraction, name: str) -> float:
    """Return the value of a feature as a number; NaN when it has none.

    Parameters
    ----------
    extraction
        The features of a patient.
    name
        Of the feature.
    """
    reading = extraction.readings[name]
    return float("nan") if reading is None else float(reading.value)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _resized(pixels: NDArray[np.float32], size: tuple[int, int]) -> Array:
    import torch  # noqa: PLC0415 - models of rows need no PyTorch

    image = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None, None]
    small = torch.nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)
    resized: Array = small[0].double().numpy()
    return resized
