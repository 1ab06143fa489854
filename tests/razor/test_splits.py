"""Roles are disjoint by picture, complete, and do not depend on the order of files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from razor.errors import TooFewPictures
from razor.splits import split_labelled, split_samples

blobs = st.lists(st.binary(min_size=1, max_size=4), min_size=3, max_size=40)


@given(blobs, st.integers(0, 5))
def test_samples_are_split_by_picture(pictures: list[bytes], seed: int) -> None:
    distinct = len(set(pictures))
    if distinct < 3:
        with pytest.raises(TooFewPictures):
            split_samples(pictures, seed)
        return
    split = split_samples(pictures, seed)
    sides = [{pictures[i] for i in side} for side in (split.fit, split.select, split.test)]
    assert all(sides)
    assert sum(len(side) for side in sides) == distinct == len(set.union(*sides))


@given(blobs, st.integers(0, 5), st.randoms())
def test_the_order_of_files_does_not_matter(pictures: list[bytes], seed: int, rng: object) -> None:
    if len(set(pictures)) < 3:
        return
    mixed = list(pictures)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    one, two = split_samples(pictures, seed), split_samples(mixed, seed)
    for a, b in zip((one.fit, one.select, one.test), (two.fit, two.select, two.test), strict=True):
        assert {pictures[i] for i in a} == {mixed[i] for i in b}


def test_eight_samples_are_four_two_two() -> None:
    split = split_samples([bytes([i]) for i in range(8)], 0)
    assert [len(side) for side in (split.fit, split.select, split.test)] == [4, 2, 2]


def test_the_seed_draws_the_split() -> None:
    pictures = [bytes([i]) for i in range(12)]
    assert len({split_samples(pictures, seed).test for seed in range(8)}) > 1


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 12)), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_labelled_pictures_keep_roles_disjoint(rows: list[tuple[str, int]], seed: int) -> None:
    labels, digests = [label for label, _ in rows], [str(number) for _, number in rows]
    split = split_labelled(labels, digests, seed)
    sides = [{digests[i] for i in side} for side in (split.fit, split.select, split.test)]
    assert sum(len(side) for side in sides) == len(set(digests))
    assert sorted((*split.fit, *split.select, *split.test)) == list(range(len(rows)))


def test_every_label_with_four_pictures_plays_every_role() -> None:
    labels = [label for label in "ABC" for _ in range(4)]
    split = split_labelled(labels, [str(i) for i in range(12)], 0)
    for side in (split.fit, split.select, split.test):
        assert {labels[i] for i in side} == set("ABC")
