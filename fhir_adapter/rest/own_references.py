"""References that name this server by its own address (R4, references.html#literal)."""

from typing import Any

from fhir_adapter.store.document import encode, parse
from kernel.errors import Problem


def relative(body: bytes, base: str) -> bytes:
    """Return a body in which references to this server's own resources are relative.

    The same resource must not have two names in the store: what is about a patient would be found by one of them only,
    and no model would see it. A reference to the ``fullUrl`` of an entry is left, because it names that entry.

    Parameters
    ----------
    body
        A resource, a Bundle or a patch as JSON.
    base
        URL of this API, without a final slash.
    """
    start = f"{base}/"
    if base.rpartition("/")[2].encode() not in body or start.encode() not in body.replace(b"\\/", b"/"):
        return body
    try:
        document = parse(b'{"body":' + body + b"}")
    except Problem:  # it is refused where it is read
        return body
    plain = document.plain["body"]
    entries = plain.get("entry", ()) if isinstance(plain, dict) else ()
    names = {it.get("fullUrl") for it in entries if isinstance(it, dict)} if isinstance(entries, list) else set()
    return encode(_relative(document.exact["body"], start, names))


def _relative(value: Any, start: str, names: set[Any]) -> Any:
    if type(value) is dict:
        return {
            key: item.removeprefix(start)
            if key == "reference" and type(item) is str and item not in names
            else _relative(item, start, names)
            for key, item in value.items()
        }
    if type(value) is list:
        return [_relative(item, start, names) for item in value]
    return value
