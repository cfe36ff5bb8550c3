"""Images to k-space: the pattern found is the pattern that was applied, or the data are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.acquisition import find_mask, from_fully_sampled, from_zero_filled
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from tests.support.cines import AFFINE, lines_mask, moving_cine, to_images, to_kspace


def undersampled(truth, mask):
    return Image(to_images(to_kspace(truth) * mask).astype(np.complex64), AFFINE, 0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 33), st.integers(8, 33), st.integers(2, 7), st.integers(0, 1), st.integers(0, 99))
def test_pattern_is_found_from_its_zeros(x, y, t, axis, seed):
    mask = lines_mask(x, y, t, axis, seed)
    if not mask[[0, -1]].any() or not mask[:, [0, -1]].any():
        return
    measured = np.argwhere(mask)
    first, last = measured.min(0), measured.max(0) + 1
    if mask[first[0] : last[0], first[1] : last[1]].mean() > 0.98:  # partial Fourier: nothing is missing in between
        return
    found = from_zero_filled(undersampled(moving_cine(x, y, 2, t, seed), mask))
    lines = mask[0, :, 0, :].T if axis == 1 else mask[:, 0, 0, :].T
    assert found.phase_axis == axis
    assert found.undersampled_axes == 1
    np.testing.assert_array_equal(found.mask_ZTYX[:, :, :, 0], np.broadcast_to(lines, (2, *lines.shape)))


def test_kspace_and_images_are_each_others_transform():
    truth = moving_cine(13, 10, 3, 4)
    mask = lines_mask(13, 10, 4)
    image = replace(undersampled(truth, mask), codes=(2, 4))
    found = from_zero_filled(image)
    assert found.kspace_ZCTYX.shape == (3, 1, 4, 10, 13)
    expected = (to_kspace(truth) * mask).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(found.kspace_ZCTYX[:, 0], expected, atol=1e-5)
    back = found.to_image(image.array.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(back.array, image.array)
    assert back.frame_time == 0.03
    assert back.codes == (2, 4)
    np.testing.assert_array_equal(back.affine, AFFINE)


def test_scale_of_the_data_does_not_change_the_pattern():
    mask = lines_mask(24, 20, 6)
    for scale in (1e-12, 1.0, 1e12):
        image = undersampled(scale * moving_cine().astype(np.complex128), mask)
        assert from_zero_filled(image).acceleration == pytest.approx(1 / mask[0, :, 0].mean())


def test_empty_and_dim_slices_do_not_confuse_the_pattern():
    truth = moving_cine(z=3)
    truth[:, :, 0] = 0
    truth[:, :, 1] *= 1e-5
    found = from_zero_filled(undersampled(truth, lines_mask(24, 20, 6)))
    assert not found.mask_ZTYX[0].any()
    np.testing.assert_array_equal(found.mask_ZTYX[1], found.mask_ZTYX[2])


def test_zero_filled_interpolation_alone_is_not_undersampling():
    kspace = to_kspace(moving_cine())
    kspace[:3], kspace[-3:], kspace[:, :2], kspace[:, -2:] = 0, 0, 0, 0
    with pytest.raises(UnsupportedDataError, match="fully sampled"):
        from_zero_filled(Image(to_images(kspace).astype(np.complex64), AFFINE))


def test_undersampling_inside_interpolation_is_found():
    mask = np.array(lines_mask(24, 20, 6, axis=1))
    mask[:3], mask[-3:] = 0, 0
    found = from_zero_filled(undersampled(moving_cine(), mask))
    assert found.phase_axis == 1
    np.testing.assert_array_equal(found.mask_ZTYX[0].transpose(2, 1, 0), mask[:, :, 0])


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_two_axes_undersampled_by_single_samples(share):
    rng = np.random.default_rng(0)
    mask = rng.random((24, 20, 1, 6)) < share
    mask[11:13, 9:11] = True
    found = from_zero_filled(undersampled(moving_cine(), mask))
    assert found.undersampled_axes == 2
    wanted = mask[:, :, 0].transpose(2, 1, 0) if found.phase_axis == 1 else mask[:, :, 0].transpose(2, 0, 1)
    np.testing.assert_array_equal(found.mask_ZTYX[0], wanted)


@pytest.mark.parametrize("axis", [0, 1])
def test_one_line_missing_in_some_frames_is_undersampling(axis):
    mask = np.ones((24, 20, 1, 6))
    mask[-1 if axis == 0 else slice(None), -1 if axis == 1 else slice(None), :, ::2] = 0
    found = from_zero_filled(undersampled(moving_cine(), mask))
    assert found.phase_axis == axis
    assert found.mask_ZTYX[:, ::2, -1].sum() == 0
    assert found.mask_ZTYX.mean() == pytest.approx(mask.mean())


def test_a_measured_line_is_told_from_rounding_over_five_decades():
    rng = np.random.default_rng(0)
    strength = np.tile([1e-7, 1.0, 1e-1, 1e-3, 1e-5], 4) * np.ones((6, 1))
    strength[::2] = np.roll(strength[::2], 1, axis=1)
    kspace = (strength[None, :, None, :] * np.exp(2j * np.pi * rng.random((1, 6, 24, 20)))).astype(np.complex64)
    found = find_mask(kspace)
    np.testing.assert_array_equal(found[0, :, 3], strength > 1e-6)


def test_the_share_of_energy_outside_a_mask_is_a_plain_number():
    image = undersampled(moving_cine(), lines_mask(24, 20, 6))
    other = Image(1 - lines_mask(24, 20, 6).astype(np.float32), AFFINE)
    with pytest.raises(UnsupportedDataError, match="100 % of the energy"):
        from_zero_filled(image, other)


def test_given_mask_equals_found_mask():
    mask = lines_mask(24, 20, 6)
    image = undersampled(moving_cine(), mask)
    by_hand = from_zero_filled(image, Image(mask.astype(np.float32), AFFINE))
    found = from_zero_filled(image)
    np.testing.assert_array_equal(by_hand.mask_ZTYX, found.mask_ZTYX)
    np.testing.assert_array_equal(by_hand.kspace_ZCTYX, found.kspace_ZCTYX)


def test_a_given_mask_without_time_holds_for_every_frame():
    mask = lines_mask(24, 20, 1)
    image = undersampled(moving_cine(), mask)
    found = from_zero_filled(image, Image(mask[..., 0].astype(np.float32), AFFINE))
    np.testing.assert_array_equal(found.mask_ZTYX, from_zero_filled(image).mask_ZTYX)


@pytest.mark.parametrize(("share", "accepted"), [(5e-4, True), (2e-3, False)])
def test_a_little_energy_outside_a_given_mask_is_ignored_and_more_is_refused(share, accepted):
    mask = lines_mask(24, 20, 6)
    measured = to_kspace(moving_cine()) * mask
    stray = np.random.default_rng(0).normal(size=measured.shape) * (1 - mask)
    stray *= np.sqrt(share * (np.abs(measured) ** 2).sum() / (stray**2).sum())
    image = Image(to_images(measured + stray).astype(np.complex64), AFFINE)
    if accepted:
        found = from_zero_filled(image, Image(mask.astype(np.float32), AFFINE))
        np.testing.assert_allclose(found.kspace_ZCTYX[:, 0], measured.transpose(2, 3, 1, 0), atol=1e-5)
    else:
        with pytest.raises(UnsupportedDataError, match=r"0\.2 % of the energy"):
            from_zero_filled(image, Image(mask.astype(np.float32), AFFINE))


@pytest.mark.parametrize("axis", [0, 1])
def test_simulation_measures_exactly_its_lines(axis):
    truth = moving_cine(14, 11, 2, 5)
    mask = lines_mask(14, 11, 5, axis)
    lines = (mask[0, :, 0] if axis == 1 else mask[:, 0, 0]).T.astype(bool)[None]
    found = from_fully_sampled(Image(truth, AFFINE), lines, axis, "SIMULATED")
    wanted = (to_kspace(truth) * mask).transpose((2, 3, 1, 0) if axis == 1 else (2, 3, 0, 1))
    np.testing.assert_allclose(found.kspace_ZCTYX[:, 0], wanted, atol=1e-5)
    assert found.origin == "SIMULATED"


def test_fully_sampled_magnitude_counts_as_phase_zero():
    magnitude = np.abs(moving_cine())
    mask = np.ones((1, 6, 20), bool)
    found = from_fully_sampled(Image(magnitude, AFFINE), mask, 1, "")
    np.testing.assert_allclose(found.kspace_ZCTYX[:, 0], to_kspace(magnitude).transpose(2, 3, 1, 0), atol=1e-5)


def refusals():
    good = moving_cine()
    mask = lines_mask(24, 20, 6)
    image = to_images(to_kspace(good) * mask).astype(np.complex64)
    nan, infinite = image.copy(), image.copy()
    nan[3, 4, 1, 2], infinite[0, 0, 0, 0] = np.nan, np.inf
    lost = mask.copy()
    lost[..., 2] = 0
    half = mask * 0.5
    over_time = np.ones((1, 1, 1, 6))
    over_time[..., 2] = 0
    return {
        "no time axis": (image[..., 0], None, "3-D"),
        "one frame": (image[..., :1], None, "one frame"),
        "magnitude only": (np.abs(image), None, "magnitude only"),
        "fully sampled": (good, None, "fully sampled"),
        "NaN": (nan, None, r"NaN.*\(3, 4, 1, 2\)"),
        "infinite": (infinite, None, "infinite"),
        "constant": (np.full_like(image, 3 + 1j), None, "constant"),
        "zero": (np.zeros_like(image), None, "constant"),
        "frame without a sample": (to_images(to_kspace(good) * lost).astype(np.complex64), None, "frame 3 of slice 1"),
        "mask of another shape": (image, mask[:-1], "mask is"),
        "mask of time only": (image, over_time, "mask is"),
        "mask complex": (image, mask.astype(np.complex64), "other than 0 and 1"),
        "mask not binary": (image, half, "other than 0 and 1"),
        "mask zero": (image, 0 * mask, "zero everywhere"),
        "mask one": (image, 0 * mask + 1, "one everywhere"),
        "mask misses a frame": (image, lost, "nothing in frame 3"),
        "mask shifted": (image, np.fft.ifftshift(mask, 1), "outside|disagrees"),
        "mask of another scan": (image, np.maximum(mask, lines_mask(24, 20, 6, seed=8)), "are zero"),
        "mask in another frame order": (image, mask[..., ::-1], "disagrees"),
    }


@pytest.mark.parametrize("name", list(refusals()))
def test_what_is_refused_and_why(name):
    array, mask, reason = refusals()[name]
    given = None if mask is None else Image(mask, AFFINE)
    with pytest.raises(UnsupportedDataError, match=reason):
        from_zero_filled(Image(array, AFFINE), given)


def test_a_frame_without_a_sample_is_named_by_its_slice_in_the_file():
    truth = moving_cine(z=3)
    truth[:, :, 0] = 0
    mask = np.array(lines_mask(24, 20, 6))
    mask[..., 2] = 0
    with pytest.raises(UnsupportedDataError, match="frame 3 of slice 2"):
        from_zero_filled(undersampled(truth, mask))


def test_simulation_needs_a_series_too():
    for array in (moving_cine()[..., 0], np.ones((24, 20, 2, 6), np.complex64)):
        with pytest.raises(UnsupportedDataError, match=r"3-D|constant"):
            from_fully_sampled(Image(array, AFFINE), np.ones((1, 6, 20), bool), 1, "")


def test_slices_interpolated_by_zero_filling_are_no_undersampled_3d_scan():
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(16, 12, 8, 4)) + 1j * rng.normal(size=(16, 12, 8, 4))
    along_z = np.fft.fftshift(np.fft.fft(volume, axis=2), 2)
    along_z[:, :, [0, 1, 6, 7]] = 0
    volume = np.fft.ifft(np.fft.ifftshift(along_z, 2), axis=2)
    mask = lines_mask(16, 12, 4)
    found = from_zero_filled(undersampled(volume, mask))
    np.testing.assert_array_equal(found.mask_ZTYX[3, :, :, 0], mask[0, :, 0].T)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_3d_scan_undersampled_along_the_slices_is_refused(share):
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(16, 12, 8, 4)) + 1j * rng.normal(size=(16, 12, 8, 4))
    mask = rng.random((1, 12, 8, 4)) < share
    mask[:, 5:7, 3:5] = True
    kspace = np.fft.fft(to_kspace(volume), axis=2) * np.fft.ifftshift(mask, 2)
    image = to_images(np.fft.ifft(kspace, axis=2)).astype(np.complex64)
    with pytest.raises(UnsupportedDataError, match="slice axis"):
        from_zero_filled(Image(image, AFFINE))


def test_find_mask_on_noise_free_smooth_data_keeps_every_measured_line():
    truth = moving_cine(64, 48, 1, 4, noise=0)
    mask = lines_mask(64, 48, 4)
    kspace = to_kspace(undersampled(truth, mask).array).transpose(2, 3, 0, 1).astype(np.complex64)
    found = find_mask(kspace)
    np.testing.assert_array_equal(found[0, :, 0], mask[0, :, 0].T.astype(bool))


def test_an_elliptical_shutter_alone_is_not_undersampling():
    x, y = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 20), indexing="ij")
    shutter = (x**2 + y**2 < 1)[:, :, None, None]
    with pytest.raises(UnsupportedDataError, match="fully sampled"):
        from_zero_filled(undersampled(moving_cine(), shutter))


def test_acceleration_is_that_of_the_measured_region():
    mask = np.array(lines_mask(24, 20, 6, axis=1))
    mask[:, [0, -1]] = 1
    inside = 1 / mask[0].mean()
    mask[:4], mask[-4:] = 0, 0
    truth = moving_cine(z=3)
    truth[:, :, 1] = 0
    found = from_zero_filled(undersampled(truth, mask))
    assert found.effective_acceleration == pytest.approx(inside)
    assert found.acceleration == pytest.approx(1 / mask.mean())
    assert found.undersampled_axes == 1


def test_undersampled_data_are_no_truth_to_simulate_from():
    image = undersampled(moving_cine(), lines_mask(24, 20, 6))
    with pytest.raises(UnsupportedDataError, match="undersampled already"):
        from_fully_sampled(image, np.ones((1, 6, 20), bool), 1, "")


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_extreme_brightness_is_read(scale):
    image = undersampled(scale * moving_cine().astype(np.complex128), lines_mask(24, 20, 6))
    assert from_zero_filled(image).undersampled_axes == 1


def test_absurd_brightness_is_refused():
    image = undersampled(1e33 * moving_cine().astype(np.complex128), lines_mask(24, 20, 6))
    with pytest.raises(UnsupportedDataError, match="rescale"):
        from_zero_filled(image)


def test_empty_first_frame_is_named():
    array = undersampled(moving_cine(), lines_mask(24, 20, 6)).array.copy()
    array[..., 0] = 0
    with pytest.raises(UnsupportedDataError, match="frame 1 of slice 1"):
        from_zero_filled(Image(array, AFFINE))


def test_repeated_slices_are_not_taken_for_a_3d_scan():
    image = undersampled(np.repeat(moving_cine(), 4, axis=2), lines_mask(24, 20, 6))
    assert from_zero_filled(image).mask_ZTYX.shape[0] == 8
