"""Models of each kind of input that answer with what they were given, so that a test sees what reached them.

No runner of the software reads a time series, a text or a study. :class:`EchoRunner` does, and a test puts it into the
table of runners; everything else of the models is a folder as an ML engineer would bring it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from inference.contract import FactsInput, ImageInput, ModelInput, SeriesInput, StudyInput, TextInput
from inference.finalize import finalize_folder
from inference.outputs import make_output
from inference.runners import RunnerKind
from inference.runners.base import Answer, Decoded, Runner

RUNNER: Final = {"echo": RunnerKind(module=__name__, name="EchoRunner")}
"""The entry of ``inference.runners.RUNNERS``."""

SUBJECT: Final = {"subject": {"reference": "Patient/golden"}, "at": "2026-01-15T12:00:00+00:00"}

FILM: Final = {"name": "film", "kind": "image", "modalities": ["DX"], "views": ["PA"]}
VITALS: Final = {"name": "vitals", "kind": "facts"}
NOTE: Final = {"name": "note", "kind": "text", "document_types": ["18842-5"]}
TREND: Final = {"name": "trend", "kind": "series", "hours": 4, "step_hours": 1}

GOLDEN: Final = MappingProxyType(
    {
        "series": {"series": {"features": ["pulse"], "step_hours": 1, "values": [[None], [70]]}},
        "text": {"text": "No fever."},
        "study": {"parts": {"note": {"text": "No fever."}}},
    }
)


class EchoRunner(Runner[str, Sequence[str], str]):
    """Answers with a description of its input."""

    def setup(self, device: str) -> None:
        pass

    def decode(self, given: ModelInput) -> Decoded[str]:
        return Decoded(item=described(given), inputs=(), shape=())

    def batch(self, items: Sequence[str]) -> Sequence[str]:
        return items

    def predict(self, batch: Sequence[str]) -> Sequence[str]:
        return batch

    def encode(self, item: str, raw: str) -> Answer:
        (spec,) = self.model.manifest.outputs
        return Answer(outputs=(make_output(spec, 1.0, band="low", text=f"given {raw}", notice=self.opening()),))


def described(given: ModelInput) -> str:
    """Say what an input holds: ``pulse - - 60 80``, ``text: No fever.``, ``image 256x256``."""
    if isinstance(given, SeriesInput):
        columns = zip(given.features, given.values.T, given.mask.T, strict=True)
        return "; ".join(
            " ".join([name, *(f"{value:g}" if seen else "-" for value, seen in zip(values, mask, strict=True))])
            for name, values, mask in columns
        )
    if isinstance(given, TextInput):
        return f"text: {given.text}"
    if isinstance(given, ImageInput):
        return "image {}x{}".format(*given.pixels.shape)
    if isinstance(given, FactsInput):
        return "facts " + ", ".join(sorted(f"{fact.code} {fact.value}" for fact in given.facts))
    assert isinstance(given, StudyInput)
    return " | ".join(f"{name} = {described(part)}" for name, part in given.parts.items())


def echo_model(folder: Path, trigger: dict[str, Any], declared: dict[str, Any]) -> Path:
    """Make the folder of a model, sealed, and return it; the folder's name is the model's.

    Parameters
    ----------
    folder
        Where it will lie.
    trigger, declared
        Its trigger and its one input, as in ``model.yaml``. A study's golden case has the part ``note`` alone.
    """
    (folder / "golden").mkdir(parents=True)
    manifest = {
        "name": folder.name,
        "version": "1.0.0",
        "title": "Echo",
        "intended_use": "Tests",
        "owner": "Tests",
        "demonstration": True,
        "users": ["tests"],
        "trigger": trigger,
        "inputs": [declared],
        "runner": "echo",
        "outputs": [
            {
                "name": "echo",
                "system": "urn:test",
                "code": "echo",
                "display": "Echo",
                "kind": "score",
                "future": False,
                "bands": [{"name": "low"}],
            }
        ],
        "limits": {},
        "change_plan": {"acceptance": ["nothing"]},
    }
    pulse = {
        "name": "pulse",
        "title": "pulse",
        "window": {"take": "last", "hours": 12},
        "missing": "nan",
        "sources": [{"code": "8867-4", "unit": "/min", "plausible": [0, 350]}],
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    if declared["kind"] != "text":
        (folder / "features.yaml").write_text(yaml.safe_dump({"features": [pulse]}))
    golden: dict[str, Any] = {"input": SUBJECT | GOLDEN[declared["kind"]]}
    missing = [part["name"] for part in declared.get("parts", ()) if part["name"] != NOTE["name"]]
    if missing:
        golden["declines"] = True
    (folder / "golden" / "one.json").write_text(json.dumps(golden))
    finalize_folder(folder, {"Evidence": "None: a test."})
    return folder
