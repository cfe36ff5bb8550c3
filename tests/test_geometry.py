"""Axis codes agree with nibabel; a displayed slice does not depend on how the array was stored."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.geometry import axis_codes, displayed_slice
from crnn_cli.image import Image
from tests.conftest import AFFINE


def rotation(seed):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = q * [1.0, 1.5, 7]
    return affine


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_axis_codes_agree_with_nibabel(seed):
    affine = rotation(seed)
    assert axis_codes(affine) == "".join(nib.aff2axcodes(affine))


@pytest.mark.parametrize("axis", [0, 1])
def test_display_does_not_depend_on_flips_in_the_header(axis):
    array = np.random.default_rng(0).random((5, 4, 2, 3))
    flipped = AFFINE.copy()
    flipped[:3, 3] += AFFINE[:3, axis] * (array.shape[axis] - 1)
    flipped[:3, axis] *= -1
    same = Image(np.flip(array, axis), flipped)
    np.testing.assert_array_equal(displayed_slice(Image(array, AFFINE), 1), displayed_slice(same, 1))


def test_right_is_shown_on_the_left_and_anterior_on_top():
    array = np.zeros((4, 4, 1))
    array[3, 3, 0] = 1  # most right, most anterior in RAS
    assert displayed_slice(Image(array, np.eye(4)), 0)[0, 0, 0] == 1


def test_images_check_themselves():
    for affine in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(UnsupportedDataError):
            Image(np.zeros((2, 2, 2)), affine)
    for shape in ((2, 2), (2, 2, 0), (1, 2, 3, 4, 5)):
        with pytest.raises(UnsupportedDataError):
            Image(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize(
    ("affine", "frame_time", "codes", "word"),
    [
        (np.eye(4), 0.03, (1, 1), "1 x 1 x 1"),
        (AFFINE, None, (1, 1), "no frame time"),
        (AFFINE, 0.0047, (1, 1), "repetition time"),
        (AFFINE, 1.0, (1, 1), "lost"),
        (AFFINE, 0.03, (0, 0), "qform"),
        (np.diag([500, 1, 1, 1]), 0.03, (1, 1), "implausible"),
    ],
)
def test_doubts_name_what_looks_wrong(affine, frame_time, codes, word):
    found = Image(np.zeros((2, 2, 2, 3)), affine, frame_time, codes).doubts()
    assert any(word in doubt for doubt in found)


def test_no_doubts_about_a_good_header():
    assert Image(np.zeros((2, 2, 2, 3)), AFFINE, 0.03, (1, 1)).doubts() == []
