"""Blobs: content-addressed, durable when put returns, and refused when the disk fails."""

import errno
import os
from pathlib import Path

import pytest

from kernel.blobs import Blobs
from kernel.errors import Category, Problem
from kernel.testing import PlainCipher


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs", PlainCipher())


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_equal_content_has_one_address_and_one_file(blobs: Blobs, tmp_path: Path) -> None:
    assert blobs.put(b"x" * 1000) == blobs.put(b"x" * 1000)
    assert len(files(tmp_path)) == 1


def test_a_stored_blob_is_returned(blobs: Blobs) -> None:
    assert blobs.get(blobs.put(b"\x00\xff")) == b"\x00\xff"


def test_file_and_folder_are_synced_before_put_returns(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def spy(handle: int) -> None:
        target = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append("folder" if target.is_dir() else "file")
        real(handle)

    monkeypatch.setattr(os, "fsync", spy)
    blobs.put(b"x")
    assert synced == ["file", "folder"]


def test_a_blob_that_exists_is_confirmed_only_when_its_name_is_durable(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier try may have renamed the file and failed to sync the folder: a retry must sync it too."""
    blobs.put(b"x")

    def refuse(_handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(Problem):
        blobs.put(b"x")


@pytest.mark.parametrize("broken", ["fsync", "fdopen"])
def test_a_write_error_raises_a_problem_and_leaves_no_partial_file(
    broken: str, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(b"first")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(Problem) as refused:
        blobs.put(b"second")
    assert refused.value.category is Category.UNAVAILABLE
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("address", ["../../etc/passwd", "0" * 63, "G" * 64, "0" * 64])
def test_a_malformed_or_unknown_address_is_not_found(blobs: Blobs, address: str) -> None:
    with pytest.raises(Problem) as missing:
        blobs.get(address)
    assert missing.value.category is Category.NOT_FOUND
