"""Signed distances between drawn slices: exact where drawn, between where not, gone half-way to an empty slice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crnn_cli.labels.shape_interpolation import interpolate_distances, nearest_drawn, signed_distance


def disc(radius, centre=(20.0, 20.0), side=41):
    y, x = np.mgrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def known(slices, drawn):
    found = np.zeros(slices, bool)
    found[list(drawn)] = True
    return found


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_sign_of_the_distance_is_the_mask(mask):
    if not mask.any():
        with pytest.raises(ValueError, match="no outline"):
            signed_distance(mask)
        return
    assert ((signed_distance(mask) > 0) == mask).all()


def test_the_distance_is_that_to_the_nearest_pixel_of_the_structure_less_half_a_pixel():
    mask = disc(6)
    inside = np.argwhere(mask)
    outside = np.argwhere(~mask)
    nearest = np.sqrt(((outside[:, None] - inside[None]) ** 2).sum(-1)).min(axis=1)
    np.testing.assert_allclose(signed_distance(mask)[~mask], 0.5 - nearest, atol=1e-5)


def test_distances_are_in_the_unit_of_the_spacing():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    distance = signed_distance(mask, (3.0, 2.0))
    assert distance[4, 6] == pytest.approx(1 - 4.0)
    assert distance[7, 4] == pytest.approx(1 - 9.0)


@settings(deadline=None)
@given(hnp.arrays(bool, (6, 7, 8)), st.sets(st.integers(0, 5), min_size=1))
def test_drawn_slices_stay_as_drawn(mask, drawn):
    slices = known(6, drawn)
    found = interpolate_distances(mask, slices) > 0
    assert (found[slices] == mask[slices]).all()


@settings(deadline=None)
@given(hnp.arrays(bool, (6, 7, 8)), st.sets(st.integers(0, 5), min_size=1))
def test_the_order_of_the_slices_does_not_matter(mask, drawn):
    slices = known(6, drawn)
    upwards = interpolate_distances(mask, slices)
    downwards = interpolate_distances(mask[::-1], slices[::-1])[::-1]
    np.testing.assert_allclose(upwards, downwards, rtol=1e-5, atol=1e-4)


def test_slices_that_are_not_drawn_are_not_looked_at():
    mask = np.stack([disc(9), disc(2), disc(9)])
    other = mask.copy()
    other[1] = True
    slices = known(3, {0, 2})
    np.testing.assert_array_equal(interpolate_distances(mask, slices), interpolate_distances(other, slices))


def test_the_radius_of_a_cone_is_interpolated():
    mask = np.zeros((5, 41, 41), bool)
    mask[0], mask[4] = disc(14), disc(6)
    areas = (interpolate_distances(mask, known(5, {0, 4})) > 0).sum((1, 2))
    radii = np.sqrt(areas / np.pi)
    np.testing.assert_allclose(radii, [14, 12, 10, 8, 6], atol=0.3)


def test_a_structure_ends_half_way_to_an_empty_slice_and_shrinks_before():
    mask = np.zeros((7, 41, 41), bool)
    mask[0] = disc(12)
    areas = (interpolate_distances(mask, known(7, {0, 6})) > 0).sum((1, 2))
    assert areas[0] > areas[1] > areas[2] > 0
    assert (areas[3:] == 0).all()


def test_beyond_the_drawn_slices_the_last_one_is_copied():
    mask = np.zeros((5, 41, 41), bool)
    mask[1], mask[3] = disc(8), disc(5)
    found = interpolate_distances(mask, known(5, {1, 3})) > 0
    assert (found[0] == mask[1]).all()
    assert (found[4] == mask[3]).all()


def test_all_drawn_slices_empty_gives_nothing_anywhere():
    assert (interpolate_distances(np.zeros((4, 5, 6), bool), known(4, {1})) < -1000).all()


def test_without_a_drawn_slice_there_is_nothing_to_interpolate():
    with pytest.raises(ValueError, match="no slice is drawn"):
        interpolate_distances(np.ones((4, 5, 6), bool), np.zeros(4, bool))


def test_the_nearest_drawn_slice_is_the_one_before_of_two_as_near():
    assert nearest_drawn(known(6, {1, 3})).tolist() == [1, 1, 1, 3, 3, 3]
