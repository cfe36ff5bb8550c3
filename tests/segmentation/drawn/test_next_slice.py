"""The slice to draw next is the one that spares most wrong voxels, in it and in slices near it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.segmentation.drawn.next_slice import (
    distance_to_drawn,
    expected_wrong,
    gain_of_drawing,
    next_to_draw,
)


def test_the_middle_of_a_gap_goes_before_its_edge():
    known = np.array([True, *[False] * 7, True])
    assert next_to_draw(distance_to_drawn(known) ** 2.0, known) == 4
    assert next_to_draw(np.ones(9), known) in (3, 4, 5)


def test_a_slice_that_is_much_worse_goes_before_the_middle():
    known = np.array([True, *[False] * 7, True])
    doubtful = np.ones(9)
    doubtful[1] = 50
    assert next_to_draw(doubtful, known) == 1


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), min_size=2, max_size=20))
def test_drawn_slices_gain_nothing_and_others_at_least_their_own(slices):
    known = np.array([drawn for drawn, _ in slices])
    doubtful = np.array([wrong for _, wrong in slices])
    if not known.any():
        return
    gain = gain_of_drawing(doubtful, known)
    assert (gain[known] == 0).all()
    assert (gain[~known] >= doubtful[~known] - 1e-9).all()
    chosen = next_to_draw(doubtful, known)
    assert chosen is None or not known[chosen]


def test_nothing_is_proposed_where_nothing_is_in_doubt():
    known = np.array([True, False])
    assert next_to_draw(np.zeros(2), known) is None
    assert next_to_draw(np.ones(2), np.array([True, True])) is None


def test_distances_count_slices():
    np.testing.assert_array_equal(distance_to_drawn(np.array([False, True, False, False, True])), [1, 0, 1, 1, 0])
    with pytest.raises(ValueError, match="zero-size"):
        distance_to_drawn(np.array([False]))


def test_more_is_expected_to_be_wrong_far_from_drawn_slices_and_beyond_the_last():
    known = np.array([False, False, True, False, False, True, False, True])
    size = np.array([80, 80, 80, 90, 95, 100, 50, 0])  # the last slice is drawn empty
    np.testing.assert_allclose(expected_wrong(np.ones(8), size, known), [2 + 80, 1 + 40, 0, 1, 1, 0, 1 + 50, 0])


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 100)), min_size=1, max_size=12))
def test_only_slices_that_are_asked_for_are_proposed(slices):
    known, asked = (np.array([each[k] for each in slices]) for k in (0, 1))
    doubtful = np.array([wrong for _, _, wrong in slices])
    if not known.any():
        return
    chosen = next_to_draw(doubtful, known, asked)
    assert chosen is None or asked[chosen]
    assert (chosen is None) == (not doubtful[asked & ~known].any())
