"""What a model takes as tensors, and tensors as the model's inputs.

A model of facts takes one tensor for each feature, in the units of ``features.yaml``, or all of them as rows of one
tensor, ``features``. A model of an image takes ``image``. Where the manifest limits the age and no feature has it,
``age`` states completed years.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from inference.catalogue import DeclaredModel
from inference.contract import ImageInput, ModelInput, RowInput, Subject
from inference.features.records import FeatureSpec
from inference.features.rows import is_word, row_columns
from kernel.errors import Category, Problem
from service.inference_protocol.tensors import TEXT, Tensor, Value

FEATURES: Final = "features"
IMAGE: Final = "image"
AGE: Final = "age"
_SOURCES: Final = ("urn:ausculta:open-inference",)


def described(model: DeclaredModel) -> list[dict[str, Any]]:
    """Return the metadata of a model's inputs; empty where its kind of input cannot be sent as tensors."""
    kind = model.manifest.input.kind
    if kind == "image":
        found = [_metadata(IMAGE, "FP32", [-1, -1, -1])]
    elif kind == "facts":
        found = [_metadata(name, _datatype(spec), [-1]) for name, spec in row_columns(model.features).items()]
    else:
        return []
    return [*found, _metadata(AGE, "FP64", [-1])] if _needs_age(model) else found


def read_inputs(
    model: DeclaredModel, tensors: Mapping[str, Tensor], parameters: Mapping[str, Any], at: datetime
) -> list[ModelInput]:
    """Return one input for each row.

    Parameters
    ----------
    model
        Whose inputs they are.
    tensors
        Name -> tensor, as sent.
    parameters
        Of the request; of an image ``modality``, ``body_part`` and ``view``.
    at
        The time of prediction.

    Raises
    ------
    Problem
        ``incorrect``, naming the tensor that is missing, unknown or of another shape; ``unsupported`` when the model
        reads what cannot be sent as tensors.
    """
    counts = {tensor.rows for tensor in tensors.values()}
    if len(counts) != 1:
        raise Problem(Category.INCORRECT, "all inputs must have the same number of rows")
    (count,) = counts
    left = dict(tensors)
    ages = _column(left.pop(AGE), AGE) if _needs_age(model) and AGE in left else [None] * count
    kind = model.manifest.input.kind
    if kind == "image":
        found: list[ModelInput] = [*_images(left, parameters, ages, at)]
    elif kind == "facts":
        found = [*_rows(model, left, ages, at)]
    else:
        raise Problem(Category.UNSUPPORTED, f"a model that reads {kind} cannot be called with tensors")
    return found


def _rows(model: DeclaredModel, tensors: dict[str, Tensor], ages: Sequence[Value], at: datetime) -> list[RowInput]:
    specs = row_columns(model.features)
    columns = _matrix(specs, tensors.pop(FEATURES)) if FEATURES in tensors and FEATURES not in specs else {}
    for name, spec in specs.items():
        tensor = tensors.pop(name, None)
        if tensor is not None:
            if (tensor.datatype == TEXT) != is_word(spec):
                raise Problem(Category.INCORRECT, f"the datatype of the input {name} must be {_datatype(spec)}")
            columns[name] = _column(tensor, name)
    _refuse_unknown(tensors)
    missing = [name for name in specs if name not in columns]
    if missing:
        raise Problem(Category.INCORRECT, f"the input {missing[0]} is missing; a value that is not known is null")
    age = next((name for name, spec in specs.items() if spec.subject == "age"), None)
    known = ages if age is None else columns[age]
    return [
        RowInput(
            subject=_subject(known[number], at),
            facts=(),
            at=at,
            row={name: column[number] for name, column in columns.items()},
        )
        for number in range(len(known))
    ]


def _matrix(specs: Mapping[str, FeatureSpec], tensor: Tensor) -> dict[str, list[Value]]:
    """Return the columns of rows of numbers, in the order of ``features.yaml``."""
    width = len(specs)
    if any(is_word(spec) for spec in specs.values()):
        raise Problem(Category.INCORRECT, "a feature of this model is a text: send one tensor for each feature")
    if tensor.shape[1:] != (width,):
        raise Problem(Category.INCORRECT, f"the input {FEATURES} must have the shape [rows, {width}]")
    values = tensor.values()
    return {name: values[place::width] for place, name in enumerate(specs)}


def _images(
    tensors: dict[str, Tensor],
    parameters: Mapping[str, Any],
    ages: Sequence[Value],
    at: datetime,
) -> list[ImageInput]:
    tensor = tensors.pop(IMAGE, None)
    if tensor is None or len(tensor.shape) != 3:
        raise Problem(Category.INCORRECT, f"the input {IMAGE} must have the shape [images, rows, columns]")
    _refuse_unknown(tensors)
    pixels = tensor.array()
    if pixels.min() < 0 or pixels.max() > 1:
        raise Problem(Category.INCORRECT, f"the input {IMAGE} must hold values from 0 to 1, bright is dense")
    stated = {name: str(parameters.get(name, "")) for name in ("modality", "body_part", "view")}
    return [
        ImageInput(subject=_subject(age, at), pixels=image, sources=_SOURCES, acquired_at=at, at=at, **stated)
        for image, age in zip(pixels, ages, strict=True)
    ]


def _column(tensor: Tensor, name: str) -> list[Value]:
    if tensor.shape[1:] not in ((), (1,)):
        raise Problem(Category.INCORRECT, f"the input {name} must have the shape [rows]")
    return tensor.values()


def _refuse_unknown(tensors: Mapping[str, Tensor]) -> None:
    if tensors:
        raise Problem(Category.INCORRECT, f"the model has no input {sorted(tensors)[0][:64]}")


def _subject(age: Value, at: datetime) -> Subject:
    """Return a person of whom nothing is known but the completed years of age."""
    born = None
    if age is not None and not isinstance(age, str):
        if not 0 <= age <= 130:
            raise Problem(Category.INCORRECT, f"the input {AGE} must be from 0 to 130")
        day = min(at.day, 28) if at.month == 2 else at.day
        born = date(at.year - int(age), at.month, day)
    return Subject(reference="", birth_date=born, sex=None, identifier=None)


def _needs_age(model: DeclaredModel) -> bool:
    limits = model.manifest.limits
    limited = limits.min_age_years is not None or limits.max_age_years is not None
    return limited and not any(spec.subject == "age" for spec in model.features)


def _datatype(spec: FeatureSpec) -> str:
    return TEXT if is_word(spec) else "FP64"


def _metadata(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}
