"""Raw scans: readout oversampling, field of view, matrix, and geometry of their images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawScan, RawSlice, crop_and_resample, place_images, remove_oversampling


def noise(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def to_kspace(images, axes):
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(images, axes), axes=axes, norm="ortho"), axes)


def to_images(kspace, axes):
    return np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kspace, axes), axes=axes, norm="ortho"), axes)


@settings(deadline=None)
@given(samples=st.integers(4, 33), share=st.sampled_from([0.5, 0.6, 1.0]), seed=st.integers(0, 99))
def test_without_oversampling_the_readout_is_the_middle_of_the_image(samples, share, seed):
    images = noise(2, 3, 5, samples, seed=seed)
    whole = RawSlice(to_kspace(images, (-1,)).astype(np.complex64), np.ones((3, 5, 1), bool), images[:, 0])
    cut = remove_oversampling(whole, share)
    kept = round(samples * share)
    assert cut.kspace_CTYX.shape == (2, 3, 5, kept)
    first = samples // 2 - kept // 2
    wanted = images[..., first : first + kept]
    np.testing.assert_allclose(to_images(cut.kspace_CTYX, (-1,)), wanted, atol=1e-5)
    assert cut.calibration_CYX.shape == (2, 5, kept)


def test_the_noise_stays_white_and_as_strong():
    cut = remove_oversampling(RawSlice(noise(1, 1, 200, 64), np.ones((1, 200, 1), bool)), 0.5).kspace_CTYX[0, 0]
    covariance = cut.T @ cut.conj() / 200
    assert np.abs(np.diag(covariance)).mean() == pytest.approx(2, rel=0.05)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1


def test_an_asymmetric_echo_keeps_its_gap_and_loses_a_sample_at_its_edge():
    mask = np.ones((1, 4, 64), bool)
    mask[..., :16] = False
    cut = remove_oversampling(RawSlice(noise(1, 1, 4, 64) * mask, mask), 0.5)
    assert cut.mask_TYX.shape == (1, 4, 32)
    assert not cut.mask_TYX[..., :9].any()
    assert cut.mask_TYX[..., 9:31].all()
    assert not cut.kspace_CTYX[:, ~cut.mask_TYX].any()


@settings(deadline=None)
@given(
    lines=st.integers(4, 12), samples=st.integers(4, 12), more=st.integers(0, 9), share=st.sampled_from([1.0, 0.5, 0.8])
)
def test_cropping_the_field_of_view_keeps_brightness(lines, samples, more, share):
    flat = np.full((2, lines, samples), 3 + 4j, np.complex64)
    made = crop_and_resample(flat, (share, 1.0), (lines + more, samples))
    assert made.shape == (2, lines + more, samples)
    np.testing.assert_allclose(made, 3 + 4j, rtol=1e-5)


def test_a_finer_matrix_interpolates_and_a_coarser_one_takes_it_back():
    coarse = to_images(noise(1, 8, 10), (-2, -1)).astype(np.complex64)
    fine = crop_and_resample(coarse, (1.0, 1.0), (16, 20))
    np.testing.assert_allclose(fine[:, ::2, ::2], coarse, atol=1e-5)
    np.testing.assert_allclose(
        crop_and_resample(fine, (1.0, 1.0), (8, 10))[:, 1:, 1:].std(), coarse[:, 1:, 1:].std(), rtol=0.5
    )


@pytest.mark.parametrize("axes", [(2, 1, 0), (2, 0, 1), (0, 1, 2)])
def test_images_are_placed_by_the_axes_of_the_scan(axes):
    lengths = {0: 3, 1: 4, 2: 5}
    geometry = Image(np.zeros((3, 4, 5, 2), np.float32), np.diag([1.0, 2, 3, 1]), 0.03)
    z, y, x = (lengths[axis] for axis in axes)
    scan = RawScan("test", "", (z, 1, 2, y, x), geometry, axes, lambda z: None)
    images = noise(z, 2, y, x)
    image = place_images(images, scan)
    assert image.shape == (3, 4, 5, 2)
    assert image.frame_time == 0.03
    index = [0, 0, 0]
    index[axes[0]], index[axes[1]], index[axes[2]] = 1, 2, 0
    assert image.array[(*index, 1)] == images[1, 1, 2, 0]
