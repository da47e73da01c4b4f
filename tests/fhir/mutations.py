"""Changes of valid resources, from a seed: most make a resource invalid, some leave it valid."""

import copy
import random
from collections.abc import Iterator
from typing import Any

WRONG: tuple[Any, ...] = (
    *("", " ", "x y", "a\u00a0b", "true", "1", "2026-02-30", "2026-02", "2026-02-01T10:00:00", "2026-02-01T10:00Z"),
    *("2026-02-01T24:00:00Z", "10:00", "http://x.org/a b", "banana", "#nothing", "Encounter/1", "x" * 70),
    *(True, 0, -1, 5, 2.5, 2**40, [], {}, {"id": "x"}, [None], [[]], ["x"], {"colour": "red"}),
    *({"value": 1}, {"reference": 5}, {"url": "http://x.org", "valueString": "x"}),
)


def mutated(resource: dict[str, Any], seed: str) -> dict[str, Any]:
    """Return a copy with one change."""
    chance = random.Random(seed)
    changed = copy.deepcopy(resource)
    parent, key = chance.choice(list(places(changed)))
    change = chance.choice((_drop, _replace, _replace, _wrap, _unknown, _second_type, _beside, _twice))
    change(parent, key, chance)
    return changed


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every place of the resource but its type: container and key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(items):
        if key == "resourceType":
            continue
        yield value, key
        if isinstance(child, dict | list):
            yield from places(child)


def _drop(parent: Any, key: Any, _: random.Random) -> None:
    del parent[key]


def _replace(parent: Any, key: Any, chance: random.Random) -> None:
    parent[key] = copy.deepcopy(chance.choice(WRONG))


def _wrap(parent: Any, key: Any, _: random.Random) -> None:
    value = parent[key]
    parent[key] = value[0] if isinstance(value, list) and value else [value]


def _unknown(parent: Any, key: Any, _: random.Random) -> None:
    if isinstance(parent, dict):
        parent["colour"] = parent[key]


def _second_type(parent: Any, key: Any, _: random.Random) -> None:
    if isinstance(parent, dict):
        parent.setdefault("valueString", "x")


def _beside(parent: Any, key: Any, chance: random.Random) -> None:
    if isinstance(parent, dict):
        extension = {"extension": [{"url": "http://x.org", "valueBoolean": True}]}
        parent[f"_{key}"] = chance.choice((extension, {"id": "a"}, {}, "x", [extension], [None]))


def _twice(parent: Any, key: Any, _: random.Random) -> None:
    if isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
