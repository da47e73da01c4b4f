"""Only its owner can read the key file, and sealed bytes open only with their context."""

import json
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kernel.blobs import Blobs
from kernel.db import Database
from kernel.errors import Category, Problem
from privacy.keys import Cipher, KeyRing

RING = KeyRing(root=b"r" * 32, wrapping={"0000000a": b"a" * 32}, current="0000000a")


def test_a_new_key_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    KeyRing.open_or_create(tmp_path / "keys.json")
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_nothing_else_is_left_beside_the_key_file(tmp_path: Path) -> None:
    KeyRing.open_or_create(tmp_path / "keys.json")
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    KeyRing.open_or_create(path)
    path.chmod(mode)
    with pytest.raises(Problem, match="may be read by others"):
        KeyRing.open_or_create(path)


def test_opening_again_gives_the_same_keys(tmp_path: Path) -> None:
    first, second = (KeyRing.open_or_create(tmp_path / "keys.json") for _ in range(2))
    assert first.derive("pseudonyms") == second.derive("pseudonyms")


def test_concurrent_creations_use_one_key_file(tmp_path: Path) -> None:
    together, derived = threading.Barrier(8), []

    def create() -> None:
        together.wait()
        derived.append(KeyRing.open_or_create(tmp_path / "keys.json").derive("x"))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(derived), len(set(derived))) == (8, 1)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"format": 1, "root": "AA==", "current": "0000000a", "wrapping": {"0000000a": "AA=="}}'],
)
def test_another_file_is_not_taken_for_a_key_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(Problem) as refused:
        KeyRing.open_or_create(path)
    assert refused.value.category is Category.FAULT


def test_keys_never_show_in_text(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    shown = repr(KeyRing.open_or_create(path))
    secrets = json.loads(path.read_text())
    assert not any(secret in shown for secret in (secrets["root"], *secrets["wrapping"].values()))


def test_each_purpose_has_a_different_key() -> None:
    assert len({RING.derive(purpose) for purpose in ("pseudonyms", "blob-address", "audit-seal")}) == 3


def test_the_signing_key_is_ed25519_and_stable() -> None:
    assert isinstance(RING.signing_key(), Ed25519PrivateKey)
    assert RING.signing_key().public_key() == RING.signing_key().public_key()


@given(content=st.binary(max_size=200), context=st.binary(max_size=40))
def test_sealed_bytes_open_with_their_context(content: bytes, context: bytes) -> None:
    cipher = Cipher(RING)
    assert cipher.open(cipher.seal(content, context), context) == content


def test_the_same_content_is_never_sealed_alike() -> None:
    cipher = Cipher(RING)
    assert len({cipher.seal(b"same", b"context") for _ in range(50)}) == 50


def test_the_plaintext_is_not_in_the_sealed_bytes() -> None:
    assert b"DOE^JOHN" not in Cipher(RING).seal(b"DOE^JOHN" * 10, b"")


def test_any_flipped_bit_is_found() -> None:
    cipher = Cipher(RING)
    sealed = cipher.seal(b"what the patient said", b"blob")
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(Problem) as found:
            cipher.open(bytes(altered), b"blob")
        assert found.value.category is Category.FAULT


def test_truncated_sealed_bytes_do_not_open() -> None:
    cipher = Cipher(RING)
    sealed = cipher.seal(b"what the patient said", b"blob")
    for length in range(len(sealed)):
        with pytest.raises(Problem):
            cipher.open(sealed[:length], b"blob")


def test_sealed_bytes_do_not_open_in_another_place() -> None:
    cipher = Cipher(RING)
    with pytest.raises(Problem):
        cipher.open(cipher.seal(b"content", b"here"), b"there")


def test_after_a_new_wrapping_key_old_objects_open_and_names_stay() -> None:
    rotated = KeyRing(root=b"r" * 32, wrapping={"0000000a": b"a" * 32, "0000000b": b"b" * 32}, current="0000000b")
    sealed = Cipher(RING).seal(b"old", b"")
    assert rotated.cipher().open(sealed, b"") == b"old"
    assert rotated.cipher().address(b"old") == RING.cipher().address(b"old")


def test_without_the_wrapping_key_an_object_is_gone() -> None:
    other = KeyRing(root=b"r" * 32, wrapping={"0000000b": b"b" * 32}, current="0000000b")
    with pytest.raises(Problem, match="under a key that is not here"):
        other.cipher().open(Cipher(RING).seal(b"old", b""), b"")


def test_an_address_depends_on_the_key() -> None:
    other = KeyRing(root=b"s" * 32, wrapping={"0000000a": b"a" * 32}, current="0000000a")
    assert RING.cipher().address(b"x") != other.cipher().address(b"x")


def test_blobs_on_disk_are_sealed_and_found_by_content(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, RING.cipher())
    address = blobs.put(b"DOE^JOHN")
    (stored,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert (b"DOE" in stored.read_bytes(), blobs.get(address), blobs.put(b"DOE^JOHN")) == (False, b"DOE^JOHN", address)


def test_half_a_file_does_not_hide_the_same_content_in_the_database(tmp_path: Path, database: Database) -> None:
    blobs = Blobs(tmp_path, RING.cipher(), database)
    prepared = blobs.prepare(b"small")
    database.write(lambda tx: blobs.keep(tx, prepared))
    place = tmp_path / prepared.address[:2] / prepared.address[2:]
    place.write_bytes(b"half")
    assert blobs.get(prepared.address) == b"small"
    with pytest.raises(Problem, match="damaged"):
        Blobs(tmp_path, RING.cipher()).get(prepared.address)


def test_what_is_sealed_into_a_buffer_opens_as_what_is_sealed() -> None:
    cipher = RING.cipher()
    into = bytearray(5 + cipher.overhead)
    cipher.seal_into(b"bytes", b"context", memoryview(into))
    assert (cipher.open(bytes(into), b"context"), len(cipher.seal(b"bytes", b"context"))) == (b"bytes", len(into))


def test_an_address_is_the_same_when_its_content_arrives_in_parts() -> None:
    cipher = RING.cipher()
    for _ in range(2):
        digest = cipher.digest()
        digest.update(b"by")
        digest.update(memoryview(b"tes"))
        assert digest.hexdigest() == cipher.address(b"bytes")
