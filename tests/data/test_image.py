"""An image checks itself, knows its geometry, and says what looks wrong in it."""

import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from tests.support.cines import AFFINE


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
        (AFFINE, 0.0047, (1, 1), "4.7 ms"),
        (np.diag([500, 1, 1, 1]), 0.03, (1, 1), "implausible"),
        (np.diag([1, 1, 0.005, 1]), 0.03, (1, 1), "implausible"),
    ],
)
def test_doubts_name_what_looks_wrong(affine, frame_time, codes, word):
    found = Image(np.zeros((2, 2, 2, 3)), affine, frame_time, codes).doubts()
    assert any(word in doubt for doubt in found)


@pytest.mark.parametrize("affine", [AFFINE, np.diag([0.8, 1, 1, 1]), np.diag([0.02, 0.02, 90, 1])])
@pytest.mark.parametrize(("shape", "frame_time"), [((2, 2, 2, 3), 0.03), ((2, 2, 2, 1), None), ((2, 2, 2), None)])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0)])
def test_no_doubts_about_a_good_header(affine, shape, frame_time, codes):
    assert Image(np.zeros(shape), affine, frame_time, codes).doubts() == []


def test_an_image_knows_its_spacing_and_frames():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.1, 0.2, 0.4]
    series = Image(np.zeros((2, 3, 4, 5)), affine)
    assert series.spacing == pytest.approx((0.1, 0.2, 0.4))
    assert series.frames == 5
    assert Image(np.zeros((2, 3, 4)), affine).frames == 1


def test_voxels_that_are_not_finite_are_counted_and_the_first_is_named():
    array = np.zeros((3, 3, 3))
    array[1, 0, 2] = np.nan
    array[2, 2, 0] = np.inf
    with pytest.raises(UnsupportedDataError, match=r"it has 2 NaN or infinite voxels, the first at \(1, 0, 2\)"):
        Image(array, AFFINE).require_finite("it")
