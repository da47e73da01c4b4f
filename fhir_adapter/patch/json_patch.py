"""JSON Patch (RFC 6902): a list of operations on JSON, each at a JSON Pointer (RFC 6901)."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fhir_adapter.patch.values import Copies, equal
from fhir_adapter.store.document import Json
from fhir_adapter.store.operations import Patch
from fhir_adapter.store.problems import PatchFailed
from kernel.errors import Category, Problem

MOST_OPERATIONS: Final = 1000
"""Operations in one patch."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_WRONG_TILDE: Final = re.compile(r"~(?![01])")

Steps: TypeAlias = Sequence[str]
"""The parts of a JSON Pointer."""


def json_patch(operations: Any) -> Patch:
    """Read a patch document.

    Parameters
    ----------
    operations
        The document: exact JSON.

    Raises
    ------
    Problem
        ``incorrect`` for what is no JSON Patch.
    """
    if not isinstance(operations, list) or len(operations) > MOST_OPERATIONS:
        raise Problem(Category.INCORRECT, f"a JSON Patch is an array of up to {MOST_OPERATIONS} operations")
    steps = [_operation(operation) for operation in operations]

    def patch(content: Json) -> Json:
        holder: Json = {"": content}  # the whole document has a place as well
        copies = Copies()
        for position, step in enumerate(steps):
            try:
                step(holder, copies)
            except PatchFailed as failed:
                raise PatchFailed(f"operation {position}: {failed.detail}") from failed
        whole = holder.get("")
        if not isinstance(whole, dict):
            raise PatchFailed("what is left is not a resource")
        return whole

    return patch


_Step: TypeAlias = Callable[[Json, Copies], None]


def _operation(operation: Any) -> _Step:
    if not isinstance(operation, dict) or not isinstance(operation.get("op"), str):
        raise Problem(Category.INCORRECT, "an operation of a JSON Patch is an object with op and path")
    build = _OPERATIONS.get(operation["op"])
    if build is None:
        raise Problem(Category.INCORRECT, "op is add, remove, replace, move, copy or test")
    return build(operation)


def _pointer(operation: Mapping[str, Any], name: str = "path") -> Steps:
    text = operation.get(name)
    if not isinstance(text, str) or (text and text[0] != "/") or _WRONG_TILDE.search(text):
        raise Problem(Category.INCORRECT, f"{name} is not a JSON Pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise Problem(Category.INCORRECT, "the operation has no value")
    return operation["value"]


def _add(operation: Mapping[str, Any]) -> _Step:
    path, value = _pointer(operation), _value(operation)
    return lambda holder, copies: _put(holder, path, copies.of(value))


def _remove(operation: Mapping[str, Any]) -> _Step:
    path = _pointer(operation)

    def step(holder: Json, _copies: Copies) -> None:
        _take(holder, path)

    return step


def _replace(operation: Mapping[str, Any]) -> _Step:
    path, value = _pointer(operation), _value(operation)

    def step(holder: Json, copies: Copies) -> None:
        container = _container(holder, path)
        container[_existing(container, path[-1])] = copies.of(value)

    return step


def _move(operation: Mapping[str, Any]) -> _Step:
    source, path = _pointer(operation, "from"), _pointer(operation)
    if list(path[: len(source)]) == list(source) and len(path) > len(source):
        raise Problem(Category.INCORRECT, "a value cannot be moved into itself")
    return lambda holder, _copies: _put(holder, path, _take(holder, source))


def _copy(operation: Mapping[str, Any]) -> _Step:
    source, path = _pointer(operation, "from"), _pointer(operation)

    def step(holder: Json, copies: Copies) -> None:
        container = _container(holder, source)
        _put(holder, path, copies.of(container[_existing(container, source[-1])]))

    return step


def _test(operation: Mapping[str, Any]) -> _Step:
    path, value = _pointer(operation), _value(operation)

    def step(holder: Json, _copies: Copies) -> None:
        container = _container(holder, path)
        if not equal(container[_existing(container, path[-1])], value):
            raise PatchFailed("the tested value is another one")

    return step


_OPERATIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], _Step]]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _container(holder: Json, path: Steps) -> Any:
    """Return the object or array that a path leads into."""
    at: Any = holder
    for step in path[:-1]:
        at = at[_existing(at, step)]
    if type(at) is not dict and type(at) is not list:
        raise PatchFailed("the path leads into a value that is no object and no array")
    return at


def _existing(container: Any, step: str) -> Any:
    """Return the key or index of something that is there."""
    if type(container) is dict:
        if step in container:
            return step
    elif type(container) is list and _INDEX.fullmatch(step) and int(step) < len(container):
        return int(step)
    raise PatchFailed("there is nothing at the path")


def _put(holder: Json, path: Steps, value: Any) -> None:
    container = _container(holder, path)
    if type(container) is dict:
        container[path[-1]] = value
        return
    index = len(container) if path[-1] == "-" else int(path[-1]) if _INDEX.fullmatch(path[-1]) else -1
    if not 0 <= index <= len(container):
        raise PatchFailed("the path names no place in the array")
    container.insert(index, value)


def _take(holder: Json, path: Steps) -> Any:
    container = _container(holder, path)
    return container.pop(_existing(container, path[-1]))
