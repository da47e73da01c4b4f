"""Seals a model folder with checksums and verifies them.

``SHA256SUMS`` (the format of coreutils' ``sha256sum``) lists every other file of the folder. The SHA-256 of that
list is the model's digest, which every result carries: it names the weights, the mapping, the card and the goldens.
"""

import hashlib
from pathlib import Path
from typing import Final

from kernel.errors import Category, Problem

SUMS: Final = "SHA256SUMS"
_NOT_OURS: Final = frozenset({"__pycache__"})
"""Folders that Python itself writes beside a model's code."""


def seal(folder: Path) -> str:
    """Write ``SHA256SUMS`` for what the folder holds now, and return the digest."""
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in _names(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return digest_of(folder)


def digest_of(folder: Path) -> str:
    """Return the SHA-256 (hex) of the folder's ``SHA256SUMS``."""
    return _sha256(folder / SUMS)


def verify(folder: Path) -> str:
    """Check every file against ``SHA256SUMS`` and return the digest.

    Raises
    ------
    Problem
        ``incorrect`` when the list is absent or malformed, or a file is missing, altered, a link, or not listed.
    """
    try:
        text = (folder / SUMS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise _refusal(folder, f"{SUMS} cannot be read") from failure
    listed: dict[str, str] = {}
    for line in text.splitlines():
        checksum, separator, name = line.partition("  ")
        if not separator or len(checksum) != 64:
            raise _refusal(folder, f"{SUMS} is malformed")
        listed[name] = checksum
    present = _names(folder)
    for name in sorted(listed.keys() | set(present)):
        if name not in listed:
            raise _refusal(folder, f"{name} is not listed in {SUMS}")
        if name not in present:
            raise _refusal(folder, f"{name} is missing")
        if _sha256(folder / name) != listed[name]:
            raise _refusal(folder, f"{name} has been altered")
    return digest_of(folder)


def _names(folder: Path) -> list[str]:
    names = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_symlink():
            raise _refusal(folder, f"{name.as_posix()} is a link")
        if path.is_file() and name.as_posix() != SUMS and not _NOT_OURS.intersection(name.parts):
            names.append(name.as_posix())
    return sorted(names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refusal(folder: Path, reason: str) -> Problem:
    return Problem(Category.INCORRECT, f"the model folder {folder.name} is refused: {reason}")
