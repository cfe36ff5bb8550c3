"""Image: checks, geometry, warnings about the header, and how it shows itself."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from crnn_cli.data.geometry import displayed_slice
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
    assert any(word in doubt.text for doubt in found)


@pytest.mark.parametrize("affine", [AFFINE, np.diag([0.8, 1, 1, 1]), np.diag([0.02, 0.02, 90, 1])])
@pytest.mark.parametrize(("shape", "frame_time"), [((2, 2, 2, 3), 0.03), ((2, 2, 2, 1), None), ((2, 2, 2), None)])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0)])
def test_no_doubts_about_a_good_header(affine, shape, frame_time, codes):
    assert Image(np.zeros(shape), affine, frame_time, codes).doubts() == []


def test_an_image_is_made_from_any_array():
    image = Image([[[1, 2], [3, 4]]])
    assert (image.shape, image.frame_time) == ((1, 2, 2), None)
    np.testing.assert_array_equal(image.affine, np.eye(4))
    series = Image(np.ones((2, 3, 4, 5), np.float32), affine=np.diag([2, 2, 8, 1]).tolist(), frame_time=0.04)
    assert (series.affine.dtype, series.spacing, series.frame_time) == (np.float64, (2, 2, 8), 0.04)
    assert replace(series, frame_time=None).spacing == (2, 2, 8)
    whole = np.ones((2, 3, 4))
    assert Image(whole).array is whole
    assert Image(torch.ones(2, 3, 4)).array.dtype == np.float32
    for values in ([["a"]], np.array([[[object()]]])):
        with pytest.raises(UnsupportedDataError, match="numbers"):
            Image(values)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (Image(np.zeros((2, 3, 4), np.int16)), "Image(2 x 3 x 4, 1 x 1 x 1 mm, int16)"),
        (
            Image(np.zeros((25, 20, 1, 9), np.complex64), np.diag([0.8203, 0.8203, 10, 1]), 0.0383),
            "Image(25 x 20 x 1 x 9, 0.82 x 0.82 x 10 mm, frame time 38.3 ms, complex64)",
        ),
        (Image(np.zeros((2, 3, 4)), pixdim=(1.5, 1.5, 6)), "Image(2 x 3 x 4, 1.5 x 1.5 x 6 mm, float64)"),
    ],
)
def test_an_image_is_described_in_a_line(image, text):
    assert repr(image) == text


def picture_of(image):
    return np.asarray(Picture.open(io.BytesIO(image._repr_png_())))


@pytest.mark.parametrize("affine", [AFFINE, np.diag([-1.0, 1, 1, 1]), np.diag([1.0, -1, 5, 1])])
def test_a_notebook_shows_the_middle_slice_as_a_viewer_does(affine):
    array = np.random.default_rng(0).normal(size=(128, 256, 3)) + np.linspace(0, 40, 256)[:, None]
    image = Image(array, affine, pixdim=(1, 1, 1))
    drawn, expected = picture_of(image), displayed_slice(image, 1)[0]
    assert drawn.shape == expected.shape == (256, 128)
    assert np.corrcoef(drawn.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("frames", "columns"), [(1, 1), (3, 3), (20, 4)])
def test_a_notebook_shows_up_to_four_frames(frames, columns):
    drawn = picture_of(Image(np.random.default_rng(0).normal(size=(20, 20, 1, frames)) * 1j, np.diag([1.0, 1, 1, 1])))
    assert drawn.shape == (256, 256 * columns)


@pytest.mark.parametrize("value", [0, 7, np.nan])
def test_a_notebook_shows_any_image(value):
    array = np.zeros((4, 300, 1))
    array[2:] = value
    drawn = picture_of(Image(array, np.diag([40.0, 0.1, 1, 1])))
    assert drawn.max() == (255 if value == 7 else 0)


def test_a_notebook_shows_voxels_at_their_size():
    drawn = picture_of(Image(np.arange(64.0).reshape(8, 8, 1), np.diag([1.0, 2.0, 1, 1])))
    assert drawn.shape == (256, 128)


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
