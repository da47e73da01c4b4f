"""Hugging Face transformers of text: classes of a document, or of its parts.

The folder holds what ``save_pretrained`` wrote, below ``huggingface/``: ``config.json``, ``model.safetensors`` and
``tokenizer.json``. The network is one of the library's own, by the ``model_type`` of the configuration; its code never
comes with the files, nothing is looked up by name, and no file but these is read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from inference.contract import InputKind, InputUsed, ModelInput, Span, Spans, TextInput
from inference.outputs import make_output
from inference.runners.array_inputs import Array
from inference.runners.array_outputs import ArrayOutputs
from inference.runners.base import Answer, Declined, Decoded, Runner
from inference.runners.torch_device import TorchPrecision, is_out_of_memory
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

CONFIG: Final = "huggingface/config.json"
WEIGHTS: Final = "huggingface/model.safetensors"
TOKENIZER: Final = "huggingface/tokenizer.json"

MODEL_TYPES: Final = (
    "albert",
    "bert",
    "camembert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "roberta",
    "xlm-roberta",
)
"""Networks of the library that are run."""

_TASKS: Final = ("sequence", "token")
_BUCKETS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Texts are padded to the next of these lengths, so that texts of like length share a batch."""
_OFFSET: Final[Mapping[str, int]] = {"roberta": 2, "camembert": 2, "xlm-roberta": 2}
"""Positions that a network keeps for itself."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A text as the network reads it."""

    ids: tuple[int, ...]
    #: Where each token stands in the text; None for one that does not.
    places: tuple[tuple[int, int] | None, ...]
    #: Length of the text in characters.
    length: int
    #: Whether the end of the text was left out.
    shortened: bool


class TextRunner(Runner[Tokens, tuple[Tensor, Tensor], Array]):
    """Runs a transformer."""

    kinds: ClassVar[frozenset[InputKind]] = frozenset({"text"})

    def setup(self, device: str) -> None:
        """Build tokenizer and network.

        Raises
        ------
        Problem
            ``incorrect``: which file or which line does not fit.
        """
        options = YamlMapping("model.yaml.runner", self.model.manifest.runner_options)
        self._device = torch.device(device)
        config = self._config()
        self._task = options.choice("task", *_TASKS)
        self._labels = _labels(config)
        self._most = self._longest(config, options)
        self._shorten = options.has("long") and options.choice("long", "decline", "first") == "first"
        self._columns = self._outputs(options, config)
        self._precision = TorchPrecision(options, self._device)
        options.done()
        self._tokenizer = self._read_tokenizer()
        self._pad = int(config.get("pad_token_id") or 0)
        self._network = self._build(config)

    def decode(self, given: ModelInput) -> Decoded[Tokens]:
        """Cut the text into tokens.

        Raises
        ------
        Declined
            When it is longer than the network reads.
        Problem
            ``fault`` when the input is not a text.
        """
        if not isinstance(given, TextInput):
            raise Problem(Category.FAULT, "a model of texts was given another kind of input")
        encoded = self._tokenizer.encode(given.text)
        ids, offsets, special = encoded.ids, encoded.offsets, encoded.special_tokens_mask
        used = tuple(
            InputUsed(name="text", value=None, unit=None, effective=given.authored_at, source=source)
            for source in given.sources
        )
        shortened = len(ids) > self._most
        if shortened and not self._shorten:
            reason = f"the text is longer than the model reads ({len(ids)} tokens; {self._most} at most)"
            raise Declined(reason, inputs=used)
        places = tuple(None if is_special else place for place, is_special in zip(offsets, special, strict=True))
        item = Tokens(
            ids=tuple(ids[: self._most]), places=places[: self._most], length=len(given.text), shortened=shortened
        )
        bucket = next((size for size in _BUCKETS if size >= len(item.ids)), len(item.ids))
        return Decoded(item=item, inputs=used, shape=min(bucket, self._most))

    def batch(self, items: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Pad to (texts, tokens): the ids, and which of them count."""
        longest = max(len(item.ids) for item in items)
        ids = torch.full((len(items), longest), self._pad)
        mask = torch.zeros((len(items), longest), dtype=torch.long)
        for row, item in enumerate(items):
            ids[row, : len(item.ids)] = torch.tensor(item.ids)
            mask[row, : len(item.ids)] = 1
        return ids.to(self._device), mask.to(self._device)

    def predict(self, batch: tuple[Tensor, Tensor]) -> Sequence[Array]:
        """Return the logits: of each text, or of each token of it."""
        ids, mask = batch
        with torch.no_grad(), self._precision.context():
            logits = self._network(input_ids=ids, attention_mask=mask).logits
        return list(logits.double().cpu().numpy())

    def encode(self, item: Tokens, raw: Array) -> Answer:
        """Express the classes in the manifest's codes.

        Parameters
        ----------
        item
            The text's tokens.
        raw
            Its logits.
        """
        notice = self.opening()
        if item.shortened:
            notice += f" Only the first {self._most} tokens of the text were read."
        if self._task == "sequence":
            assert self._numbers is not None
            return Answer(outputs=self._numbers.express(raw, notice=notice, columns=self._columns))
        (spec,) = self.model.manifest.outputs
        best = [self._labels[number] for number in np.argmax(raw[: len(item.ids)], axis=-1)]
        spans = Spans(spans=tuple(_spans(best, item.places)))
        return Answer(outputs=(make_output(spec, detail=spans, notice=notice),))

    def precisions(self) -> Sequence[str]:
        """Return single precision and, where folder and device allow it, bfloat16."""
        return self._precision.allowed

    def compute_in(self, precision: str) -> None:
        """Compute in one of :meth:`precisions` from now on."""
        self._precision.used = precision

    def out_of_memory(self, failure: BaseException) -> bool:
        """Return whether a smaller batch could have succeeded, on either device."""
        return is_out_of_memory(failure)

    def _config(self) -> Mapping[str, Any]:
        try:
            config = json.loads(self._file(CONFIG))
        except ValueError as failure:
            raise self._refuse(f"{CONFIG} is no JSON", failure) from failure
        if not isinstance(config, dict) or config.get("model_type") not in MODEL_TYPES:
            stated = config.get("model_type") if isinstance(config, dict) else None
            raise self._refuse(f"{CONFIG}: model_type {stated} is not run; it must be one of: {', '.join(MODEL_TYPES)}")
        return config

    def _longest(self, config: Mapping[str, Any], options: YamlMapping) -> int:
        positions = int(config.get("max_position_embeddings", 512)) - _OFFSET.get(config["model_type"], 0)
        most = options.take("max_tokens", int) if options.has("max_tokens") else min(positions, 512)
        if not 0 < most <= positions:
            raise self._refuse(f"{options.place}.max_tokens must be in 1..{positions}, as {CONFIG} states")
        return most

    def _outputs(self, options: YamlMapping, config: Mapping[str, Any]) -> list[int] | None:
        """Check the declared outputs; return which class counts where one probability is declared."""
        specs = self.model.manifest.outputs
        self._numbers: ArrayOutputs | None = None
        if self._task == "token":
            if [spec.kind for spec in specs] != ["spans"]:
                raise self._refuse("model.yaml.outputs must have one entry of kind spans for task: token")
            return None
        several = config.get("problem_type") == "multi_label_classification"
        self._numbers = ArrayOutputs(specs, options, default="sigmoid" if several else "softmax")
        if self._numbers.is_binary and len(self._labels) > 1:
            if not options.has("positive"):
                classes = ", ".join(self._labels)
                raise self._refuse(
                    f"{options.place}.positive must name the class of the probability, one of: {classes}"
                )
            return [self._labels.index(options.choice("positive", *self._labels))]
        if self._numbers.classes and self._numbers.classes != self._labels:
            names = ", ".join(self._labels)
            raise self._refuse(f"model.yaml.outputs[0].bands must be named, in this order: {names}, as in {CONFIG}")
        self._numbers.check(len(self._labels), CONFIG)
        return None

    def _read_tokenizer(self) -> Any:
        import tokenizers  # noqa: PLC0415 - optional

        content = self._file(TOKENIZER)
        try:
            tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as failure:
            raise self._refuse(
                f"{TOKENIZER} is no tokenizer: write it with tokenizer.save_pretrained", failure
            ) from failure
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _build(self, config: Mapping[str, Any]) -> Any:
        import huggingface_hub  # noqa: PLC0415 - optional, as the next
        import transformers  # noqa: PLC0415

        huggingface_hub.constants.HF_HUB_OFFLINE = True  # nothing below asks the hub; should it ever, it is refused

        classes = {
            "sequence": transformers.AutoModelForSequenceClassification,
            "token": transformers.AutoModelForTokenClassification,
        }
        content = self._file(WEIGHTS)
        try:
            held = load(content)
            stated = {key: value for key, value in config.items() if key not in _LEFT_OUT}
            built = transformers.AutoConfig.for_model(**stated)
            network = classes[self._task].from_config(built, trust_remote_code=False).float()
            held = {key: value.float() for key, value in held.items() if not key.endswith("position_ids")}
            found = network.load_state_dict(held, strict=False)
        except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as failure:
            raise self._refuse(f"{CONFIG} and {WEIGHTS} make no network", failure) from failure
        if found.missing_keys or found.unexpected_keys:
            lacking, foreign = ", ".join(found.missing_keys[:3]), ", ".join(found.unexpected_keys[:3])
            detail = f"lacks {lacking}" if lacking else f"holds {foreign}, which the network does not have"
            raise self._refuse(f"{WEIGHTS} {detail}: write it with save_pretrained of the model for this task")
        return network.eval().requires_grad_(False).to(self._device)  # noqa: FBT003 - the library's own

    def _file(self, name: str) -> bytes:
        if name not in self.model.files:
            checkpoint = "; pytorch_model.bin is a pickle, which is never opened" if name == WEIGHTS else ""
            raise self._refuse(f"the folder has no {name}, which save_pretrained writes{checkpoint}")
        return self.model.files[name]

    def _refuse(self, detail: str, failure: BaseException | None = None) -> Problem:
        return Problem(Category.INCORRECT, detail, diagnostics="" if failure is None else repr(failure))


_LEFT_OUT: Final = frozenset({"auto_map", "_name_or_path", "dtype", "torch_dtype", "quantization_config"})
"""Of a configuration: where code and files would come from, and of what precision."""


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes, in order."""
    stated = config.get("id2label")
    if not isinstance(stated, dict) or not stated:
        return ("LABEL_0", "LABEL_1")
    return tuple(str(stated[key]) for key in sorted(stated, key=int))


def _spans(labels: Sequence[str], places: Sequence[tuple[int, int] | None]) -> list[Span]:
    """Join tokens of one class that follow each other; ``B-`` begins a new part, ``O`` is none."""
    found: list[Span] = []
    previous = "O"
    for label, place in zip(labels, places, strict=True):
        prefix, dash, name = label.partition("-")
        is_tagged = bool(dash) and prefix in {"B", "I"}
        named = name if is_tagged else label
        if place is None or label == "O" or place[0] == place[1]:
            previous = "O"
            continue
        if previous == named and not (is_tagged and prefix == "B"):
            found[-1] = Span(start=found[-1].start, end=place[1], label=named)
        else:
            found.append(Span(start=place[0], end=place[1], label=named))
        previous = named
    return found
