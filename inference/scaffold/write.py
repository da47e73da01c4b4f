"""The skeleton of a folder: what the file says, and ``FILL-IN`` where only a person knows."""

from pathlib import Path
from typing import Final

import yaml

from inference.features.spec import parse_features
from inference.folder import FEATURES, FILL_IN, MANIFEST
from inference.manifest.parse import NAME
from inference.scaffold.found import Found, numbered
from inference.yaml_mapping import read_yaml
from kernel.errors import Category, Problem

_MODEL: Final = """\
# Replace every FILL-IN, then run: ausculta models verify FOLDER --record
name: {name}
version: 1.0.0
title: FILL-IN # one line, for clinicians
intended_use: FILL-IN # for which decision, about which patients, by whom
owner: FILL-IN # who answers for the model
demonstration: false
users: [FILL-IN] # who may act on its results
{trigger}
inputs:
{inputs}
runner: {runner}
outputs:
{outputs}
limits: {{}} # such as {{min_age_years: 18}}; outside of them the model declines
warnings: {warnings}
change_plan:
  allowed: []
  acceptance: [every golden case gives the same answer as before]
"""

_OUTPUT: Final = """\
  - name: {name}
    system: FILL-IN # code system of the code below, such as http://snomed.info/sct
    code: FILL-IN
    display: {display}
    kind: {kind} # probability, score or class-set
    future: {future} # true: risk of an event to come; false: a finding that is present now
    bands: # from low to high{bands}"""

_TRIGGERS: Final = {
    "facts": "trigger: {kind: codes, codes: [FILL-IN]} # the model runs when one of these codes arrives",
    "series": "trigger: {kind: codes, codes: [FILL-IN]} # the model runs when one of these codes arrives",
    "image": "trigger: {kind: study}",
    "text": "trigger: {kind: document, document_types: [FILL-IN]} # LOINC codes of documents",
}

_FEATURE: Final = """\
  - name: {name}
    title: {name}
    window: {{take: last, hours: FILL-IN}} # take: last, min, max, mean or count, of so many hours
    missing: refuse # or: nan, or: {{default: 1.0}}
    sources:
      - {{code: FILL-IN, unit: FILL-IN, plausible: [FILL-IN, FILL-IN]}} # LOINC code; UCUM unit as trained
"""

_AGE: Final = """\
  - {{name: {name}, title: {name}, subject: {name}, missing: refuse}}
"""


def check_features(found: Found, content: bytes) -> None:
    """Return when features are those that a file takes, by their names where it names them.

    Parameters
    ----------
    found
        What the file says.
    content
        Of ``features.yaml``.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is wrong or the first feature that differs; for what reads no features.
    """
    if found.input not in {"facts", "series"}:
        raise Problem(Category.INCORRECT, f"{found.file} reads {found.input} and takes no features")
    names = [spec.name for spec in parse_features(read_yaml(FEATURES, content))]
    if len(names) != len(found.features):
        detail = f"{FEATURES}.features has {len(names)} entries; {found.file} takes {len(found.features)} features"
        raise Problem(Category.INCORRECT, detail)
    if found.features == numbered(len(names)):
        return
    for place, (name, trained) in enumerate(zip(names, found.features, strict=True)):
        if name != trained:
            detail = f"{FEATURES}.features[{place}].name must be {trained}, as in {found.file}, and not {name}"
            raise Problem(Category.INCORRECT, detail)


def write_folder(folder: Path, name: str, found: Found, features: bytes | None = None) -> None:
    """Write the skeleton of a model folder.

    Parameters
    ----------
    folder
        Where; it must not exist.
    name
        Of the model.
    found
        What its file says, and what is copied.
    features
        Content of the ``features.yaml`` that the model was trained with; a skeleton is written when None.

    Raises
    ------
    Problem
        ``incorrect`` when it is no name of a model; ``conflict`` when the folder exists; ``unavailable`` when
        it cannot be written.
    """
    if NAME.fullmatch(name) is None:
        raise Problem(Category.INCORRECT, f"the name must have the form {NAME.pattern}")
    if folder.exists():
        raise Problem(Category.CONFLICT, f"{folder.name} exists already; remove it or choose another name")
    try:
        (folder / "golden").mkdir(parents=True)
        (folder / MANIFEST).write_text(_manifest(name, found), encoding="utf-8")
        if found.input in {"facts", "series"}:
            (folder / FEATURES).write_bytes(_features(found).encode() if features is None else features)
        for file, content in found.files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content)
    except OSError as failure:
        raise Problem(Category.UNAVAILABLE, f"{folder.name} cannot be written", diagnostics=repr(failure)) from failure


def _manifest(name: str, found: Found) -> str:
    options = {"kind": found.runner, **found.options}
    runner = _inline(options) if found.options else found.runner
    return _MODEL.format(
        name=name,
        trigger=_TRIGGERS[found.input],
        inputs=_inputs(found),
        runner=runner + _hint(found),
        outputs="\n".join(_outputs(found)),
        warnings=_inline(list(found.warnings)),
    )


def _outputs(found: Found) -> list[str]:
    bands = "".join(f"\n      - {band}" for band in _bands(found))
    if not found.findings:
        return [_OUTPUT.format(name="result", display=FILL_IN, kind=found.output, future=FILL_IN, bands=bands)]
    return [
        _OUTPUT.format(
            name=_inline(name.lower().replace(" ", "-")),
            display=_inline(name),
            kind=found.output,
            future="false",
            bands=bands,
        )
        for name in found.findings
    ]


def _inputs(found: Found) -> str:
    if found.input == "series":
        return f"  - {{name: series, kind: series, hours: FILL-IN, step_hours: FILL-IN}} # {found.size[0]} steps"
    if found.input == "image":
        return "  - {name: image, kind: image, modalities: [FILL-IN], body_parts: [FILL-IN]} # such as DX, and CHEST"
    if found.input == "text":
        return "  - {name: text, kind: text, document_types: [FILL-IN]} # LOINC codes of documents"
    return "  - {name: facts, kind: facts}"


def _hint(found: Found) -> str:
    hints = {
        "positive": f"positive: which class the probability is of: {', '.join(found.classes)}",
        "transform": "transform: none where the file gives probabilities, sigmoid or softmax where it gives logits",
        "network": "network: one of those in docs/reference/models.md",
        "output": "output: which of the file's outputs counts",
    }
    shown = [text for key, text in hints.items() if found.options.get(key) == FILL_IN]
    notes = "".join(f"\n# {note}" for note in found.notes)
    return (f" # {'; '.join(shown)}" if shown else "") + notes


def _bands(found: Found) -> list[str]:
    if found.output == "class-set":
        return [_inline({"name": name}) for name in found.classes]
    if found.findings:
        return ["{name: unlikely, at_least: 0}", "{name: likely, at_least: 0.5}"]
    if found.output == "spans":
        return ["{name: none, at_least: 0}", "{name: some, at_least: 1}"]
    lowest = "0" if found.output == "probability" else FILL_IN
    return [f"{{name: low, at_least: {lowest}}}", "{name: high, at_least: FILL-IN}"]


def _features(found: Found) -> str:
    parts = [(_AGE if name in {"age", "sex"} else _FEATURE).format(name=_inline(name)) for name in found.features]
    return f"# In the order in which {found.file} takes them.\nfeatures:\n" + "".join(parts)


def _inline(value: object) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
