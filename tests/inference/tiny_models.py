"""Tiny models of each kind of file, trained on the spot, and the folders that bring them in."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import numpy as np
import yaml
from numpy.typing import NDArray

from inference.features.spec import parse_features
from inference.finalize import finalize_folder
from inference.manifest import parse_manifest
from inference.remote.permitted import NO_HOSTS, RemoteHosts
from inference.scaffold.cases import make_cases

FEATURES: Final = ("pulse", "systolic")
_CODES: Final = {"pulse": ("8867-4", "/min"), "systolic": ("8480-6", "mm[Hg]"), "respirations": ("9279-1", "/min")}

RISK: Final[dict[str, Any]] = {
    "name": "risk",
    "system": "urn:test",
    "code": "risk",
    "display": "Risk",
    "kind": "probability",
    "future": True,
    "bands": [{"name": "low", "at_least": 0}, {"name": "high", "at_least": 0.5}],
}
CLASSES: Final[dict[str, Any]] = RISK | {
    "kind": "class-set",
    "bands": [{"name": "home"}, {"name": "icu"}, {"name": "ward"}],
}
SCORE: Final[dict[str, Any]] = RISK | {"kind": "score", "bands": [{"name": "any", "at_least": -1000}]}


def patients(count: int = 240, *, missing: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Make rows of pulse and systolic pressure, and who is ill: a fast pulse at a low pressure."""
    draw = np.random.default_rng(7)
    rows = np.column_stack([draw.normal(85, 20, count), draw.normal(120, 20, count)])
    ill = (rows[:, 0] - rows[:, 1] + draw.normal(0, 10, count) > -20).astype(np.int64)
    rows[draw.random(rows.shape) < missing] = np.nan
    return rows, ill


class Declared(TypedDict, total=False):
    """What a folder declares otherwise than most, and what its golden cases may do."""

    outputs: Sequence[Mapping[str, Any]]
    #: Names of :data:`FEATURES`, or whole entries of ``features.yaml``.
    features: Sequence[str | Mapping[str, Any]]
    #: Of every feature.
    missing: object
    inputs: Mapping[str, Any] | None
    golden: Mapping[str, Any] | None
    #: Whether the golden cases are made from the declarations.
    cases_are_made: bool
    trigger: Mapping[str, Any] | None
    run_code: bool
    remote_hosts: RemoteHosts


def bring(
    folder: Path, runner: str | Mapping[str, Any], files: Mapping[str, bytes], **declared: Unpack[Declared]
) -> Path:
    """Write and seal a folder as an ML engineer would bring it; its name is the model's."""
    (folder / "golden").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    given = declared.get("inputs") or {"name": "facts", "kind": "facts"}
    manifest = {
        "name": folder.name,
        "version": "1.0.0",
        "title": "Tiny",
        "intended_use": "Tests",
        "owner": "Tests",
        "demonstration": True,
        "users": ["tests"],
        "trigger": declared.get("trigger") or {"kind": "codes", "codes": ["8867-4"]},
        "inputs": [given],
        "runner": runner,
        "outputs": list(declared.get("outputs", (RISK,))),
        "limits": {},
        "change_plan": {"acceptance": ["nothing"]},
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    missing = declared.get("missing", "refuse")
    features = [_feature(it, missing) for it in declared.get("features", FEATURES)]
    if given["kind"] in {"facts", "series"}:
        (folder / "features.yaml").write_text(yaml.safe_dump({"features": features}))
    case = {"subject": {"reference": "Patient/golden"}, "at": "2026-01-15T12:00:00+00:00"}
    facts = [{"code": code, "value": "95", "unit": unit} for code, unit in _CODES.values()]
    golden = declared.get("golden") or {"facts": facts}
    cases: Mapping[str, bytes] = {}
    if declared.get("cases_are_made"):
        cases = make_cases((), parse_manifest(manifest), parse_features({"features": features}))
    else:
        (folder / "golden" / "one.json").write_text(json.dumps({"input": case | dict(golden)}))
    finalize_folder(
        folder,
        {"Evidence": "None: a test."},
        run_code=declared.get("run_code", False),
        remote_hosts=declared.get("remote_hosts", NO_HOSTS),
        cases=cases,
    )
    return folder


ALERTNESS: Final[dict[str, Any]] = {
    "name": "alertness",
    "title": "alertness",
    "window": {"take": "last", "hours": 12},
    "missing": "refuse",
    "sources": [{"code": "67775-7", "answers": {"alert": ["LA9340-6"], "drowsy": ["LA17108-4"]}}],
}


def _feature(name: str | Mapping[str, Any], missing: object) -> Mapping[str, Any]:
    if not isinstance(name, str):
        return name
    code, unit = _CODES[name]
    window = {"take": "last", "hours": 12}
    return {
        "name": name,
        "title": name,
        "window": window,
        "missing": missing,
        "sources": [{"code": code, "unit": unit}],
    }


def skops_bytes(estimator: Any, *, labels: Sequence[Any] | None = None, missing: float = 0.0) -> bytes:
    """Fit an estimator of scikit-learn and return its skops file."""
    from skops import io

    rows, ill = patients(missing=missing)
    return bytes(io.dumps(estimator.fit(rows, ill if labels is None else np.array(labels)[ill])))


def logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def xgboost_booster(objective: str = "binary:logistic", names: Sequence[str] | None = FEATURES, **more: Any) -> Any:
    import xgboost

    rows, ill = patients(missing=0.1)
    return xgboost.train(
        {"objective": objective, "max_depth": 2, "nthread": 1, **more},
        xgboost.DMatrix(rows, ill, feature_names=None if names is None else list(names)),
        num_boost_round=5,
    )


def xgboost_bytes(objective: str = "binary:logistic", form: str = "ubj", **more: Any) -> bytes:
    return bytes(xgboost_booster(objective, **more).save_raw(form))


def lightgbm_bytes(objective: str = "binary", names: Sequence[str] | None = FEATURES, **more: Any) -> bytes:
    import lightgbm

    rows, ill = patients(missing=0.1)
    data = lightgbm.Dataset(rows, ill, feature_name="auto" if names is None else list(names))
    settings = {"objective": objective, "num_leaves": 3, "num_threads": 1, "verbose": -1, **more}
    return str(lightgbm.train(settings, data, num_boost_round=5).model_to_string()).encode()


def program_bytes(network: Any = None, item: Sequence[int] = (2,), *, batch: int | None = None) -> bytes:
    """Export a network of PyTorch, by itself one that weighs the features 0.05 each, less 9.5."""
    import io
    import warnings

    import torch

    if network is None:
        network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid())
        network.load_state_dict({"0.weight": torch.tensor([[0.05, 0.05]]), "0.bias": torch.tensor([-9.5])})
    axes = None if batch else ({0: torch.export.Dim("items", min=1, max=4096)},)
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        program = torch.export.export(network.eval(), (torch.zeros(batch or 2, *item),), dynamic_shapes=axes)
        torch.export.save(program, written)
    return written.getvalue()


def network_bytes(network: Any) -> bytes:
    from safetensors.torch import save

    return bytes(save(network.state_dict()))


def perceptron() -> Any:
    import torch

    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).eval()


WORDS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "fever", "aspirin", "daily", "takes", ".")
NOTE: Final[dict[str, Any]] = {"text": "No fever. Takes aspirin daily."}


def transformer_files(folder: Path, task: str, labels: Sequence[str]) -> dict[str, bytes]:
    """Write what ``save_pretrained`` writes of a tiny BERT with random numbers, and return it."""
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(11)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        id2label=dict(enumerate(labels)),
        pad_token_id=0,
    )
    kinds = {
        "sequence": transformers.BertForSequenceClassification,
        "token": transformers.BertForTokenClassification,
    }
    kinds[task](config).eval().save_pretrained(folder)
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("config.json", "model.safetensors", "tokenizer.json")
    return {f"huggingface/{name}": (folder / name).read_bytes() for name in names}


def onnx_bytes(
    *, features: int = 2, batch: int | str = "n", outputs: int = 1, sigmoid: bool = True, shape: Sequence[int] = ()
) -> bytes:
    """Return an ONNX model that weighs (all parts of) an item: 0.05 each, less 9.5."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = tuple(shape) or (features,)
    weights = np.full((int(np.prod(size)), outputs), 0.05 if not shape else 0.001, dtype=np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        *([helper.make_node("Sigmoid", ["logits"], ["risk"])] if sigmoid else []),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *size])],
        [helper.make_tensor_value_info("risk" if sigmoid else "logits", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.full(outputs, -9.5, np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
