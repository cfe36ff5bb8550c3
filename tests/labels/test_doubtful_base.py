"""Slices at the base that a structure hardly covers, or that the network is unsure of, are dropped; nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.labels.doubtful_base import CLEARLY, MOST, drop_doubtful_base

WIDTH = 40
SURE, COVER = BaseRule([0.9], [0]), BaseRule([0], [0.45])


def stack(extents, sure=None, axis=2):
    """Labels 1 in columns from ``start`` to ``stop`` of each slice, and their probability there."""
    shape = (4, WIDTH, len(extents))
    labels, p = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for s, (start, stop) in enumerate(extents):
        labels[:, start:stop, s], p[:, start:stop, s] = 1, 0.98 if sure is None else sure[s]
    return np.moveaxis(labels, 2, axis), np.stack([np.moveaxis(each, 2, axis) for each in (1 - p, p)])


def left(extents, rule, sure=None, axis=2):
    kept = drop_doubtful_base(*stack(extents, sure, axis), axis, rule)
    return np.flatnonzero(np.moveaxis(kept, axis, 2).any((0, 1))).tolist()


TAPERED = [(0, 30), (0, 28), (0, 24), (0, 16), (0, 8)]
ATRIUM = [(0, 9), *TAPERED]  # as narrow a label as an atrium's, over a third of the ventricle


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_that_covers_little_of_the_next_one_is_dropped_at_the_base_and_not_at_the_apex(axis):
    assert left(ATRIUM, COVER, axis=axis) == [1, 2, 3, 4, 5]
    assert left(TAPERED, COVER, axis=axis) == [0, 1, 2, 3, 4]
    assert left([*TAPERED, (0, 2)], COVER, axis=axis) == [0, 1, 2, 3, 4, 5]


def test_a_region_beside_the_ventricle_covers_nothing_of_it_however_large():
    assert left([(30, 40), *TAPERED], COVER) == [1, 2, 3, 4, 5]
    assert left([(0, 14), *TAPERED], COVER) == [0, 1, 2, 3, 4, 5]


def test_a_slice_much_less_sure_than_the_others_is_dropped_at_the_base_and_not_at_the_apex():
    assert left(TAPERED, SURE, [0.7, 0.98, 0.97, 0.98, 0.97]) == [1, 2, 3, 4]
    assert left(TAPERED, SURE, [0.97, 0.98, 0.97, 0.98, 0.7]) == [0, 1, 2, 3, 4]
    assert left(TAPERED, SURE, [0.98, 0.6, 0.97, 0.98, 0.98]) == [0, 1, 2, 3, 4]
    assert left(TAPERED, SURE, [0.6, 0.61, 0.6, 0.62, 0.6]) == [0, 1, 2, 3, 4]


def test_the_base_loses_two_slices_at_most():
    unsure = [0.5, 0.5, 0.5, *[0.98] * 6]
    assert left([(0, 40 - 3 * s) for s in range(9)], SURE, unsure) == list(range(MOST, 9))


def test_a_base_that_is_not_known_loses_nothing():
    assert left([(0, 9), (0, 30), (0, 30), (0, 9)], COVER) == [0, 1, 2, 3]
    assert left([(0, 9)], BaseRule([1], [1])) == [0]
    assert left([(0, 0)] * 3, COVER) == []


@pytest.mark.parametrize("narrower", range(12))
def test_an_end_that_is_hardly_wider_than_the_other_is_not_taken_for_the_base(narrower):
    end = 36 - narrower
    is_clear = 36 + 12 - (end + 12) > CLEARLY * (36 + 12 + end + 12)
    assert left([(0, 36), (0, 12), (0, 12), (0, end)], SURE, [0.5, 0.98, 0.98, 0.98]) == [*[0][is_clear:], 1, 2, 3]


EXTENTS = st.lists(st.tuples(st.integers(0, 15), st.integers(16, WIDTH)), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(EXTENTS, st.floats(0, 1), st.floats(0, 1), st.data())
def test_slices_of_the_base_alone_are_dropped_in_whichever_order_they_come(extents, certainty, cover, data):
    sure = data.draw(st.lists(st.floats(0.5, 1), min_size=len(extents), max_size=len(extents)))
    rule = BaseRule([certainty], [cover])
    kept, last = left(extents, rule, sure), len(extents) - 1
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert kept[0] == 0 or kept[-1] == last
    assert len(extents) - len(kept) <= MOST
    assert left(extents[::-1], rule, sure[::-1]) == [last - s for s in kept[::-1]]
    assert left(extents, BaseRule([0], [0]), sure) == list(range(last + 1))


def test_structures_are_judged_each_by_its_own_shares_and_labels_given_are_not_changed():
    labels, p = stack(ATRIUM)
    both = np.concatenate([labels, 2 * labels])
    two = np.zeros((3, 8, WIDTH, len(ATRIUM)), np.float32)
    two[1, :4], two[2, 4:] = p[1], p[1]
    before = both.copy()
    kept = drop_doubtful_base(both, two, 2, BaseRule([0, 0], [0.45, 0]))
    assert (kept == 1).any((0, 1)).tolist() == [False, True, True, True, True, True]
    assert (kept == 2).any((0, 1)).all()
    np.testing.assert_array_equal(both, before)
