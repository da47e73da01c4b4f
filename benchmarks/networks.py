"""Networks of PyTorch through the runners: items a second and latency by batch, beside plain PyTorch.

Run as ``python -m benchmarks.networks [--device cuda]``. The networks are DenseNet121 (224 x 224) and a BERT with the
layers of bert-base (128 tokens), both with random numbers. What is timed begins and ends in the host's memory. The last
column is the share of the device's limit: of what it multiplies and moves in this run, against what an item needs.
"""

import argparse
import base64
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from safetensors.torch import save

from benchmarks.measure import in_turns, table
from inference.finalize import finalize_folder
from inference.golden_input import read_input
from inference.loading import load_model
from inference.runners.base import BF16, SINGLE

BATCHES: Final = (1, 8, 32)
SIDE: Final = 224
TOKENS: Final = 128
_OUTPUT: Final = {
    "name": "risk",
    "system": "urn:test",
    "code": "risk",
    "display": "Risk",
    "kind": "probability",
    "future": False,
    "bands": [{"name": "low", "at_least": 0}, {"name": "high", "at_least": 0.5}],
}
_MANIFEST: Final[Mapping[str, Any]] = {
    "name": "measured",
    "version": "1.0.0",
    "title": "A network with random numbers",
    "intended_use": "Measurements of speed",
    "owner": "The benchmark",
    "demonstration": True,
    "users": ["the benchmark"],
    "limits": {},
    "change_plan": {"acceptance": ["nothing"]},
    "outputs": [_OUTPUT],
}
_CASE: Final = {"subject": {"reference": "Patient/golden"}, "at": "2026-01-15T12:00:00+00:00"}


@dataclass(frozen=True, kw_only=True)
class Work:
    """A network that is measured."""

    title: str
    network: torch.nn.Module
    #: Keys of ``model.yaml`` beside those of every network here.
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    #: Of the golden case; what is measured is this input, repeated.
    given: Mapping[str, Any]
    #: An item of the runner -> the tensors of the plain network, with an axis for the items.
    tensors: Callable[[Any], Mapping[str, torch.Tensor]]
    #: Floating-point operations of an item, and bytes that it moves in bfloat16 where no layers are fused.
    operations: float
    moved: float


def densenet() -> Work:
    """Return a DenseNet121 of one channel."""
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1).eval()
    film = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    stated = {"rows": SIDE, "columns": SIDE, "modality": "DX", "body_part": "CHEST", "view": "PA"}
    runner = {"network": "monai.DenseNet121", "resize": [SIDE, SIDE], "transform": "sigmoid"}
    return Work(
        title="DenseNet121, 224 x 224",
        network=network,
        manifest={
            "trigger": {"kind": "study"},
            "inputs": [{"name": "film", "kind": "image", "modalities": ["DX"]}],
            "runner": {"kind": "torch-network", "precision": BF16, **runner},
        },
        files={"weights.safetensors": save(network.state_dict())},
        given={"pixels": base64.b64encode(film.tobytes()).decode(), **stated},
        tensors=lambda item: {"x": torch.from_numpy(np.asarray(item, dtype=np.float32))[None]},
        operations=5.67e9,
        moved=227e6,
    )


def bert() -> Work:
    """Return a BERT with the layers of bert-base and few words."""
    import tokenizers
    import transformers

    torch.manual_seed(0)
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "fever": 4}
    config = transformers.BertConfig(vocab_size=len(words), pad_token_id=0, num_labels=2)
    network = transformers.BertForSequenceClassification(config).eval()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    parameters = sum(one.numel() for one in network.parameters())
    return Work(
        title="BERT of 12 layers, 128 tokens",
        network=network,
        manifest={
            "trigger": {"kind": "document", "document_types": ["11506-3"]},
            "inputs": [{"name": "note", "kind": "text"}],
            "runner": {"kind": "transformers", "precision": BF16, "task": "sequence", "positive": "LABEL_1"},
        },
        files={
            "huggingface/config.json": config.to_json_string(use_diff=False).encode(),
            "huggingface/model.safetensors": save(network.state_dict()),
            "huggingface/tokenizer.json": tokenizer.to_str().encode(),
        },
        given={"text": " ".join(["fever"] * TOKENS)},
        tensors=lambda item: {"input_ids": torch.tensor(item.ids)[None]},
        operations=2.0 * parameters * TOKENS,
        moved=2.0 * 12 * TOKENS * 768 * 34,
    )


def folder_of(work: Work, folder: Path) -> Path:
    """Make the model folder of a network; its golden case allows every precision.

    Parameters
    ----------
    work
        The network.
    folder
        Where; it must not exist.
    """
    for name, content in work.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "model.yaml").write_text(yaml.safe_dump({**_MANIFEST, **work.manifest}))
    (folder / "golden").mkdir()
    case = {"input": {**_CASE, **work.given}, "tolerance": {"relative": 1.0, "absolute": 1.0}}
    (folder / "golden" / "one.json").write_text(json.dumps(case))
    finalize_folder(folder, {"Evidence": "None: a benchmark."})
    return folder


def variants(work: Work, folder: Path, device: str) -> Iterator[tuple[str, Callable[[int], object]]]:
    """Yield what is compared, each as a function of the number of items.

    Parameters
    ----------
    work
        The network.
    folder
        Its model folder.
    device
        ``cpu`` or ``cuda``.
    """
    runner = load_model(folder, device=device)
    item = runner.decode(read_input({**_CASE, **work.given})).item
    one = work.tensors(item)
    plain = work.network.to(device)

    def without_us(count: int) -> object:
        batch = {name: tensor.expand(count, *tensor.shape[1:]).contiguous().to(device) for name, tensor in one.items()}
        with torch.no_grad():
            found = plain(**batch)
        return (found if isinstance(found, torch.Tensor) else found.logits).cpu()

    def ours(precision: str) -> Callable[[int], object]:
        def run(count: int) -> object:
            runner.compute_in(precision)
            return runner.predict(runner.batch([item] * count))

        return run

    yield "plain PyTorch", without_us
    yield from ((f"runner, {precision}", ours(precision)) for precision in (SINGLE, BF16))


def limits(device: str) -> tuple[float, float]:
    """Return what a device multiplies (bfloat16, operations a second) and moves (bytes a second).

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    """
    side, size = (8192, 2**30) if device == "cuda" else (1024, 2**27)
    one = torch.ones(side, side, dtype=torch.bfloat16, device=device)
    held = torch.ones(size // 4, device=device)
    other = torch.empty_like(held)
    multiplied = min(_seconds(lambda: one @ one, device) for _ in range(10))
    moved = min(_seconds(lambda: other.copy_(held), device) for _ in range(10))
    return 2 * side**3 / multiplied, 2 * size / moved


def _seconds(act: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    act()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measured(work: Work, folder: Path, device: str, rounds: int) -> Sequence[Sequence[str]]:
    """Return a row of figures for each variant and size of batch.

    Parameters
    ----------
    work, folder, device
        As for :func:`variants`.
    rounds
        How often each is timed.
    """
    multiplies, moves = limits(device)
    least = max(work.operations / multiplies, work.moved / moves)
    compared = dict(variants(work, folder, device))
    rows = []
    for count in BATCHES:
        timed = {name: partial(_seconds, partial(run, count), device) for name, run in compared.items()}
        for once in timed.values():
            once()
        for name, seconds in in_turns(timed, rounds).items():
            median = statistics.median(seconds)
            figures = (f"{count / median:.1f}", f"{median * 1e3:.2f}", f"{max(seconds) * 1e3:.2f}")
            rows.append((work.title, str(count), name, *figures, f"{count * least / median:.2f}"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("not measured: there is no CUDA device here")
        return
    heading = ("network", "batch", "how", "items/s", "median ms", "longest ms", "of the device's limit")
    for make in (densenet, bert):
        work = make()
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(work, folder_of(work, Path(folder) / "measured"), given.device, given.rounds)
        print(table([heading, *rows]), flush=True)


if __name__ == "__main__":
    main()
