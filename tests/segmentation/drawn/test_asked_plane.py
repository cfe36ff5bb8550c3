"""A plane that is asked for across the drawn one, and strokes through drawn slices, are seen."""

import numpy as np
import pytest

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.segmentation.drawn.plane import require_one_plane, require_plane
from tests.support.drawn import drawn_in, truth

MASK = truth() > 0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("slices", [[1, 4, 7], [2, 5], [1, 3, 5, 7]])
def test_slices_across_the_drawn_ones_are_refused(slices, axis):
    with pytest.raises(UnsupportedDataError, match=f"across the axis z of the array, and .* across {'xyz'[axis]}"):
        require_plane(drawn_in(MASK, slices), axis, "drawn")


@pytest.mark.parametrize("slices", [[4], [3, 4, 5], [1, 4, 7]])
def test_the_plane_that_was_drawn_in_is_taken(slices):
    assert require_plane(drawn_in(MASK, slices), 2, "drawn") is None


def test_slices_in_a_row_are_a_doubt_across_another_axis():
    doubt = require_plane(drawn_in(MASK, [3, 4, 5]), 0, "drawn")
    assert doubt is not None
    assert doubt.code == "drawn-in-another-plane"
    assert "across the axis z" in doubt.text


def test_a_thin_structure_may_be_drawn_across_its_length():
    mask = np.zeros((20, 20, 20), bool)
    mask[10, 4:16, [3, 7, 12]] = True
    assert require_plane(mask, 2, "drawn") is None


@pytest.mark.parametrize(("across", "length"), [(1, 9), (2, 9), (1, 3)])
@pytest.mark.parametrize("slices", [[1, 5], [4]])
def test_a_stroke_through_drawn_slices_is_a_second_plane(slices, across, length):
    mask = drawn_in(MASK, slices)
    first = 0 if length == 9 else slices[0] + 1
    mask[14 : 14 + across, 16, first : first + length] = True
    with pytest.raises(UnsupportedDataError, match="axis z of the array, and a stroke through them"):
        require_one_plane(mask, "drawn")


def test_a_stray_voxel_and_a_neck_are_no_stroke():
    mask = drawn_in(MASK, [1, 4, 7])
    mask[14, 16, 2] = True
    require_one_plane(mask, "drawn")
    whole = np.zeros((30, 30, 12), bool)
    whole[5:25, 5:25, :4] = whole[5:25, 5:25, 8:] = whole[14:17, 14:17, 4:8] = True
    require_one_plane(whole, "a whole map, in which no slice stands alone")
