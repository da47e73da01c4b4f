"""The Merkle tree of RFC 9162 section 2.1, as pure functions over 32-byte hashes.

A log of n leaves is a sequence of perfect subtrees, one for each bit set in n, the largest first. Their roots, the
*peaks*, suffice to append a leaf and to compute the root; proofs need the leaves.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (section 2.1.1)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right).

    Parameters
    ----------
    left, right
        Hashes of the two children, 32 bytes each.
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


def append(size: int, peaks: Sequence[bytes], leaf: bytes) -> tuple[bytes, ...]:
    """Append one leaf.

    Parameters
    ----------
    size
        Number of leaves so far.
    peaks
        Roots of their perfect subtrees, left to right, 32 bytes each.
    leaf
        Hash of the new leaf, 32 bytes.

    Returns
    -------
    tuple of bytes
        The peaks of ``size + 1`` leaves.
    """
    grown = list(peaks)
    while size & 1:  # like a binary counter: every trailing one carries
        leaf = node_hash(grown.pop(), leaf)
        size >>= 1
    return (*grown, leaf)


def root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root of the tree whose peaks these are."""
    if not peaks:
        return EMPTY_ROOT
    *others, root = peaks
    for peak in reversed(others):
        root = node_hash(peak, root)
    return root


def root_of_leaves(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the tree over these leaf hashes."""
    peaks: tuple[bytes, ...] = ()
    for size, leaf in enumerate(leaves):
        peaks = append(size, peaks, leaf)
    return root_of_peaks(peaks)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Prove that a leaf is part of the tree (section 2.1.3.1).

    Parameters
    ----------
    leaves
        Every leaf hash of the tree.
    index
        Which leaf, from 0.

    Returns
    -------
    tuple of bytes
        The audit path, from the leaf's sibling up.

    Raises
    ------
    IndexError
        When there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if index < split:
        return (*inclusion_proof(left, index), root_of_leaves(right))
    return (*inclusion_proof(right, index - split), root_of_leaves(left))


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Prove that the tree only grew since it had ``old_size`` leaves (section 2.1.4.1).

    Parameters
    ----------
    leaves
        Every leaf hash of the tree as it is now.
    old_size
        A former size, from 0 to the present one.

    Raises
    ------
    IndexError
        When the tree never had that size.
    """
    if not 0 <= old_size <= len(leaves):
        raise IndexError(old_size)
    if old_size in {0, len(leaves)}:
        return ()
    return _subproof(leaves, old_size, whole=True)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Check a proof that a leaf is part of a tree (section 2.1.3.2).

    Parameters
    ----------
    leaf
        Hash of the leaf, 32 bytes.
    index
        Position of the leaf, from 0.
    size
        Number of leaves of the tree.
    proof
        What :func:`inclusion_proof` returned.
    root
        Root of the tree, 32 bytes.

    Returns
    -------
    bool
        Whether the proof holds; False also for a malformed one.
    """
    if not 0 <= index < size:
        return False
    node, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(sizes: tuple[int, int], proof: Sequence[bytes], roots: tuple[bytes, bytes]) -> bool:
    """Check a proof that a log only grew (section 2.1.4.2).

    Parameters
    ----------
    sizes
        Number of leaves: (old, new).
    proof
        What :func:`consistency_proof` returned.
    roots
        The roots: (old, new), 32 bytes each.

    Returns
    -------
    bool
        Whether the proof holds; False also for a malformed one.
    """
    old_size, new_size = sizes
    if not 0 <= old_size <= new_size:
        return False
    if old_size == 0:
        return not proof and roots[0] == EMPTY_ROOT
    if old_size == new_size:
        return not proof and roots[0] == roots[1]
    path = (roots[0], *proof) if old_size & (old_size - 1) == 0 else tuple(proof)
    return bool(path) and _walk(sizes, path) == roots


def _walk(sizes: tuple[int, int], path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Recompute both roots from a consistency proof; None when its length does not fit the sizes."""
    node, last = sizes[0] - 1, sizes[1] - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return (old, new) if last == 0 else None


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> tuple[bytes, ...]:
    if old_size == len(leaves):
        return () if whole else (root_of_leaves(leaves),)
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if old_size <= split:
        return (*_subproof(left, old_size, whole=whole), root_of_leaves(right))
    return (*_subproof(right, old_size - split, whole=False), root_of_leaves(left))


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)
