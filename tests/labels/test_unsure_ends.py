"""Outermost slices that the network is unsure of are dropped; nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.labels.unsure_ends import MOST, drop_unsure_ends


def stack(sure, axis=2):
    """Labels 1 of 4 x 4 voxels in slices of these mean probabilities; 0 is a slice without labels."""
    shape = (4, 4, len(sure))
    labels, p = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for s, value in enumerate(sure):
        labels[..., s], p[..., s] = value > 0, value
    return np.moveaxis(labels, 2, axis), np.stack([np.moveaxis(each, 2, axis) for each in (1 - p, p)])


def left(sure, share=0.9, axis=2):
    kept = drop_unsure_ends(*stack(sure, axis), axis, share)
    return np.flatnonzero(np.moveaxis(kept, axis, 2).any((0, 1))).tolist()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_unsure_end_is_dropped_on_either_side(axis):
    assert left([0.7, 0.98, 0.97, 0.98, 0.97], axis=axis) == [1, 2, 3, 4]
    assert left([0.97, 0.98, 0.97, 0.98, 0.7], axis=axis) == [0, 1, 2, 3]
    assert left([0, 0.7, 0.98, 0.97, 0.7, 0], axis=axis) == [2, 3]


def test_what_is_not_at_an_end_stays_and_so_do_labels_that_are_unsure_all_over():
    assert left([0.98, 0.6, 0.97, 0.98]) == [0, 1, 2, 3]
    assert left([0.6, 0.61, 0.6, 0.62, 0.6]) == [0, 1, 2, 3, 4]
    assert left([0.55]) == [0]
    assert left([0, 0, 0]) == []


def test_an_end_loses_two_slices_at_most():
    assert left([0.5, 0.5, 0.5, *[0.98] * 6]) == list(range(2, 9))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.34, 1), min_size=1, max_size=9), st.floats(0, 1))
def test_ends_alone_are_dropped_and_no_structure_is_lost(sure, share):
    kept = left(sure, share)
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert kept[0] <= MOST
    assert len(sure) - 1 - kept[-1] <= MOST
    assert left(sure, 0.0) == list(range(len(sure)))


def test_structures_are_judged_each_on_its_own():
    labels, p = stack([0.98, 0.97, 0.98, 0.5])
    both = np.concatenate([labels, 2 * labels])
    two = np.zeros((3, 8, 4, 4), np.float32)
    two[1, :4], two[2, 4:] = p[1], 0.9
    kept = drop_unsure_ends(both, two, 2, 0.9)
    assert (kept == 1).any((0, 1)).tolist() == [True, True, True, False]
    assert (kept == 2).any((0, 1)).all()
