"""Seals a model folder with checksums and verifies them.

``SHA256SUMS`` (the format of coreutils' ``sha256sum``) lists every other file of the folder. The SHA-256 of that
list is the model's digest, which every result carries: it names the weights, the mapping, the card and the goldens.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernel.errors import Category, Problem

SUMS: Final = "SHA256SUMS"
_NOT_OURS: Final = frozenset({"__pycache__"})
"""Folders that Python itself writes beside a model's code; they are never read."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """The bytes of a folder, read once and found to be what its ``SHA256SUMS`` says."""

    #: SHA-256 (hex) of ``SHA256SUMS``.
    digest: str
    #: Name with slashes -> content; ``SHA256SUMS`` included.
    files: Mapping[str, bytes]


def seal(folder: Path) -> str:
    """Write ``SHA256SUMS`` for what the folder holds now, and return the digest."""
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in _names(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return digest_of(folder)


def digest_of(folder: Path) -> str:
    """Return the SHA-256 (hex) of the folder's ``SHA256SUMS``."""
    return _sha256(folder / SUMS)


def verify(folder: Path) -> str:
    """Check every file against ``SHA256SUMS`` and return the digest; raises as :func:`read_verified` does."""
    return read_verified(folder).digest


def check_sealed(folder: Path) -> None:
    """Return when the folder that a person has made is sealed and holds what was sealed.

    Raises
    ------
    Problem
        ``incorrect`` with the command that seals it.
    """
    if folder.is_dir() and not (folder / SUMS).is_file():
        written = f"it is written by: ausculta models verify {folder.name} --record"
        raise _refusal(f"the model folder {folder.name}", f"{SUMS} cannot be read; {written}")
    try:
        read_verified(folder)
    except Problem as problem:
        again = f"what the folder holds now is sealed by: ausculta models verify {folder.name} --record"
        raise Problem(problem.category, f"{problem.detail}; {again}") from problem


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder but ``SHA256SUMS``, sealed or not; name with slashes -> bytes."""
    return {name: (folder / name).read_bytes() for name in _names(folder)}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is not sealed again by it.

    Parameters
    ----------
    folder
        The folder.
    files
        Name with slashes -> content.
    """
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def read_verified(folder: Path, *, called: str = "") -> Verified:
    """Read every file of a folder once, check what was read against ``SHA256SUMS``, and return it.

    Whoever uses the bytes that are returned uses what was checked, whatever becomes of the files afterwards.

    Parameters
    ----------
    folder
        The folder.
    called
        What a refusal calls it; "the model folder" and its name when empty.

    Raises
    ------
    Problem
        ``incorrect`` when the list is absent or malformed, or a file is missing, altered, a link, or not listed.
    """
    called = called or f"the model folder {folder.name}"
    try:
        sums = (folder / SUMS).read_bytes()
        listed = _listed(called, sums.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as failure:
        raise _refusal(called, f"{SUMS} cannot be read") from failure
    present = _names(folder, called)
    files = {SUMS: sums}
    for name in sorted(listed.keys() | set(present)):
        if name not in listed:
            raise _refusal(called, f"{name} is not listed in {SUMS}")
        if name not in present:
            raise _refusal(called, f"{name} is missing")
        files[name] = (folder / name).read_bytes()
        if hashlib.sha256(files[name]).hexdigest() != listed[name]:
            raise _refusal(called, f"{name} has been altered")
    return Verified(digest=hashlib.sha256(sums).hexdigest(), files=files)


def _listed(called: str, text: str) -> Mapping[str, str]:
    listed: dict[str, str] = {}
    for line in text.splitlines():
        checksum, separator, name = line.partition("  ")
        if not separator or len(checksum) != 64:
            raise _refusal(called, f"{SUMS} is malformed")
        listed[name] = checksum
    return listed


def _names(folder: Path, called: str = "") -> list[str]:
    names = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_symlink():
            raise _refusal(called or f"the model folder {folder.name}", f"{name.as_posix()} is a link")
        if path.is_file() and name.as_posix() != SUMS and not _NOT_OURS.intersection(name.parts):
            names.append(name.as_posix())
    return sorted(names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refusal(called: str, reason: str) -> Problem:
    return Problem(Category.INCORRECT, f"{called} is refused: {reason}")
