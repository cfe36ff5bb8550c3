"""Stacks of parallel slices: problems, notes, and the step from one slice to the next."""

import numpy as np
import pytest

from crnn_cli.data.slice_stack import SliceStack
from crnn_cli.errors import Param
from tests.support.remarks import texts

NORMAL = np.array([0.0, 0.6, 0.8])


def stack(along, aside=0.0, slice_tolerance=None):
    """Slices at distances along the normal, each so much farther along x than the one before."""
    positions = np.outer(along, NORMAL) + np.outer(np.arange(len(along)), [aside, 0, 0]) + [3, -4, 5]
    return SliceStack(positions, NORMAL, slice_tolerance)


def test_even_slices_have_no_problem_and_no_note():
    even = stack([0, 8, 16, 24])
    assert (even.problems(), texts(even.remarks())) == ([], [])
    np.testing.assert_allclose(even.step(5), 8 * NORMAL)
    np.testing.assert_allclose(stack([0]).step(5), 5 * NORMAL)
    assert (stack([0]).problems(), texts(stack([0]).remarks())) == ([], [])


@pytest.mark.parametrize(("aside", "told"), [(0.02, False), (0.05, True)])
def test_small_offsets_from_the_normal_are_noted_and_kept(aside, told):
    shifted = stack([0, 8, 16], aside)
    assert not shifted.problems()
    assert texts(shifted.remarks()) == (["slices lie up to 0.10 mm beside their common normal"] if told else [])
    np.testing.assert_allclose(shifted.step(5), 8 * NORMAL + (np.array([aside, 0, 0]) if told else 0))


def test_all_problems_are_named():
    assert stack([0, 8, 8.001, 16]).problems() == ["slices 2 and 3 along the normal lie in the same place"]
    first, second = stack([0, 8, 17], 2).problems()
    assert "8.50 mm, but 8.00 mm after slice 1, 9.00 mm after slice 2" in first
    assert "offset by up to 4.0 mm, a tilt of 13.2 degrees" in second
    assert len(stack([0, 8, 17], 2, slice_tolerance=0.5).problems()) == 1


@pytest.mark.parametrize(
    ("along", "aside", "tolerance"),
    [
        ([0, 8, 17], 0, 0.5),
        ([0, 8, 17], 2, None),
        ([0, 8, 16], 0, None),
        ([0, 8, 24, 32], 0, None),
        ([0, 8, 24], 0, None),
        ([0, 8.1, 24, 48.2], 0, None),
        ([0, 13, 20], 0, 3.0),
        ([0, 8, 8, 16], 0, None),
    ],
)
def test_the_least_tolerance_is_offered_where_it_helps(along, aside, tolerance):
    refused = stack(along, aside)
    remedy = () if tolerance is None else ("take them as even with ", Param("slice_tolerance", tolerance))
    assert refused.remedy() == remedy
    assert stack(along, aside, slice_tolerance=tolerance).problems() == ([] if remedy else refused.problems())
