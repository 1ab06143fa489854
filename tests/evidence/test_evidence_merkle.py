"""The tree against the RFC's own words, done slowly, and proofs that were tampered with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from evidence_world import Log

from evidence import merkle
from evidence.errors import ProofInvalid

MOST = 70


def slow_head(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, over the leaves' data."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_head(leaves[:k]) + slow_head(leaves[k:])).digest()


def slow_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*slow_path(m, leaves[:k]), slow_head(leaves[k:])]
    return [*slow_path(m - k, leaves[k:]), slow_head(leaves[:k])]


def slow_proof(m: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of 2.1.2."""
    if m == len(leaves):
        return [] if whole else [slow_head(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*slow_proof(m, leaves[:k], whole), slow_head(leaves[k:])]
    return [*slow_proof(m - k, leaves[k:], False), slow_head(leaves[:k])]


DATA = [str(number).encode() for number in range(MOST)]


@pytest.fixture(scope="module")
def log() -> Log:
    """The leaves, with every complete subtree kept, as a log keeps them."""
    made = Grown()
    for data in DATA:
        made.add(merkle.leaf_hash(data))
    return made


class Grown(Log):
    """Nodes come from ``completed`` alone, so that a missing one is a KeyError."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[tuple[int, int], bytes] = {}

    def add(self, leaf: bytes) -> None:
        index = len(self.leaves)
        super().add(leaf)
        for found in merkle.completed(index, leaf, self.node):
            self.nodes[found.level, found.place] = found.hash

    def node(self, level: int, place: int) -> bytes:
        return self.nodes[level, place] if level else self.leaves[place]


def test_heads_are_those_of_the_rfc(log: Log) -> None:
    for size in range(MOST + 1):
        assert merkle.root(size, log.node) == slow_head(DATA[:size])


def test_known_vectors() -> None:
    """The test tree of the reference implementations of Certificate Transparency."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    inputs.append("606162636465666768696a6b6c6d6e6f")
    log = Log()
    heads = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    assert merkle.EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for size, data in enumerate(inputs, 1):
        log.add(merkle.leaf_hash(bytes.fromhex(data)))
        if size in heads:
            assert merkle.root(size, log.node).hex() == heads[size]


def test_inclusion_proofs_are_those_of_the_rfc_and_hold(log: Log) -> None:
    for size in range(1, MOST + 1):
        head = merkle.root(size, log.node)
        # Every leaf of the small trees; of the others those around the borders.
        few = range(size) if size < 20 else {0, 1, size // 2, size - 2, size - 1}
        for index in few:
            proof = merkle.inclusion(index, size, log.node)
            assert proof == slow_path(index, DATA[:size])
            merkle.check_inclusion(log.leaves[index], index, size, proof, head)


def test_consistency_proofs_are_those_of_the_rfc_and_hold(log: Log) -> None:
    for second in range(MOST + 1):
        new = merkle.root(second, log.node)
        few = range(second + 1) if second < 20 else {0, 1, 16, second // 2, second - 1, second}
        for first in few:
            proof = merkle.consistency(first, second, log.node)
            if first:
                assert proof == slow_proof(first, DATA[:second])
            merkle.check_consistency(first, second, proof, merkle.root(first, log.node), new)


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def broken(proof: list[bytes]) -> list[list[bytes]]:
    """The proof with each node flipped, with one too few, and with one too many."""
    found = [[*proof[:i], flipped(proof[i]), *proof[i + 1 :]] for i in range(len(proof))]
    if proof:
        found += [proof[:-1], proof[1:], proof[::-1]] if len(proof) > 1 else [[]]
    return [*found, [*proof, bytes(32)], [*proof, *proof[-1:], bytes(32)]]


def test_a_tampered_inclusion_proof_holds_for_nothing(log: Log) -> None:
    for size in (1, 2, 3, 7, 8, 13):
        head = merkle.root(size, log.node)
        for index in range(size):
            leaf, proof = log.leaves[index], merkle.inclusion(index, size, log.node)
            wrong = [(leaf, index, size, bad, head) for bad in broken(proof)]
            wrong += [(leaf, other, size, proof, head) for other in range(size) if other != index]
            wrong += [(leaf, index, other, proof, head) for other in (index, 0)]
            wrong += [
                (flipped(leaf), index, size, proof, head),
                (leaf, index, size, proof, flipped(head)),
                (leaf, -1, size, proof, head),
            ]
            for case in wrong:
                with pytest.raises(ProofInvalid):
                    merkle.check_inclusion(*case)


def test_a_tampered_consistency_proof_holds_for_nothing(log: Log) -> None:
    for second in (1, 2, 3, 7, 8, 13):
        new = merkle.root(second, log.node)
        for first in range(second + 1):
            old = merkle.root(first, log.node)
            proof = merkle.consistency(first, second, log.node)
            wrong = [(first, second, bad, old, new) for bad in broken(proof)]
            wrong.append((first, second, proof, flipped(old), new))
            if first:
                wrong += [
                    (first, second, proof, old, flipped(new)),
                    (second + 1, second, proof, old, new),
                    (-1, second, proof, old, new),
                ]
            for case in wrong:
                with pytest.raises(ProofInvalid):
                    merkle.check_consistency(*case)


def test_a_log_that_changed_a_line_is_not_consistent(log: Log) -> None:
    other = Log()
    for number, data in enumerate(DATA[:13]):
        other.add(merkle.leaf_hash(b"changed" if number == 4 else data))
    old, new = merkle.root(9, log.node), merkle.root(13, other.node)
    with pytest.raises(ProofInvalid):
        merkle.check_consistency(9, 13, merkle.consistency(9, 13, other.node), old, new)


def test_a_leaf_is_no_node() -> None:
    left, right = merkle.leaf_hash(b"l"), merkle.leaf_hash(b"r")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_no_proof_of_what_is_not_there(log: Log, index: int, size: int) -> None:
    with pytest.raises(ValueError, match="not in the tree"):
        merkle.inclusion(index, size, log.node)


def test_no_proof_backwards(log: Log) -> None:
    with pytest.raises(ValueError, match="must not be larger"):
        merkle.consistency(4, 3, log.node)
