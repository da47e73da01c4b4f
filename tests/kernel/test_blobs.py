"""Blobs: content-addressed, durable when put returns, and refused when the disk fails."""

import errno
import fcntl
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernel.blobs import SMALL, UNFINISHED, Blobs
from kernel.db import Database, Transaction
from kernel.durable_file import BLOCK, BUFFER
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
    """An earlier try may have written the file and failed to sync the folder: a retry must sync it too."""
    blobs.put(b"x")

    def refuse(_handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(Problem):
        blobs.put(b"x")


@pytest.mark.parametrize("broken", ["fsync", "write"])
def test_a_write_error_raises_a_problem_and_leaves_no_partial_file(
    broken: str, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(b"first")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(Problem) as refused:
        blobs.put(b"second" * BLOCK)
    assert refused.value.category is Category.UNAVAILABLE
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, BUFFER, BUFFER + BLOCK + 1, 3 * BUFFER - 1])
def test_content_of_any_size_is_returned_as_it_was(blobs: Blobs, size: int) -> None:
    content = os.urandom(size)
    assert blobs.get(blobs.put(content)) == content


def test_a_file_is_whole_blocks_that_go_past_the_page_cache(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last block through the cache would be a second write, and the fsync would wait for both."""
    written: list[tuple[bool, int]] = []
    real = os.write

    def spy(handle: int, data: bytes) -> int:
        written.append((bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT), len(data)))
        return real(handle, data)

    monkeypatch.setattr(os, "write", spy)
    blobs.put(bytes(2 * BLOCK + 5))
    assert written == [(True, 3 * BLOCK)]


def test_a_file_of_an_earlier_release_has_no_padding_and_is_returned(blobs: Blobs, tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK)
    place = tmp_path / "blobs" / (address := hashlib.sha256(content).hexdigest())[:2] / address[2:]
    place.write_bytes(content)
    assert (blobs.get(address), blobs.put(content), place.read_bytes()) == (content, address, content)


@pytest.mark.parametrize("left", [b"", b"half", b"x" * BLOCK, bytes(3 * BLOCK)])
def test_half_a_file_that_a_crash_left_is_written_again(blobs: Blobs, tmp_path: Path, left: bytes) -> None:
    content = b"x" * 2 * BLOCK
    place = tmp_path / "blobs" / (address := hashlib.sha256(content).hexdigest())[:2] / address[2:]
    place.write_bytes(left)
    assert (blobs.get(blobs.put(content)), len(files(tmp_path))) == (content, 1)


def test_the_same_content_at_once_is_confirmed_to_nobody_before_it_is_durable(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one fails after the second has found its file: the second then writes it itself."""
    content, real = b"x" * BLOCK, os.fsync
    first_writes, second_waits = threading.Event(), threading.Event()
    first: list[threading.Thread] = []

    def fail_the_first(handle: int) -> None:
        if threading.current_thread() in first:
            first_writes.set()
            assert second_waits.wait(10)
            raise OSError(errno.EIO, "Input/output error")
        real(handle)

    def lock(handle: int, operation: int) -> None:
        if threading.current_thread() not in first:
            second_waits.set()
        real_lock(handle, operation)

    real_lock = fcntl.flock
    monkeypatch.setattr(os, "fsync", fail_the_first)
    monkeypatch.setattr(fcntl, "flock", lock)
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(lambda: (first.append(threading.current_thread()), blobs.put(content)))
        assert first_writes.wait(10)
        address = blobs.put(content)
        with pytest.raises(Problem):
            refused.result()
    assert (blobs.get(address), len(files(tmp_path))) == (content, 1)


def test_a_file_system_without_direct_writes_stores_all_the_same(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """One says so when the flag is set, another when the first block is written."""
    real_write, real_fcntl = os.write, fcntl.fcntl

    def refuse_write(handle: int, data: bytes) -> int:
        if real_fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_write(handle, data)

    def refuse_flag(handle: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL and argument & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_fcntl(handle, command, argument)

    with monkeypatch.context() as first:
        first.setattr(os, "write", refuse_write)
        assert blobs.get(blobs.put(b"a" * 3 * BLOCK)) == b"a" * 3 * BLOCK
    monkeypatch.setattr(fcntl, "fcntl", refuse_flag)
    assert blobs.get(blobs.put(b"b" * 3 * BLOCK)) == b"b" * 3 * BLOCK


@pytest.mark.parametrize("address", ["../../etc/passwd", "0" * 63, "G" * 64, "0" * 64])
def test_a_malformed_or_unknown_address_is_not_found(blobs: Blobs, address: str) -> None:
    with pytest.raises(Problem) as missing:
        blobs.get(address)
    assert missing.value.category is Category.NOT_FOUND


@pytest.fixture
def in_database(tmp_path: Path, database: Database) -> Blobs:
    return Blobs(tmp_path / "blobs", PlainCipher(), database)


def test_a_small_blob_becomes_durable_with_the_commit_that_keeps_it(
    in_database: Blobs, database: Database, tmp_path: Path
) -> None:
    prepared = in_database.prepare(b"x" * SMALL)
    with pytest.raises(Problem, match="no such blob"):
        in_database.get(prepared.address)
    for _ in range(2):  # a sender repeats itself
        database.write(lambda tx: in_database.keep(tx, prepared))
    assert (in_database.get(prepared.address), files(tmp_path)) == (b"x" * SMALL, [])


def test_a_commit_that_fails_leaves_nothing_of_a_small_blob(in_database: Blobs, database: Database) -> None:
    prepared = in_database.prepare(b"small")

    def fail(tx: Transaction) -> None:
        in_database.keep(tx, prepared)
        raise Problem(Category.CONFLICT, "refused")

    with pytest.raises(Problem, match="refused"):
        database.write(fail)
    with pytest.raises(Problem, match="no such blob"):
        in_database.get(prepared.address)


def test_a_large_blob_is_a_file_as_soon_as_it_is_prepared(in_database: Blobs, tmp_path: Path) -> None:
    content = b"x" * (SMALL + 1)
    prepared = in_database.prepare(content)
    assert (prepared.sealed, in_database.get(prepared.address), len(files(tmp_path))) == (None, content, 1)


def test_what_a_crash_of_an_earlier_release_left_half_written_is_removed(blobs: Blobs, tmp_path: Path) -> None:
    address = blobs.put(b"whole")
    drafts = tmp_path / "blobs" / UNFINISHED
    drafts.mkdir()
    (drafts / "1").write_bytes(b"half")
    with (drafts / "2").open("wb") as written:
        fcntl.flock(written, fcntl.LOCK_SH)
        again = Blobs(tmp_path / "blobs", PlainCipher())
    assert (sorted(path.name for path in drafts.iterdir()), again.get(address)) == (["2"], b"whole")
