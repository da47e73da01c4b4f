"""The tree is RFC 9162's: compared with the recursive definition and with known roots."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import merkle

entries = st.lists(st.binary(max_size=8), max_size=40)


def by_definition(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


def hashes(contents: list[bytes]) -> list[bytes]:
    return [merkle.leaf_hash(content) for content in contents]


@given(contents=entries)
def test_the_root_is_that_of_the_definition(contents: list[bytes]) -> None:
    assert merkle.root_of_leaves(hashes(contents)) == by_definition(hashes(contents))


def test_known_root_of_certificate_transparency() -> None:
    # The first three entries of the Certificate Transparency test vectors: "", 0x00, 0x10.
    root = merkle.root_of_leaves(hashes([b"", b"\x00", b"\x10"]))
    assert root.hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


@given(contents=entries)
def test_there_is_one_peak_for_each_bit_of_the_size(contents: list[bytes]) -> None:
    peaks: tuple[bytes, ...] = ()
    for size, leaf in enumerate(hashes(contents)):
        peaks = merkle.append(size, peaks, leaf)
    assert len(peaks) == len(contents).bit_count()


@given(contents=entries.filter(bool), data=st.data())
def test_every_leaf_can_be_proved(contents: list[bytes], data: st.DataObject) -> None:
    leaves = hashes(contents)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(leaves, index)
    assert merkle.verify_inclusion(leaves[index], index, len(leaves), proof, by_definition(leaves))


@given(contents=entries.filter(lambda contents: len(contents) > 1), data=st.data())
def test_a_proof_is_valid_for_one_leaf_one_index_and_one_root(contents: list[bytes], data: st.DataObject) -> None:
    leaves = hashes(contents)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root = merkle.inclusion_proof(leaves, index), by_definition(leaves)
    stranger = merkle.leaf_hash(b"not among them")
    assert not merkle.verify_inclusion(stranger, index, len(leaves), proof, root)
    assert not merkle.verify_inclusion(leaves[index], index, len(leaves), proof[:-1], root)
    assert not merkle.verify_inclusion(leaves[index], index, len(leaves), (*proof, root), root)
    assert not merkle.verify_inclusion(leaves[index], index, len(leaves), proof, stranger)
    assert not merkle.verify_inclusion(leaves[index], len(leaves), len(leaves), proof, root)


@given(contents=entries, data=st.data())
def test_every_former_size_can_be_proved(contents: list[bytes], data: st.DataObject) -> None:
    leaves = hashes(contents)
    old = data.draw(st.integers(0, len(leaves)))
    roots = by_definition(leaves[:old]), by_definition(leaves)
    assert merkle.verify_consistency((old, len(leaves)), merkle.consistency_proof(leaves, old), roots)


@given(contents=entries.filter(lambda contents: len(contents) > 1), data=st.data())
def test_a_consistency_proof_fails_for_changed_leaves(contents: list[bytes], data: st.DataObject) -> None:
    leaves = hashes(contents)
    old = data.draw(st.integers(1, len(leaves) - 1))
    forged = [merkle.leaf_hash(b"forged"), *leaves[1:]]
    roots = by_definition(leaves[:old]), by_definition(forged)
    assert not merkle.verify_consistency((old, len(leaves)), merkle.consistency_proof(forged, old), roots)


@given(contents=entries.filter(lambda contents: len(contents) > 1), data=st.data())
def test_a_consistency_proof_of_the_wrong_length_is_refused(contents: list[bytes], data: st.DataObject) -> None:
    leaves = hashes(contents)
    old = data.draw(st.integers(1, len(leaves) - 1))
    proof = merkle.consistency_proof(leaves, old)
    roots = by_definition(leaves[:old]), by_definition(leaves)
    assert not merkle.verify_consistency((old, len(leaves)), proof[:-1], roots)
    assert not merkle.verify_consistency((old, len(leaves)), (*proof, roots[0]), roots)


def test_a_proof_for_a_missing_leaf_raises() -> None:
    with pytest.raises(IndexError):
        merkle.inclusion_proof(hashes([b"a"]), 1)
    with pytest.raises(IndexError):
        merkle.consistency_proof(hashes([b"a"]), 2)
