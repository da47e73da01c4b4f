"""ONNX models by ONNX Runtime, of facts, series or images: one input of numbers, one output of numbers.

The file is read before the runtime sees it: tensors kept in other files are refused, for their names could lead
anywhere, and so are operators of other domains than ONNX's own, for they may be code.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import numpy as np

from inference.contract import InputKind
from inference.runners.array_inputs import Array
from inference.runners.arrays import ArrayRunner, Compute
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that ONNX Runtime brings itself."""

_TYPES: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class OnnxRunner(ArrayRunner):
    """Runs a model in ONNX; on a GPU where the runtime was built for it."""

    kinds: ClassVar[frozenset[InputKind]] = frozenset({"facts", "series", "image"})

    def load(self, options: YamlMapping, device: str) -> Compute:
        """Check the file and open a session.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``; ``output`` names the output that counts.
        device
            ``cpu`` or ``cuda``.

        Raises
        ------
        Problem
            ``incorrect`` when the file holds what is not allowed, or does not fit the declarations.
        """
        import onnxruntime  # noqa: PLC0415 - optional

        read_onnx(self.file, self.content)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4  # its messages go to stderr, and may show values
        if self.model.manifest.input.kind == "facts":
            settings.intra_op_num_threads = 1
        wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
        available = onnxruntime.get_available_providers()
        providers = [name for name in (*wanted, "CPUExecutionProvider") if name in available]
        try:
            session = onnxruntime.InferenceSession(self.content, settings, providers=providers)
        except Exception as failure:
            raise self.refuse(
                f"{self.file} cannot be run by ONNX Runtime {onnxruntime.__version__}", failure
            ) from failure
        name, number = self._input(session)
        output = self._output(session, options)

        def compute(items: Array) -> Array:
            (found,) = session.run([output], {name: np.ascontiguousarray(items, dtype=number)})
            numbers: Array = np.asarray(found, dtype=np.float64).reshape(len(found), -1)
            return numbers

        return compute

    def _input(self, session: Any) -> tuple[str, Any]:
        """Return name and type of the input, once its shape is what the declarations make."""
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES:
            stated = ", ".join(f"{one.name} ({one.type})" for one in inputs)
            raise self.refuse(f"{self.file} must take one tensor of numbers; it takes {stated}")
        (only,) = inputs
        shape = (None, *self.reader.shape)
        if isinstance(only.shape[0], int):
            raise self.refuse(
                f"{self.file} takes {only.shape[0]} at a time: export it with a first axis of any length "
                "(dynamic_shapes or dynamic_axes)"
            )
        if len(only.shape) == len(shape) == 2 and isinstance(only.shape[1], int):
            self.check_count(only.shape[1])
        fits = len(only.shape) == len(shape) and all(
            not isinstance(stated, int) or stated == made
            for stated, made in zip(only.shape[1:], shape[1:], strict=True)
        )
        if not fits:
            takes = " x ".join(str(one) for one in only.shape[1:])
            raise self.refuse(f"{self._misfit()}; it takes {takes}")
        return only.name, _TYPES[only.type]

    def _output(self, session: Any, options: YamlMapping) -> str:
        outputs = {one.name: one.type for one in session.get_outputs()}
        numeric = [name for name, kind in outputs.items() if kind in _TYPES]
        if options.has("output"):
            return options.choice("output", *numeric)
        if not numeric:
            stated = ", ".join(f"{name} ({kind})" for name, kind in outputs.items())
            raise self.refuse(
                f"{self.file} must give a tensor of numbers; it gives {stated}. "
                "Of scikit-learn, convert with options={'zipmap': False}"
            )
        if len(numeric) > 1:
            raise self.refuse(f"model.yaml.runner.output must say which output counts: {', '.join(numeric)}")
        return str(numeric[0])


def read_onnx(name: str, content: bytes) -> Any:
    """Return the parsed file, once it holds nothing that is not allowed.

    Parameters
    ----------
    name
        Of the file, for refusals.
    content
        Its bytes.

    Raises
    ------
    Problem
        ``incorrect`` when it is no ONNX model, keeps tensors in other files, or uses foreign operators.
    """
    import onnx  # noqa: PLC0415 - optional
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with it

    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as failure:
        raise Problem(Category.INCORRECT, f"{name} is no ONNX model", diagnostics=repr(failure)) from failure
    if not model.graph.node:
        raise Problem(Category.INCORRECT, f"{name} is no ONNX model")
    for part in _messages(model):
        if isinstance(part, onnx.TensorProto) and (part.data_location or part.external_data):
            raise Problem(
                Category.INCORRECT,
                f"{name} keeps tensors in other files: write it with onnx.save(model, '{name}', "
                "save_as_external_data=False)",
            )
    strange = sorted({one.domain for one in model.opset_import} - _DOMAINS)
    if strange:
        detail = f"{name} uses operators of {', '.join(strange)}, which ONNX Runtime does not bring"
        raise Problem(Category.INCORRECT, detail)
    return model


def _messages(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and every message within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            yield from _messages(part)
