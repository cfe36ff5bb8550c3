"""The plane that was drawn in is found from the labels, in any order of the axes; two planes are refused."""

import itertools

import numpy as np
import pytest

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.segmentation.drawn.plane import drawn_axis, require_one_plane, sheet_shares
from tests.support.drawn import drawn_in, truth

MASK = truth() > 0


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("slices", [[4], [1, 4, 7], [2, 3], [3, 4, 5]])
def test_the_plane_is_found_in_any_order_of_the_axes(order, slices):
    mask = drawn_in(MASK, slices).transpose(order)
    assert drawn_axis(mask, "drawn") == order.index(2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_across_each_axis(axis):
    cube = np.zeros((20, 20, 20), bool)
    cube[4:16, 4:16, 4:16] = True
    assert drawn_axis(drawn_in(cube, [6, 13], axis), "drawn") == axis


def test_a_small_structure_is_told_by_its_gaps():
    mask = np.zeros((12, 12, 12), bool)
    mask[5:8, 5:8, [2, 5, 8]] = True
    assert drawn_axis(mask, "drawn") == 2


def test_a_whole_structure_tells_nothing():
    cube = np.zeros((20, 20, 20), bool)
    cube[4:16, 4:16, 4:16] = True
    assert drawn_axis(cube, "drawn") is None


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
def test_two_planes_are_refused(first, second):
    cube = np.zeros((20, 20, 20), bool)
    cube[4:16, 4:16, 4:16] = True
    both = drawn_in(cube, [8], first) | drawn_in(cube, [11], second)
    with pytest.raises(UnsupportedDataError, match=f"two planes, across the axes {'xyz'[first]} and {'xyz'[second]}"):
        drawn_axis(both, "drawn")


def test_what_lies_within_the_drawn_slices_is_one_plane_after_all():
    mask = drawn_in(MASK, [2, 4, 6])
    mask[14, :, [2, 4, 6]] |= MASK[14][:, [2, 4, 6]].T  # drawn in another view, and nothing beyond the slices
    require_one_plane(mask, "drawn")
    assert sheet_shares(mask)[2] > 0.9
