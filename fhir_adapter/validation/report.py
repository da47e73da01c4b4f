"""Everything that can be said of a resource by R4 and by profiles, for ``$validate``.

R4, resource-operation-validate.html. An error is what R4 or a profile forbids, a warning what they advise against, and
information what was not checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from fhir_adapter.validation.definitions import Json
from fhir_adapter.validation.profile import Profile
from fhir_adapter.validation.profiles import Profiles
from fhir_adapter.validation.records import Fault
from fhir_adapter.validation.structure import Checks

MOST_FINDINGS: Final = 200
"""Most findings of one report."""
MOST_PROFILES: Final = 10
"""Most profiles that a resource is checked against: those that are asked for, then those that it claims."""
MOST_BYTES: Final = 4 * 2**20
"""Most bytes of a resource times profiles: a large one is checked against fewer, and against one in any case."""
_MOST_EXTENSIONS: Final = 2000
_EXTENSIONS: Final = ("extension", "modifierExtension")


class Finding(NamedTuple):
    """One thing that is said of a resource."""

    #: ``OperationOutcome.issue.severity``.
    severity: str
    #: ``OperationOutcome.issue.code``.
    code: str
    text: str
    #: Such as ``.component[0].code``.
    path: str = ""


_UNKNOWN: Final = "the profile is not known here"
_OTHER_TYPE: Final = "the profile is not one of this resource type"
_EXTENSION: Final = Finding("information", "informational", "the definition of this extension is not known here")
_MODIFIER: Final = Finding(
    "warning", "extension", "the definition of this modifierExtension is not known here, and it changes what is said"
)


def report(checks: Checks, profiles: Profiles, resource: Json, wanted: Sequence[str]) -> list[Finding]:
    """Return what is to be said of a resource, each thing once, errors first.

    Parameters
    ----------
    checks
        R4.
    profiles
        The profiles that are known.
    resource
        Plain JSON.
    wanted
        Canonicals of profiles to check it against, beside those in ``meta.profile``.
    """
    found = list(_errors(checks.resource(resource) or ()))
    if resource.get("resourceType") not in checks.definitions.resources:
        return found
    asked = [(canonical, "", "error") for canonical in dict.fromkeys(wanted)]
    asked += [(canonical, f".meta.profile[{index}]", "warning") for canonical, index in _claimed(resource).items()]
    most = max(1, min(MOST_PROFILES, MOST_BYTES // len(orjson.dumps(resource))))
    if len(asked) > most:
        found.append(Finding("information", "too-costly", f"of a resource of this size {most} profiles are checked"))
    for canonical, path, severity in asked[:most]:
        profile = profiles.find(canonical)
        found += _of_profile(profile, resource, path) if profile else [Finding(severity, "not-found", _UNKNOWN, path)]
    found += _of_extensions(profiles, resource)
    order = ("error", "warning", "information")
    return sorted(dict.fromkeys(found), key=lambda it: order.index(it.severity))[:MOST_FINDINGS]


def _errors(faults: Sequence[Fault], path: str = "") -> Iterator[Finding]:
    return (Finding("error", it.code, it.text, path + it.path) for it in faults)


def _claimed(resource: Json) -> dict[str, int]:
    """Return the profiles that a resource claims, each once, with its place."""
    meta = resource.get("meta")
    claimed = meta.get("profile") if isinstance(meta, dict) else None
    found: dict[str, int] = {}
    for index, canonical in enumerate(claimed if isinstance(claimed, list) else ()):
        if isinstance(canonical, str):
            found.setdefault(canonical, index)
    return found


def _of_profile(profile: Profile, resource: Json, path: str = "") -> Iterator[Finding]:
    if profile.type != resource["resourceType"]:
        yield Finding("error", "structure", _OTHER_TYPE, path)
        return
    faults = profile.faults(resource) or []
    yield from _errors(faults)
    for it in profile.warnings(resource, faults):
        yield Finding("warning", it.code, it.text, it.path)
    for name, what in profile.unchecked:
        steps = [step.partition(":")[0].removesuffix("[x]") for step in name.split(".")[1:]]
        if _has(resource, steps):
            yield Finding("information", "informational", f"{what} not checked", "".join(f".{it}" for it in steps))


def _has(value: Any, steps: Sequence[str]) -> bool:
    """Return whether an element of a path is there; a choice has the name of its type behind its own."""
    if not steps:
        return True
    items = value if isinstance(value, list) else [value]
    return any(
        _has(below, steps[1:])
        for item in items
        if isinstance(item, dict)
        for name, below in item.items()
        if name == steps[0] or (name.startswith(steps[0]) and name[len(steps[0])].isupper())
    )


def _of_extensions(profiles: Profiles, resource: Json) -> Iterator[Finding]:
    """Check each extension by the profile that its URL names."""
    for path, extension, is_modifier in islice(_extensions(resource, ""), _MOST_EXTENSIONS):
        url = extension.get("url")
        if not isinstance(url, str) or ":" not in url:
            continue  # part of a complex extension, whose profile checks it
        profile = profiles.find(url)
        if profile is None or profile.type != "Extension":
            yield (_MODIFIER if is_modifier else _EXTENSION)._replace(path=path)
        else:
            yield from _errors(profile.faults(extension) or (), path)


def _extensions(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Return all extensions; documents have at most 64 levels, which bounds the recursion."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _extensions(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, below in value.items():
            if name in _EXTENSIONS and isinstance(below, list):
                for index, item in enumerate(below):
                    if isinstance(item, dict):
                        yield f"{path}.{name}[{index}]", item, name == "modifierExtension"
            if isinstance(below, list | dict):
                yield from _extensions(below, f"{path}.{name.removeprefix('_')}")
