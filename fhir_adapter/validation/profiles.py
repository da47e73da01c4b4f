"""The profiles that a server knows: those that are shipped, and those of packages that a site adds.

A package is a file of lines (:mod:`fhir_adapter.validation.packages`). A profile is compiled when it is first
asked for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Final

import orjson

from fhir_adapter.validation.definitions import Json
from fhir_adapter.validation.profile import Profile, compile_profile
from fhir_adapter.validation.records import Definitions

SHIPPED: Final = ("r4", "us-core", "balp", "ai-transparency")
"""The packages below ``tables/profiles``."""


class Profiles:
    """Compiled profiles by their canonical; one instance is shared by threads.

    Parameters
    ----------
    base
        R4.
    folder
        Where a site's packages are; None for none. One that is added or replaced is read at the next question.
    """

    def __init__(self, base: Definitions, folder: Path | None = None) -> None:
        self._r4 = base
        self._folder = folder
        self._lock = Lock()
        self._seen: Mapping[str, int] | None = None
        self._definitions: Mapping[str, Json] = {}
        self._base = base
        self._compiled: dict[str, Profile] = {}

    def find(self, canonical: str) -> Profile | None:
        """Return a profile; None when it is not known.

        Parameters
        ----------
        canonical
            Its URL, with or without a version.
        """
        url, _, version = canonical.partition("|")
        with self._lock:
            self._read()
            definition = self._definitions.get(url)
            if definition is None or (version and version != definition.get("version")):
                return None
            if url not in self._compiled:
                self._compiled[url] = compile_profile(definition, self._base, self._definitions)
            return self._compiled[url]

    def urls(self) -> list[str]:
        """Return the canonicals of all profiles."""
        with self._lock:
            self._read()
            return sorted(self._definitions)

    def _read(self) -> None:
        found = sorted(self._folder.glob("*.ndjson")) if self._folder and self._folder.is_dir() else []
        seen = {path.name: path.stat().st_mtime_ns for path in found}
        if seen == self._seen:
            return
        shipped = files("fhir_adapter.validation").joinpath("tables/profiles")
        contents = [shipped.joinpath(f"{name}.ndjson").read_bytes() for name in SHIPPED]
        lines = [orjson.loads(line) for content in contents for line in content.splitlines()]
        lines += [orjson.loads(line) for path in found for line in path.read_bytes().splitlines()]
        self._definitions = {it["url"]: it for it in lines if it["resourceType"] == "StructureDefinition"}
        self._base = replace(self._r4, value_sets={**self._r4.value_sets, **_sets(lines)})
        self._compiled = {}
        self._seen = seen


def _sets(lines: Iterable[Json]) -> dict[str, Mapping[str, frozenset[str]]]:
    return {
        it["url"]: {system: frozenset(codes) for system, codes in it["codes"].items()}
        for it in lines
        if it["resourceType"] == "ValueSet"
    }
