"""Writes ``tables/profiles/``: the profiles that are shipped. Their sources are not part of this project.

Run as ``python -m fhir_adapter.validation.compile_profiles DEFINITIONS PROFILES VALUE_SETS``. ``DEFINITIONS`` and
``VALUE_SETS`` are the folders of :mod:`fhir_adapter.validation.compile`. ``PROFILES`` has ``r4-profiles.ndjson``,
``r4-extensions.ndjson`` and ``us-core-5.0.1.ndjson`` (HL7, CC0) and the folder ``balp-fsh`` (IHE Basic Audit Log
Patterns, CC-BY-4.0). The rules of HL7 AI Transparency are written here, in ``tables/ai-transparency.fsh``.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fhir_adapter.validation.compile import lines, listed_codes, resources_of
from fhir_adapter.validation.definitions import Json
from fhir_adapter.validation.packages import pruned, reduced, written
from fhir_adapter.validation.shorthand import definitions

TABLES: Final = Path(__file__).parent / "tables"
PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "r4": ("r4-profiles.ndjson", "r4-extensions.ndjson"),
    "us-core": ("us-core-5.0.1.ndjson",),
}
_BALP: Final = "https://profiles.ihe.net/ITI/BALP"
_AI: Final = "http://hl7.org/fhir/uv/aitransparency"
_BALP_FILES: Final = (
    *("Aliases", "rules", "terms", "PatientCreate", "PatientRead", "PatientUpdate", "PatientDelete", "PatientQuery"),
    "Disclose",
)


def base_elements(folder: Path) -> dict[str, Json]:
    """Return the elements of R4's base definitions by their path."""
    found: dict[str, Json] = {}
    for definition in lines(folder / "structure-definitions.ndjson"):
        found |= {it["path"]: it for it in reduced(definition)["snapshot"]["element"]}
    return found


def packages(folder: Path, base: Mapping[str, Json], resources: Iterable[Json]) -> Iterator[tuple[str, bytes]]:
    """Return the name and lines of each package.

    Parameters
    ----------
    folder
        The profiles.
    base
        From :func:`base_elements`.
    resources
        ValueSets and CodeSystems.
    """
    codes = listed_codes(resources)
    for name, files in PACKAGES.items():
        found = [reduced(it) for file in files for it in lines(folder / file)]
        yield name, written(_with_sets([pruned(it, base, codes) for it in found], codes))
    balp = "\n".join((folder / "balp-fsh" / f"{name}.fsh").read_text(encoding="utf-8") for name in _BALP_FILES)
    own = (TABLES / "ai-transparency.fsh").read_text(encoding="utf-8")
    for name, text, canonical in (("balp", balp, _BALP), ("ai-transparency", own, _AI)):
        made = definitions(text, base, canonical)
        yield name, written(_with_sets([pruned(it, base, codes) for it in made if "snapshot" in it], codes, made))


def _with_sets(profiles: list[dict[str, Any]] | list[Json], codes: Any, own: Iterable[Json] = ()) -> list[Json]:
    """Return profiles, and the value sets that they bind to and whose codes are known."""
    known = codes | {it["url"]: it["codes"] for it in own if "codes" in it}
    used = {
        element["binding"]["valueSet"].split("|")[0]
        for profile in profiles
        for element in profile["snapshot"]["element"]
        if "binding" in element
    }
    sets = [{"resourceType": "ValueSet", "url": url, "codes": known[url]} for url in sorted(used & known.keys())]
    return [*sorted(profiles, key=lambda it: str(it["url"])), *sets]


def main(base: Path, profiles: Path, more: Path) -> None:
    """Write the tables.

    Parameters
    ----------
    base, profiles, more
        The three folders.
    """
    names = ("required-valuesets.ndjson", "required-codesystems.ndjson")
    resources = [*(it for name in names for it in lines(base / name)), *resources_of(more)]
    for name, content in packages(profiles, base_elements(base), resources):
        (TABLES / "profiles" / f"{name}.ndjson").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
