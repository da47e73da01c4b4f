"""Transformers of text from what ``save_pretrained`` wrote: classes of a document, or of its parts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.contract import ClassSet, Spans, TextInput
from inference.golden import infer
from inference.loading import load_model
from inference.runners.base import Declined
from inference.testing import ADULT, NOW

from . import tiny_models as tiny
from .test_runner_tabular import refusal
from .tiny_models import NOTE, bring, transformer_files

LABELS = ("home", "icu", "ward")
TAGS = ("O", "B-DRUG", "I-DRUG")
PARTS: Mapping[str, Any] = tiny.RISK | {
    "kind": "spans",
    "bands": [{"name": "none", "at_least": 0}, {"name": "some", "at_least": 1}],
}


def text(words: str = NOTE["text"]) -> TextInput:
    return TextInput(
        subject=ADULT,
        text=words,
        document_type="",
        language="en",
        sources=("DocumentReference/1/_history/1",),
        authored_at=NOW,
        at=NOW,
    )


def brought(
    tmp_path: Path,
    files: Mapping[str, bytes],
    task: str = "sequence",
    outputs: Sequence[Mapping[str, Any]] = (tiny.CLASSES,),
    **options: Any,
) -> Path:
    return bring(
        tmp_path / "tiny",
        {"kind": "transformers", "task": task, **options},
        files,
        outputs=outputs,
        inputs={"name": "note", "kind": "text"},
        trigger={"kind": "document", "document_types": ["18842-5"]},
        golden=NOTE,
    )


def logits(folder: Path, task: str, words: str = NOTE["text"]) -> Any:
    """Return what the library itself computes from the same files."""
    import transformers

    kinds = {"sequence": transformers.BertForSequenceClassification, "token": transformers.BertForTokenClassification}
    ids = [2, *(tiny.WORDS.index(word) for word in words.lower().replace(".", " .").split()), 3]
    with torch.no_grad():
        return kinds[task].from_pretrained(folder)(input_ids=torch.tensor([ids])).logits[0]


def test_classes_of_a_document(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    detail = infer(load_model(brought(tmp_path, files)), text()).outputs[0].detail
    assert isinstance(detail, ClassSet)
    expected = torch.softmax(logits(tmp_path / "saved", "sequence"), -1).tolist()
    assert [name for name, _ in detail.probabilities] == list(LABELS)
    assert [share for _, share in detail.probabilities] == pytest.approx(expected, abs=1e-6)


def test_the_answer_does_not_depend_on_what_else_is_in_the_batch(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    runner = load_model(brought(tmp_path, files))
    short, long = (runner.decode(text(words)).item for words in ("fever", NOTE["text"]))
    alone, together = runner.predict(runner.batch([short])), runner.predict(runner.batch([short, long]))
    assert np.allclose(alone[0], together[0], atol=1e-6)


def test_the_probability_of_one_class(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    said = refusal(lambda: brought(tmp_path / "silent", files, outputs=[tiny.RISK]))
    assert said == "model.yaml.runner.positive must name the class of the probability, one of: home, icu, ward"
    folder = brought(tmp_path, files, outputs=[tiny.RISK], positive="icu")
    expected = torch.softmax(logits(tmp_path / "saved", "sequence"), -1)[1].item()
    assert infer(load_model(folder), text()).outputs[0].value == pytest.approx(expected, abs=1e-6)


def test_parts_of_a_document(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "token", TAGS)
    detail = infer(load_model(brought(tmp_path, files, "token", [PARTS])), text()).outputs[0].detail
    assert isinstance(detail, Spans)
    tags = [TAGS[number] for number in logits(tmp_path / "saved", "token").argmax(-1).tolist()[1:-1]]
    marked = [tag != "O" for tag in tags]
    words = [(0, 2), (3, 8), (8, 9), (10, 15), (16, 23), (24, 29), (29, 30)]
    covered = [any(span.start <= start and end <= span.end for span in detail.spans) for start, end in words]
    assert covered == marked
    assert {span.label for span in detail.spans} <= {"DRUG"}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B-DRUG", "I-DRUG", "O"], [(3, 8, "DRUG")]),
        (["B-DRUG", "B-DRUG", "O", "I-DRUG"], [(0, 2, "DRUG"), (3, 5, "DRUG"), (9, 12, "DRUG")]),
        (["DRUG", "DRUG", "DOSE", "O"], [(0, 5, "DRUG"), (6, 8, "DOSE")]),
        (["O", "O", "O", "O"], []),
    ],
)
def test_tokens_of_one_class_are_joined(tags: Sequence[str], expected: Sequence[tuple[int, int, str]]) -> None:
    from inference.runners.text import _spans

    places = [None, (0, 2), (3, 5), (6, 8), (9, 12), None]
    assert [(span.start, span.end, span.label) for span in _spans(["O", *tags, "O"], places)] == list(expected)


def test_a_text_that_is_too_long_is_declined_or_shortened_as_declared(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    with pytest.raises(Declined, match=r"the text is longer than the model reads \(22 tokens; 16 at most\)"):
        infer(load_model(brought(tmp_path / "declines", files)), text("fever " * 20))
    folder = brought(tmp_path, files, long="first", max_tokens=10)
    (output,) = infer(load_model(folder), text("fever " * 20)).outputs
    assert "Only the first 10 tokens of the text were read." in output.text


def test_code_beside_the_files_is_never_looked_for(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    config = json.loads(files["huggingface/config.json"])
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling--evil.Model"}
    folder = brought(tmp_path, {**files, "huggingface/config.json": json.dumps(config).encode()})
    assert infer(load_model(folder), text()).outputs


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            {"model_type": "evil"},
            "huggingface/config.json: model_type evil is not run; it must be one of: albert, bert,",
        ),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}},
            "model.yaml.outputs[0].bands must be named, in this order: a, b, c",
        ),
        ({"hidden_size": 7}, "huggingface/config.json and huggingface/model.safetensors make no network"),
        ({"hidden_size": 16}, "huggingface/config.json and huggingface/model.safetensors make no network"),
        ({"num_hidden_layers": 2}, "huggingface/model.safetensors lacks bert.encoder.layer.1."),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], detail: str) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    config = json.dumps(json.loads(files["huggingface/config.json"]) | change).encode()
    said = refusal(lambda: brought(tmp_path, {**files, "huggingface/config.json": config}))
    assert said.startswith(detail)


def test_a_pickle_in_place_of_safetensors_is_named(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    weights = files.pop("huggingface/model.safetensors")
    said = refusal(lambda: brought(tmp_path, {**files, "huggingface/pytorch_model.bin": weights}))
    assert said == (
        "model.yaml.runner: transformers needs the file huggingface/model.safetensors; "
        "the folder has huggingface/config.json, huggingface/pytorch_model.bin, huggingface/tokenizer.json"
    )


def test_a_tokenizer_that_is_missing_is_named(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "sequence", LABELS)
    del files["huggingface/tokenizer.json"]
    said = refusal(lambda: brought(tmp_path, files))
    assert said == "the folder has no huggingface/tokenizer.json, which save_pretrained writes"


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    files = transformer_files(tmp_path / "saved", "token", TAGS)
    said = refusal(lambda: brought(tmp_path, files, outputs=[tiny.RISK], positive="O"))
    assert said.startswith("huggingface/model.safetensors lacks bert.pooler.dense.")
