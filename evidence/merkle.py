"""The Merkle tree of a log: RFC 6962, section 2.1. Nothing but SHA-256.

A tree is read through a :data:`Node`: the hash of a *complete* subtree, by its level (0 = leaf)
and its place among those of the level. Such hashes never change as the log grows, so they can be
kept; the root of any size and every proof are put together from O(log n) of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from evidence.errors import ProofInvalid

#: ``node(level, place)``: the hash over the leaves ``place << level`` up to the next such border.
Node = Callable[[int, int], bytes]

#: The root of a log without lines.
EMPTY: Final = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Complete:
    """A complete subtree's hash and where it stands."""

    level: int
    place: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf; never that of an inner node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(size: int, node: Node) -> bytes:
    """The tree head over the first ``size`` leaves."""
    return _head(0, size, node) if size else EMPTY


def completed(index: int, leaf: bytes, node: Node) -> list[Complete]:
    """The subtrees that leaf ``index`` completes, itself left out: none for every other leaf.

    Reads one node for each.
    """
    found = []
    level, place, value = 0, index, leaf
    while place & 1:
        value = node_hash(node(level, place - 1), value)
        level, place = level + 1, place >> 1
        found.append(Complete(level, place, value))
    return found


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of ``size``: PATH(m, D[n]) of the RFC."""
    if not 0 <= index < size:
        raise ValueError("the leaf is not in the tree")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_head(middle, end, node))
            end = middle
        else:
            path.append(_head(begin, middle, node))
            begin = middle
    return path[::-1]


def consistency(first: int, second: int, node: Node) -> list[bytes]:
    """The proof that the tree of ``second`` begins with that of ``first``: PROOF(m, D[n])."""
    if not 0 <= first <= second:
        raise ValueError("the first tree must not be larger than the second")
    if first in (0, second):
        return []
    path: list[bytes] = []
    begin, end, whole = 0, second, True
    while first != end:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(_head(middle, end, node))
            end = middle
        else:
            path.append(_head(begin, middle, node))
            begin, whole = middle, False
    if not whole:
        path.append(_head(begin, end, node))
    return path[::-1]


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes
) -> None:
    """Pass if ``leaf`` is leaf ``index`` of the tree with root ``expected``; else ProofInvalid.

    The algorithm of RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofInvalid("the line's number is not one of this log's")
    here, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the inclusion proof is too long")
        if here & 1 or here == last:
            value = node_hash(sibling, value)
            here, last = _up_to_odd(here, last)
        else:
            value = node_hash(value, sibling)
        here, last = here >> 1, last >> 1
    if last != 0 or value != expected:
        raise ProofInvalid("the inclusion proof does not lead to the checkpoint's root")


def check_consistency(
    first: int, second: int, proof: Sequence[bytes], old: bytes, new: bytes
) -> None:
    """Pass if the log of root ``new`` only added lines to that of root ``old``.

    Else ProofInvalid. The algorithm of RFC 9162, 2.1.4.2; an empty log is the beginning of all.
    """
    if not 0 <= first <= second:
        raise ProofInvalid("the later checkpoint has fewer lines than the earlier one")
    if first in (0, second):
        if proof or old != (new if first else EMPTY) or (first == second and old != new):
            raise ProofInvalid("the checkpoints of one size differ")
        return
    path = list(proof) if first & (first - 1) else [old, *proof]
    if not path:
        raise ProofInvalid("the consistency proof is empty")
    here, last = first - 1, second - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid("the consistency proof is too long")
        if here & 1 or here == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            here, last = _up_to_odd(here, last)
        else:
            after = node_hash(after, sibling)
        here, last = here >> 1, last >> 1
    if last != 0 or before != old or after != new:
        raise ProofInvalid("the later log does not begin with the earlier one")


def _up_to_odd(here: int, last: int) -> tuple[int, int]:
    """Climb while there is no sibling: the last node of a level goes up as it is."""
    while here and not here & 1:
        here, last = here >> 1, last >> 1
    return here, last


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _head(begin: int, end: int, node: Node) -> bytes:
    """MTH(D[begin:end]); ``begin`` is a border of a complete subtree at least that large."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(_head(begin, middle, node), _head(middle, end, node))
