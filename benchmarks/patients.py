"""Many patients of a few: ``python -m benchmarks.patients BUNDLES FOLDER --patients 1000`` writes NDJSON by type.

Each copy of a patient has ids, names, identifiers and dates of its own; organisations, practitioners and locations are
shared. The same arguments give the same files.
"""

import argparse
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Any, Final

import orjson

Json = dict[str, Any]

SHARED: Final = frozenset({"Location", "Organization", "Practitioner", "PractitionerRole"})
"""Types that are the same for all patients."""
_DATE: Final = re.compile(r"(\d{4}-\d\d-\d\d)(T.*)?")
_IDS: Final = uuid.UUID("6c1f0a52-9f1e-4b0b-9a0a-5f2d7c7e1f11")
_LONGEST_SHIFT: Final = 3650


def patients(bundles: Path, number: int) -> Iterator[Json]:
    """Yield the resources of as many patients, each after those it is about.

    Parameters
    ----------
    bundles
        Folder of transaction Bundles of R4, one patient each.
    number
        How many patients.
    """
    originals = [found for file in sorted(bundles.glob("*.json")) if (found := _resources(file))]
    seen: set[str] = set()
    for copy in range(number):
        for resource in _copied(originals[copy % len(originals)], copy // len(originals)):
            key = f"{resource['resourceType']}/{resource['id']}"
            if key not in seen or resource["resourceType"] not in SHARED:
                seen.update({key} if resource["resourceType"] in SHARED else ())
                yield resource


def _resources(file: Path) -> list[Json]:
    """Return the resources of a Bundle of one patient; none of a Bundle of another kind or of an earlier FHIR."""
    entries = orjson.loads(file.read_bytes())["entry"]
    resources = [entry["resource"] for entry in entries]
    names = {entry["fullUrl"]: f"{it['resourceType']}/{it['id']}" for entry, it in zip(entries, resources, strict=True)}
    is_r4 = not any("context" in it for it in resources if it["resourceType"] == "Observation")
    if not is_r4 or not any(it["resourceType"] == "Patient" for it in resources):
        return []
    return [_referring(resource, names) for resource in resources]


def _referring(value: Any, names: dict[str, str]) -> Any:
    """Replace the references within a Bundle by those of the resources."""
    if isinstance(value, dict):
        return {key: _referring(it, names) for key, it in value.items() if key != "text" or not isinstance(it, dict)}
    if isinstance(value, list):
        return [_referring(it, names) for it in value]
    return names.get(value, value) if isinstance(value, str) else value


def _copied(resources: list[Json], copy: int) -> Iterator[Json]:
    names: dict[str, str] = {}
    for resource in resources:
        if resource["resourceType"] not in SHARED:
            names[resource["id"]] = str(uuid.uuid5(_IDS, f"{copy} {resource['id']}"))
    names |= {
        f"{it['resourceType']}/{it['id']}": f"{it['resourceType']}/{names[it['id']]}"
        for it in resources
        if it["id"] in names
    }
    shift = timedelta(days=-(copy * 37 % _LONGEST_SHIFT))
    for resource in resources:
        if resource["resourceType"] in SHARED:
            yield resource
            continue
        made = _changed(resource, names, shift)
        if made["resourceType"] == "Patient":
            for name in made["name"]:
                name["family"] = f"{name['family']}-{copy}"
            for identifier in made.get("identifier", ()):
                identifier["value"] = f"{identifier['value']}-{copy}"
        yield made


def _changed(value: Any, names: dict[str, str], shift: timedelta) -> Any:
    """Return a copy with other ids and dates."""
    if isinstance(value, dict):
        return {key: _changed(it, names, shift) for key, it in value.items()}
    if isinstance(value, list):
        return [_changed(it, names, shift) for it in value]
    if not isinstance(value, str):
        return value
    if (match := _DATE.fullmatch(value)) is not None:
        return f"{(date.fromisoformat(match[1]) + shift).isoformat()}{match[2] or ''}"
    return names.get(value, value)


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=1000)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    written = 0
    with ExitStack() as opened:
        files: dict[str, IO[bytes]] = {}
        for resource in patients(given.bundles, given.patients):
            kind = resource["resourceType"]
            if kind not in files:
                files[kind] = opened.enter_context((given.folder / f"{kind}.ndjson").open("wb"))
            files[kind].write(orjson.dumps(resource) + b"\n")
            written += 1
    print(f"{written} resources of {given.patients} patients")


if __name__ == "__main__":
    main()
