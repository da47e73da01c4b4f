"""Programs of ``torch.export`` (``.pt2``), read without ``torch.export.load``.

PyTorch's own reader unpickles example inputs, evaluates expressions of shapes, and compiles guards: a file could run
code. The graph itself is JSON, and the weights are plain bytes. This reader takes only those: operators of PyTorch's
own library (``aten``) and arithmetic on sizes, in the order of the graph; whatever else a file asks for is refused by
name.
"""

import io
import json
import operator
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from kernel.errors import Category, Problem

Json = Mapping[str, Any]

_ATEN: Final = "torch.ops.aten."
_REFUSED: Final = frozenset({"from_file"})
"""Operators of PyTorch's own library that read files."""

_ARITHMETIC: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        f"_operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge", "getitem")
    }
)

_DTYPES: Final[Mapping[int, torch.dtype]] = MappingProxyType(
    {
        1: torch.uint8,
        2: torch.int8,
        3: torch.int16,
        4: torch.int32,
        5: torch.int64,
        6: torch.float16,
        7: torch.float32,
        8: torch.float64,
        12: torch.bool,
        13: torch.bfloat16,
    }
)
"""``ScalarType`` of the schema of torch.export -> type."""

_FORMATS: Final[Mapping[int, torch.memory_format]] = MappingProxyType(
    {
        1: torch.contiguous_format,
        2: torch.channels_last,
        3: torch.channels_last_3d,
        4: torch.preserve_format,
    }
)
_STRIDED: Final = 7
_MOST_BYTES: Final = 2**34
_NAMED: Final = frozenset({"as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"})
_LISTED: Final = frozenset({"as_tensors", "as_optional_tensors", "as_sym_ints"})
_PLAIN: Final = frozenset({"as_int", "as_ints", "as_float", "as_floats", "as_string", "as_bool", "as_bools"})


@dataclass(frozen=True)
class _Name:
    """A value that an earlier step, the weights or the input gives."""

    text: str


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One operator of the graph."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    #: Names of what it gives; several when it gives a tuple or a list.
    gives: tuple[str, ...]
    #: Whether it gives a tuple or a list.
    several: bool
    #: Names that no later step uses.
    last: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that takes one tensor and gives one."""

    steps: tuple[_Step, ...]
    #: Name in the graph -> weights.
    weights: Mapping[str, Tensor]
    input: str
    output: str
    #: Of the input; None for an axis of any length.
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return the program as a function of a tensor on a device."""
        weights = {name: tensor.to(device) for name, tensor in self.weights.items()}
        steps = [_placed(step, device) for step in self.steps]

        def run(given: Tensor) -> Tensor:
            values: dict[str, Any] = {**weights, self.input: given}
            for step in steps:
                arguments = [_value(one, values) for one in step.arguments]
                keywords = {name: _value(one, values) for name, one in step.keywords.items()}
                found = step.function(*arguments, **keywords)
                values.update(zip(step.gives, found if step.several else (found,), strict=False))
                for name in step.last:
                    values.pop(name, None)
            result: Tensor = values[self.output]
            return result

        return run


def read_program(name: str, content: bytes) -> Program:
    """Read a ``.pt2`` file.

    Parameters
    ----------
    name
        Of the file, for refusals.
    content
        Its bytes.

    Raises
    ------
    Problem
        ``incorrect`` when it is no such file, or asks for what is not allowed, which is named.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MOST_BYTES:
                raise Problem(Category.INCORRECT, f"{name} is larger than {_MOST_BYTES} bytes when unpacked")
            return _program(name, _Archive(name, packed))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as failure:
        detail = f"{name} is no program of torch.export: write it with torch.export.save(program, 'weights.pt2')"
        raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure


class _Archive:
    """The entries of the file, by their names without the first folder.

    Parameters
    ----------
    name
        Of the file, for refusals.
    packed
        The open archive.
    """

    def __init__(self, name: str, packed: zipfile.ZipFile) -> None:
        self._packed, self._name = packed, name
        self._entries = {entry.partition("/")[2]: entry for entry in packed.namelist()}
        models = [entry for entry in self._entries if entry.startswith("models/") and entry.endswith(".json")]
        if len(models) != 1:
            raise ValueError("one model is needed")
        self.model = models[0].removeprefix("models/").removesuffix(".json")
        self.content: Json = self._json(models[0])

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Return the tensors of ``weights`` or ``constants`` by their full names."""
        entry = f"data/{kind}/{self.model}_{kind}_config.json"
        config = self._json(entry)["config"] if entry in self._entries else {}
        return {name: self._tensor(kind, name, stated) for name, stated in config.items()}

    def _tensor(self, kind: str, name: str, stated: Json) -> Tensor:
        if stated["use_pickle"]:
            raise Problem(
                Category.INCORRECT,
                f"{self._name} holds {name} as a pickle, which is never opened: export it as a plain tensor",
            )
        meta, data = stated["tensor_meta"], self._packed.read(self._entries[f"data/{kind}/{stated['path_name']}"])
        dtype = _dtype(meta["dtype"])
        sizes, strides = _ints(meta["sizes"]), _ints(meta["strides"])
        if meta["layout"] != _STRIDED:
            raise ValueError("a sparse tensor")
        if not prod(sizes):
            return torch.empty(sizes, dtype=dtype)
        flat = torch.frombuffer(bytearray(data), dtype=dtype)
        return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()

    def _json(self, entry: str) -> Any:
        return json.loads(self._packed.read(self._entries[entry]))


def _program(name: str, archive: _Archive) -> Program:
    module = archive.content["graph_module"]
    graph, signature = module["graph"], module["signature"]
    stored = archive.tensors("weights") | archive.tensors("constants")
    weights: dict[str, Tensor] = {}
    inputs: list[str] = []
    for spec in signature["input_specs"]:
        ((kind, stated),) = spec.items()
        if kind == "user_input":
            inputs.append(stated["arg"]["as_tensor"]["name"])
        elif kind in _STORED:
            weights[stated["arg"]["name"]] = stored[stated[_STORED[kind]]]
        else:
            raise Problem(Category.INCORRECT, f"{name} takes {kind}, which is not allowed")
    outputs = signature["output_specs"]
    if len(inputs) != 1 or len(outputs) != 1 or "user_output" not in outputs[0]:
        raise Problem(
            Category.INCORRECT,
            f"{name} must take one tensor, give one and change nothing else; it takes {len(inputs)} and gives "
            f"{len(outputs)}. Export the model after eval()",
        )
    output = outputs[0]["user_output"]["arg"]["as_tensor"]["name"]
    steps = [_step(name, node) for node in graph["nodes"]]
    _check_writes(name, steps, weights)
    described = graph["tensor_values"][inputs[0]]
    return Program(
        steps=_with_last_uses(steps, output),
        weights=weights,
        input=inputs[0],
        output=output,
        shape=tuple(size.get("as_int") for size in described["sizes"]),
        dtype=_dtype(described["dtype"]),
    )


_STORED: Final[Mapping[str, str]] = MappingProxyType(
    {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
)
"""Kind of an input that the file itself holds -> key of its full name."""


def _step(name: str, node: Json) -> _Step:
    given = [(argument["name"], argument.get("kind"), _argument(name, argument["arg"])) for argument in node["inputs"]]
    gives, several = _results(name, node["outputs"])
    function = _function(name, node["target"])
    _check_mode(name, node["target"], function, {key: value for key, _, value in given})
    return _Step(
        function=function,
        arguments=tuple(value for _, kind, value in given if kind != _KEYWORD),
        keywords={key: value for key, kind, value in given if kind == _KEYWORD},
        gives=gives,
        several=several,
    )


_KEYWORD: Final = 2


def _function(name: str, target: str) -> Callable[..., Any]:
    if target in _ARITHMETIC:
        return _ARITHMETIC[target]
    operation, _, overload = target.removeprefix(_ATEN).partition(".")
    if not target.startswith(_ATEN) or not overload.isidentifier() or operation in _REFUSED:
        raise Problem(Category.INCORRECT, f"{name} uses {target}, which is not allowed; export to ONNX instead")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, operation), overload)
    return found


def _check_mode(name: str, target: str, function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Return when a step gives the same for the same input: not in training, and without random numbers."""
    if given.get("train") is True or given.get("training") is True or given.get("dropout_p"):
        raise Problem(
            Category.INCORRECT, f"{name} was exported in training: call eval() on the model before the export"
        )
    is_random = torch.Tag.nondeterministic_seeded in getattr(function, "tags", ())
    if is_random and not given.keys() & {"train", "training"} and "attention" not in target:
        raise Problem(Category.INCORRECT, f"{name} uses {target}, which draws random numbers")


def _check_writes(name: str, steps: Sequence[_Step], held: Mapping[str, Tensor]) -> None:
    """Return when no step writes to the weights: the answer for one patient would depend on those before."""
    kept = set(held)
    for step in steps:
        schema = getattr(step.function, "_schema", None)
        if schema is None:
            continue
        stated = dict(zip((one.name for one in schema.arguments), step.arguments, strict=False)) | dict(step.keywords)
        shared = [one for one in schema.arguments if one.alias_info is not None and one.name in stated]
        touched = [one for one in shared if any(value.text in kept for value in _names([stated[one.name]]))]
        if any(one.alias_info.is_write for one in touched):
            raise Problem(Category.INCORRECT, f"{name} changes its own numbers ({schema.name}): export it without")
        if touched:
            kept.update(step.gives)


def _results(name: str, outputs: Sequence[Json]) -> tuple[tuple[str, ...], bool]:
    """Return the names of what a step gives, and whether it gives them in a tuple or a list."""
    if len(outputs) == 1 and "as_tensors" in outputs[0]:
        return tuple(one["name"] for one in outputs[0]["as_tensors"]), True
    names = []
    for one in outputs:
        ((kind, stated),) = one.items()
        if kind not in _NAMED and kind != "as_none":
            raise Problem(Category.INCORRECT, f"{name} gives {kind}, which is not allowed")
        names.append("" if kind == "as_none" else stated.get("name", stated.get("as_name", "")))
    return tuple(names), len(names) > 1


def _argument(name: str, stated: Json) -> Any:
    """Return an argument: a value, or the name of one."""
    ((kind, value),) = stated.items()
    if kind in _PLAIN:
        return value
    if kind in _NAMED:
        return _named(value)
    if kind in _LISTED:
        return [_named(one) for one in value]
    if kind == "as_optional_tensor":
        return _named(value)
    if kind in _CONSTANTS:
        return _CONSTANTS[kind](value)
    raise Problem(Category.INCORRECT, f"{name} uses {kind}, which is not allowed; export to ONNX instead")


def _named(stated: Json) -> Any:
    if "as_tensor" in stated:
        return _Name(stated["as_tensor"]["name"])
    for key in ("name", "as_name"):
        if key in stated:
            return _Name(stated[key])
    return next((stated[key] for key in ("as_int", "as_bool", "as_float") if key in stated), None)


def _dtype(number: int) -> torch.dtype:
    if number not in _DTYPES:
        raise ValueError(f"type {number} of numbers")
    return _DTYPES[number]


_DEVICE: Final = object()
"""Stands where a step names a device: it becomes the runner's."""

_CONSTANTS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "as_none": lambda _: None,
        "as_scalar_type": _dtype,
        "as_memory_format": lambda number: _FORMATS[number],
        "as_layout": lambda _: torch.strided,
        "as_device": lambda _: _DEVICE,
    }
)


def _ints(stated: Sequence[Json]) -> list[int]:
    return [int(one["as_int"]) for one in stated]


def _with_last_uses(steps: Sequence[_Step], output: str) -> tuple[_Step, ...]:
    """Note at each step which values are used for the last time, so that they are given up at once."""
    seen, marked = {output}, []
    for step in reversed(steps):
        used = {one.text for one in _names((*step.arguments, *step.keywords.values()))} | set(step.gives)
        marked.append(replace(step, last=tuple(used - seen)))
        seen |= used
    return tuple(reversed(marked))


def _names(values: Sequence[Any]) -> list[_Name]:
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, _Name)]


def _placed(step: _Step, device: torch.device) -> _Step:
    def place(value: Any) -> Any:
        return device if value is _DEVICE else value

    keywords = {key: place(value) for key, value in step.keywords.items()}
    return replace(step, arguments=tuple(map(place, step.arguments)), keywords=keywords)


def _value(stated: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(stated, _Name):
        return values[stated.text]
    if isinstance(stated, list):
        return [_value(one, values) for one in stated]
    return stated
