"""Reads packages of profiles, and keeps of them what the compiler of profiles needs.

A package is a folder or a ``.tgz`` of FHIR's package format with StructureDefinitions, ValueSets and CodeSystems, as
JSON files or NDJSON. What is kept is a line of JSON each: :func:`reduced` says what of a StructureDefinition, and a
value set is written with its codes by code system. The profiles that are shipped have the same form.
"""

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from fhir_adapter.validation.compile import listed_codes
from fhir_adapter.validation.definitions import Json, tree
from kernel.errors import Category, Problem

LARGEST_PACKAGE: Final = 512 * 2**20
"""Most bytes of a package, unpacked."""
_KINDS: Final = frozenset({"StructureDefinition", "ValueSet", "CodeSystem"})
_OF_DEFINITION: Final = ("resourceType", "url", "version", "type", "derivation")
_OF_ELEMENT: Final = ("id", "path", "min", "max", "type", "contentReference")
_OF_CONSTRAINT: Final = ("key", "severity", "human", "expression")
_NO_SNAPSHOT: Final = "a profile of the package has only a differential; a package with snapshots is needed"


def resources(path: Path) -> Iterator[Json]:
    """Return the StructureDefinitions, ValueSets and CodeSystems of a package.

    Parameters
    ----------
    path
        A folder, or a ``.tgz``.

    Raises
    ------
    Problem
        ``incorrect`` for a file that is no package, or that is too large; ``not-found`` when there is none.
    """
    if not path.exists():
        raise Problem(Category.NOT_FOUND, "there is no file or folder with this name")
    left = LARGEST_PACKAGE
    for name, content in _of_folder(path) if path.is_dir() else _of_archive(path):
        left -= len(content)
        if left < 0:
            raise Problem(Category.INCORRECT, f"the package has more than {LARGEST_PACKAGE} bytes")
        for text in content.splitlines() if name.endswith(".ndjson") else (content,):
            resource = _read(text)
            if resource.get("resourceType") in _KINDS and "url" in resource:
                yield resource


def _read(text: bytes) -> Json:
    try:
        resource = orjson.loads(text)
    except orjson.JSONDecodeError as failure:
        raise Problem(Category.INCORRECT, "a file of the package is not JSON") from failure
    return resource if isinstance(resource, dict) else {}


def _of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".ndjson"} and path.is_file():
            yield path.name, path.read_bytes()


def _of_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and member.name.endswith((".json", ".ndjson")):
                    yield member.name, file.read(LARGEST_PACKAGE + 1)
    except (tarfile.TarError, OSError, EOFError) as failure:
        raise Problem(Category.INCORRECT, "the file is no package: a .tgz is expected") from failure


def packed(found: Iterable[Json]) -> bytes:
    """Return the lines of a package.

    Parameters
    ----------
    found
        StructureDefinitions, ValueSets and CodeSystems.

    Raises
    ------
    Problem
        ``incorrect`` for a profile without a snapshot, or with one that lacks an element.
    """
    kept = list(found)
    lines = [reduced(it) for it in kept if it["resourceType"] == "StructureDefinition" and it.get("derivation")]
    profiles = [it for it in lines if it["derivation"] == "constraint"]
    if not profiles:
        raise Problem(Category.INCORRECT, "the package has no profile")
    codes = listed_codes(it for it in kept if it["resourceType"] != "StructureDefinition")
    sets = [{"resourceType": "ValueSet", "url": url, "codes": found} for url, found in sorted(codes.items())]
    return written([*profiles, *sets])


def written(lines: Iterable[Json]) -> bytes:
    """Return lines as NDJSON."""
    out = io.BytesIO()
    for line in lines:
        out.write(orjson.dumps(line) + b"\n")
    return out.getvalue()


def reduced(definition: Json) -> dict[str, Any]:
    """Return what is needed of a StructureDefinition.

    Parameters
    ----------
    definition
        The StructureDefinition.

    Raises
    ------
    Problem
        ``incorrect`` when it has no snapshot, or one that lacks an element which others are parts of.
    """
    if "element" not in definition.get("snapshot", {}):
        raise Problem(Category.INCORRECT, _NO_SNAPSHOT)
    elements = [_element(it) for it in definition["snapshot"]["element"]]
    kept = {name: definition[name] for name in _OF_DEFINITION if name in definition}
    short = kept | {"snapshot": {"element": elements}}
    try:
        tree(short)
    except (ValueError, KeyError, IndexError) as failure:
        raise Problem(Category.INCORRECT, "the snapshot of a profile of the package lacks an element") from failure
    return short


def _element(definition: Json) -> dict[str, Any]:
    found = {name: definition[name] for name in _OF_ELEMENT if name in definition}
    found["base"] = {name: definition.get("base", definition)[name] for name in ("path", "max")}
    found |= {name: value for name, value in definition.items() if name.startswith(("fixed", "pattern"))}
    bound = definition.get("binding", {})
    if bound.get("strength") in {"required", "extensible", "preferred"} and "valueSet" in bound:
        found["binding"] = {"strength": bound["strength"], "valueSet": bound["valueSet"]}
    rules = [
        {name: it[name] for name in _OF_CONSTRAINT if name in it}
        for it in definition.get("constraint", ())
        if it["key"] not in {"ele-1", "ext-1"}
    ]
    slicing = definition.get("slicing", {})
    found |= {"constraint": rules} if rules else {}
    kept = {name: slicing[name] for name in ("discriminator", "rules", "ordered") if name in slicing}
    return found | ({"slicing": kept} if kept else {})


def pruned(short: Mapping[str, Any], base: Mapping[str, Json], codes: Iterable[str]) -> dict[str, Any]:
    """Return a reduced profile without the elements that are as in their base definition.

    Parameters
    ----------
    short
        From :func:`reduced`.
    base
        Path -> element of the base definitions, reduced.
    codes
        Canonicals of the value sets whose codes are known: an element that is bound to one stays.
    """
    known = frozenset(codes)
    root, *elements = short["snapshot"]["element"]
    inherited = {it["key"] for it in base.get(root["path"], {}).get("constraint", ())}
    own = [it for it in root.get("constraint", ()) if it["key"] not in inherited]
    root = {name: value for name, value in root.items() if name != "constraint"} | ({"constraint": own} if own else {})
    kept: list[Json] = []
    for element in reversed(elements):
        has_parts = any(it["id"].startswith((element["id"] + ".", element["id"] + ":")) for it in kept)
        if has_parts or not _is_as(element, base.get(element["base"]["path"], {}), known):
            kept.append(element)
    return {**short, "snapshot": {"element": [root, *reversed(kept)]}}


def _is_as(element: Json, base: Json, known: frozenset[str]) -> bool:
    if ":" in element["id"].rsplit(".", 1)[-1] or "slicing" in element:
        return False
    bound = element.get("binding", {})
    if bound.get("strength") in {"extensible", "preferred"} and bound["valueSet"].split("|")[0] in known:
        return False
    rules = {it["key"] for it in base.get("constraint", ())}
    names = {*element, *base} - {"id", "path", "base", "constraint"}
    return all(element.get(it) == base.get(it) for it in names) and all(
        it["key"] in rules for it in element.get("constraint", ())
    )
