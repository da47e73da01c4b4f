"""Reads resources from files to send them: NDJSON, one resource, or a Bundle; compressed with gzip or not."""

import gzip
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, cast

import orjson

from kernel.errors import Category, Problem

SUFFIXES: Final = (".json", ".ndjson", ".jsonl")
ERRORS: Final = ".errors.ndjson"
"""What the name of a file ends with that says which lines of another one were refused."""
LONGEST_LINE: Final = 16 * 2**20
"""Bytes of one line: as large as a body may be."""
_CARRIED_OUT: Final = frozenset({"transaction", "batch"})
_IDS: Final = uuid.UUID("5b8a1f5e-6f0d-4d3e-9d0c-0c1a0c9a7a10")
"""Names the space of the ids that lines without one get."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One resource of a file, to be stored under its id."""

    number: int
    #: ``Type/id``; empty when it cannot be sent.
    url: str
    content: bytes = field(repr=False)
    #: Why it cannot be sent; empty when it can.
    problem: str = ""


def files(paths: Iterable[Path]) -> list[Path]:
    """Return the files of resources at some paths, those of a folder in the order of their names.

    Parameters
    ----------
    paths
        Files, which are taken whatever their names are, and folders.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(it for it in path.rglob("*") if it.is_file())
        found += [it for it in below if _stem(it).endswith(SUFFIXES) and not it.name.endswith(ERRORS)]
    return found


def is_lines(path: Path) -> bool:
    """Return whether a file has one resource on each line."""
    return _stem(path).endswith(SUFFIXES[1:])


def whole(path: Path) -> bytes:
    """Return the content of a file that holds one resource."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def is_carried_out(bundle: object) -> bool:
    """Return whether a resource is a Bundle that is sent as it is: a transaction or a batch."""
    return isinstance(bundle, dict) and bundle.get("resourceType") == "Bundle" and bundle.get("type") in _CARRIED_OUT


def lines(path: Path, read: Callable[[int], None]) -> Iterator[Line]:
    """Yield the resources of a file with one on each line; no more than one line is held.

    Parameters
    ----------
    path
        The file.
    read
        Called with how many bytes of the file were read so far.

    Raises
    ------
    Problem
        ``incorrect`` when the file is not complete gzip.
    """
    with path.open("rb") as raw:
        source = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw)
        number = 0
        while content := _next_line(source, LONGEST_LINE + 2, path):
            number += 1
            if len(content) > LONGEST_LINE + 1:
                while content and not content.endswith(b"\n"):
                    content = _next_line(source, LONGEST_LINE, path)
                yield Line(number=number, url="", content=b"", problem=f"a line may have {LONGEST_LINE} bytes")
            elif content.strip():
                yield line_of(number, content.strip())
            read(raw.tell())


def _next_line(source: IO[bytes], most: int, path: Path) -> bytes:
    try:
        return source.readline(most)
    except (EOFError, zlib.error, gzip.BadGzipFile) as failure:
        raise Problem(Category.INCORRECT, f"{path.name} is not complete gzip") from failure


def entries(bundle: dict[str, object]) -> Iterator[Line]:
    """Yield the resources of a Bundle that only holds them, such as a collection, numbered by their entries."""
    held = bundle.get("entry")
    for number, entry in enumerate(held if isinstance(held, list) else [], start=1):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        yield line_of(number, orjson.dumps(resource))


def line_of(number: int, content: bytes) -> Line:
    """Return a resource, which is stored under its own id, or else under one that is made of its content.

    So what is sent a second time is stored once.

    Parameters
    ----------
    number
        Of the line, from 1.
    content
        The resource as JSON.
    """
    try:
        resource = orjson.loads(content)
    except orjson.JSONDecodeError:
        return Line(number=number, url="", content=b"", problem="the line is not JSON")
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(kind, str):
        return Line(number=number, url="", content=b"", problem="the line is not a FHIR resource")
    identifier = resource.get("id")
    if not isinstance(identifier, str):
        identifier = str(uuid.uuid5(_IDS, content.decode()))
        content = b'{"id":"' + identifier.encode() + b'",' + content.lstrip()[1:]
    return Line(number=number, url=f"{kind}/{identifier}", content=content)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").lower()
