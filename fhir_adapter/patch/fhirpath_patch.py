"""FHIRPath Patch (FHIR R4, fhirpatch.html): operations in a Parameters resource, each at a path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from fhir_adapter.patch.json_patch import MOST_OPERATIONS
from fhir_adapter.patch.paths import Place, Step, choice_key, element_of, path, places
from fhir_adapter.patch.values import Copies, Work
from fhir_adapter.store.document import Json
from fhir_adapter.store.operations import Patch
from fhir_adapter.store.problems import PatchFailed
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class _Value:
    """A value of an operation."""

    #: Its JSON; None for a primitive that has extensions alone.
    json: Any
    #: Id and extensions of a primitive.
    beside: Any = None
    #: The type, as in the name ``value[x]``; empty for a structure without a name of its own.
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class _Operation:
    steps: list[Step]
    #: The name that the path ends with.
    last: str
    name: str
    value: _Value | None
    numbers: Mapping[str, int]


def fhirpath_patch(parameters: Json) -> Patch:
    """Read a patch document.

    Parameters
    ----------
    parameters
        The Parameters resource: exact JSON.

    Raises
    ------
    Problem
        ``incorrect`` for what is no FHIRPath Patch.
    """
    given = parameters.get("parameter", [])
    if parameters.get("resourceType") != "Parameters" or not isinstance(given, list) or len(given) > MOST_OPERATIONS:
        raise Problem(Category.INCORRECT, f"a FHIRPath Patch is a Parameters with up to {MOST_OPERATIONS} operations")
    steps = [_read(parameter) for parameter in given]

    def patch(content: Json) -> Json:
        copies, work = Copies(), Work()
        root = Place(holder={"": content}, key="", type=str(content.get("resourceType", "")))
        for position, (carry_out, operation) in enumerate(steps):
            try:
                carry_out(root, operation, copies, work)
            except PatchFailed as failed:
                raise PatchFailed(f"operation {position}: {failed.detail}") from failed
        return content

    return patch


_CarryOut: TypeAlias = Callable[[Place, _Operation, Copies, Work], None]


def _read(parameter: Any) -> tuple[_CarryOut, _Operation]:
    given = parameter.get("part") if isinstance(parameter, dict) and parameter.get("name") == "operation" else None
    if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
        raise Problem(Category.INCORRECT, "each parameter of a FHIRPath Patch is an operation with parts")
    parts = {part.get("name"): part for part in given if isinstance(part.get("name"), str)}
    kind = _text(parts, "type", "valueCode")
    if kind not in _OPERATIONS:
        raise Problem(Category.INCORRECT, "the type of an operation is add, insert, delete, replace or move")
    needs, carry_out = _OPERATIONS[kind]
    missing = [name for name in needs if name not in parts]
    if missing:
        raise Problem(Category.INCORRECT, f"an operation of type {kind} needs the part {missing[0]}")
    steps, last = path(_text(parts, "path", "valueString"))
    operation = _Operation(
        steps=steps,
        last=last,
        name=_text(parts, "name", "valueString") if "name" in needs else "",
        value=_value(parts["value"]) if "value" in needs else None,
        numbers={name: _number(parts[name]) for name in ("index", "source", "destination") if name in needs},
    )
    return carry_out, operation


def _text(parts: Mapping[Any, Any], name: str, key: str) -> str:
    value = parts.get(name, {}).get(key) or parts.get(name, {}).get("valueString")
    if not isinstance(value, str):
        raise Problem(Category.INCORRECT, f"the part {name} of an operation has no {key}")
    return value


def _number(part: Mapping[str, Any]) -> int:
    try:
        number = int(part["valueInteger"])
    except (KeyError, TypeError, ValueError, OverflowError) as failure:
        raise Problem(Category.INCORRECT, "a place in a list is a valueInteger") from failure
    if not 0 <= number < 2**31:
        raise Problem(Category.INCORRECT, "a place in a list is not negative")
    return number


def _value(part: Mapping[str, Any]) -> _Value:
    """Read a value: ``value[x]``, a resource, or parts that are its elements."""
    if isinstance(part.get("part"), list):
        return _Value(json=_structure(part["part"]))
    if "resource" in part:
        return _Value(json=part["resource"])
    names = {name.removeprefix("_") for name in part if name.removeprefix("_").startswith("value")}
    if len(names) != 1:
        raise Problem(Category.INCORRECT, "a value is one value[x], or parts")
    (name,) = names
    code = name.removeprefix("value")
    return _Value(json=part.get(name), beside=part.get(f"_{name}"), code=code[:1].lower() + code[1:])


def _structure(parts: list[Any]) -> Json:
    made: Json = {}
    for part in parts:
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str):
            raise Problem(Category.INCORRECT, "a part of a value has a name")
        inner = _value(part)
        if name in made:
            held = made[name]
            made[name] = [*held, inner.json] if isinstance(held, list) else [held, inner.json]
            continue
        if inner.json is not None:
            made[name] = inner.json
        if inner.beside is not None:
            made[f"_{name}"] = inner.beside
    return made


def _one(root: Place, steps: list[Step], work: Work) -> Place:
    found = places(root, steps, work)
    if len(found) != 1:
        raise PatchFailed("the path names nothing" if not found else "the path names several elements")
    return found[0]


def _add(root: Place, operation: _Operation, copies: Copies, work: Work) -> None:
    place, value = _one(root, operation.steps, work), operation.value
    assert value is not None
    element = element_of(place.type, operation.name)
    if element is None or type(place.value) is not dict:
        raise PatchFailed("the element that is named does not exist here")
    key = choice_key(element, operation.name, value.code)
    if element.repeats:
        _insert(place.value, key, len(place.value.get(key, ())), value, copies)
        return
    _remove_choice(place.value, key, operation.name, element.name)
    _set(place.value, key, value, copies)


def _insert_at(root: Place, operation: _Operation, copies: Copies, work: Work) -> None:
    holder, key = _list(root, operation, work)
    assert operation.value is not None
    _insert(holder, key, operation.numbers["index"], operation.value, copies)


def _delete(root: Place, operation: _Operation, _copies: Copies, work: Work) -> None:
    found = places(root, operation.steps, work)
    if len(found) > 1:
        raise PatchFailed("the path names several elements")
    for place in found:
        if place.list_of is None:
            if place.key == "":
                raise PatchFailed("a patch does not delete a resource")
            del place.holder[place.key]
            place.holder.pop(f"_{place.key}", None)
            continue
        holder, key = place.list_of
        for name in (key, f"_{key}"):
            if isinstance(holder.get(name), list) and place.key < len(holder[name]):
                del holder[name][place.key]


def _replace(root: Place, operation: _Operation, copies: Copies, work: Work) -> None:
    place, value = _one(root, operation.steps, work), operation.value
    assert value is not None
    if place.key == "":
        raise PatchFailed("a patch does not replace a whole resource")
    if place.list_of is not None:
        holder, key = place.list_of
        holder[key][place.key] = copies.of(value.json)
        if isinstance(holder.get(f"_{key}"), list):
            holder[f"_{key}"][place.key] = copies.of(value.beside)
        return
    key = place.key
    if operation.last and operation.last != key:  # a choice, whose type may be another one now
        del place.holder[key]
        place.holder.pop(f"_{key}", None)
        key = operation.last + value.code[:1].upper() + value.code[1:]
    _set(place.holder, key, value, copies)


def _move(root: Place, operation: _Operation, _copies: Copies, work: Work) -> None:
    holder, key = _list(root, operation, work)
    source, destination = operation.numbers["source"], operation.numbers["destination"]
    length = len(holder.get(key, ()))
    if source >= length or destination >= length:
        raise PatchFailed("the list has no such place")
    for name in (key, f"_{key}"):
        if isinstance(holder.get(name), list):
            holder[name].insert(destination, holder[name].pop(source))


def _list(root: Place, operation: _Operation, work: Work) -> tuple[Json, str]:
    """Return the object that holds the list a path names, and its key there."""
    if not operation.last:
        raise PatchFailed("the path does not name a list")
    place = _one(root, operation.steps[:-1], work)
    element = element_of(place.type, operation.last)
    if element is None or not element.repeats or type(place.value) is not dict:
        raise PatchFailed("the path does not name a list")
    return place.value, operation.last


def _insert(holder: Json, key: str, index: int, value: _Value, copies: Copies) -> None:
    held = holder.setdefault(key, [])
    if not isinstance(held, list) or index > len(held):
        raise PatchFailed("the list has no such place")
    beside = holder.get(f"_{key}")
    if beside is None and value.beside is not None:
        beside = holder.setdefault(f"_{key}", [None] * len(held))
    if isinstance(beside, list):
        beside.insert(index, copies.of(value.beside))
    held.insert(index, copies.of(value.json))


def _set(holder: Json, key: str, value: _Value, copies: Copies) -> None:
    for name, json in ((key, value.json), (f"_{key}", value.beside)):
        if json is None:
            holder.pop(name, None)
        else:
            holder[name] = copies.of(json)


def _remove_choice(holder: Json, key: str, name: str, defined: str) -> None:
    """Refuse to add a second type of a choice, and a second value of an element that has one."""
    if key in holder or (defined == f"{name}[x]" and any(other.startswith(name) and other != key for other in holder)):
        raise PatchFailed("the element has a value already; replace changes it")


_OPERATIONS: Final[Mapping[str, tuple[tuple[str, ...], _CarryOut]]] = {
    "add": (("path", "name", "value"), _add),
    "insert": (("path", "index", "value"), _insert_at),
    "delete": (("path",), _delete),
    "replace": (("path", "value"), _replace),
    "move": (("path", "source", "destination"), _move),
}
