"""``tables/summaries.json``: the elements that R4 4.0.1 marks ``isSummary``, by the structure that has them.

Made by ``python -m fhir_adapter.validation.summaries DEFINITIONS``, a folder with ``structure-definitions.ndjson``. A
structure all of whose elements are marked has ``*``.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fhir_adapter.validation.compile import lines
from fhir_adapter.validation.definitions import Node, tree

ALL: Final = "*"


def compiled(definitions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the table of some StructureDefinitions, in the order of their types."""
    found: dict[str, str] = {}
    for definition in sorted(definitions, key=lambda it: str(it["type"])):
        if definition["kind"] != "primitive-type":
            found |= dict(_marked(tree(definition)))
    return found


def rendered(table: Mapping[str, str]) -> str:
    """Return the file's text, with one structure a line."""
    rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(names)}" for name, names in table.items())
    return f"{{\n{rows}\n}}\n"


@cache
def summaries() -> Mapping[str, frozenset[str]]:
    """Return the names of the marked elements of each structure."""
    content = json.loads(files("fhir_adapter.validation").joinpath("tables/summaries.json").read_bytes())
    return {name: frozenset(names.split()) for name, names in content.items()}


def _marked(node: Node) -> Iterator[tuple[str, str]]:
    marked = [name for name, part in node.parts.items() if part.definition.get("isSummary")]
    own = {"id", "extension"}
    everything = {*marked, *own} >= node.parts.keys()
    yield node.definition["path"], ALL if everything else " ".join(marked)
    for part in node.parts.values():
        if part.parts:
            yield from _marked(part)


if __name__ == "__main__":
    target = Path(__file__).parent / "tables" / "summaries.json"
    target.write_text(rendered(compiled(lines(Path(sys.argv[1]) / "structure-definitions.ndjson"))), encoding="utf-8")
