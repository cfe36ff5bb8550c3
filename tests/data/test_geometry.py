"""Axis codes agree with nibabel; a displayed slice does not depend on how the array was stored."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crnn_cli.data.geometry import displayed_slice
from crnn_cli.data.image import Image
from crnn_cli.data.orientation import axis_codes
from tests.support.cines import AFFINE


def rotation(seed):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = q * [1.0, 1.5, 7]
    return affine


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_axis_codes_agree_with_nibabel(seed):
    affine = rotation(seed)
    shares = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    clear = (np.diff(np.sort(shares, axis=0), axis=0)[1] > 0.02).all() and len(set(shares.argmax(0))) == 3
    assume(clear)  # where two voxel axes are nearest to one of the patient's, it is a matter of taste
    assert axis_codes(affine) == "".join(nib.aff2axcodes(affine))


@pytest.mark.parametrize("axis", [0, 1])
def test_display_does_not_depend_on_flips_in_the_header(axis):
    array = np.random.default_rng(0).random((5, 4, 2, 3))
    flipped = AFFINE.copy()
    flipped[:3, 3] += AFFINE[:3, axis] * (array.shape[axis] - 1)
    flipped[:3, axis] *= -1
    same = Image(np.flip(array, axis), flipped)
    np.testing.assert_array_equal(displayed_slice(Image(array, AFFINE), 1), displayed_slice(same, 1))


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "RSA", "LIP", "ASR", "PSL", "SAR"])
def test_right_anterior_and_superior_come_first(orientation):
    """Right is shown on the left; of the two array axes of a slice, the first runs along the columns."""
    columns, rows = ("RAS" if letter in "RAS" else "LPI" for letter in orientation[:2])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, letter in enumerate(orientation):
        patient, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[letter]
        affine[patient, axis] = sign
    array = np.arange(4 * 3 * 2 * 2).reshape(4, 3, 2, 2)
    first = (-1 if columns == "RAS" else 0, -1 if rows == "RAS" else 0)
    for z in range(2):
        shown = displayed_slice(Image(array, affine), z)
        assert shown.shape == (2, 3, 4)
        np.testing.assert_array_equal(shown[:, 0, 0], array[first[0], first[1], z])
        np.testing.assert_array_equal(shown[:, -1, -1], array[-1 - first[0], -1 - first[1], z])
