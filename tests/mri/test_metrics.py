"""Quality measures: against scikit-image, an explicit kernel, values computed by hand, and laws."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri import metrics
from crnn_cli.mri.metrics import data_range, hfen, least_squares_scale, nmse, psnr, quality, ssim

SIZES = [(11, 11), (11, 24), (16, 13), (33, 32)]
MEASURES = [psnr, ssim, nmse, hfen]


def noise_pair(size, seed=0, frames=3):
    generator = torch.Generator().manual_seed(seed)
    reference = 100 * torch.rand(frames, *size, dtype=torch.float64, generator=generator)
    return reference + 20 * torch.randn(reference.shape, dtype=torch.float64, generator=generator), reference


def disc_pair(size, frames=3):
    """A disc that grows, a ramp and an empty corner; the image is blurred and dimmed."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in size), indexing="ij")
    radii = torch.linspace(0.3, 0.6, frames, dtype=torch.float64)[:, None, None]
    reference = 0.4 * (x**2 + y**2 < radii) + 0.1 * (x + 1) * (y > -0.5)
    return 0.25 * (reference + reference.roll(1, -1) + reference.roll(1, -2) + reference.roll(-1, -1)) * 0.9, reference


def pairs():
    return [make(size) for make in (noise_pair, disc_pair) for size in SIZES]


def per_frame(function, image, reference):
    return [function(r, x) for x, r in zip(image.numpy(), reference.numpy(), strict=True)]


@pytest.mark.parametrize(("image", "reference"), pairs())
def test_psnr_agrees_with_scikit_image(image, reference):
    peak = float(reference.abs().max())
    expected = per_frame(lambda r, x: peak_signal_noise_ratio(r, x, data_range=peak), image, reference)
    assert psnr(image, reference).frames.tolist() == pytest.approx(expected, abs=1e-9)
    whole = peak_signal_noise_ratio(reference.numpy(), image.numpy(), data_range=peak)
    assert psnr(image, reference).whole == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize(("image", "reference"), pairs())
def test_nmse_agrees_with_scikit_image(image, reference):
    expected = per_frame(lambda r, x: normalized_root_mse(r, x) ** 2, image, reference)
    assert nmse(image, reference).frames.tolist() == pytest.approx(expected, rel=1e-9)
    whole = normalized_root_mse(reference.numpy(), image.numpy()) ** 2
    assert nmse(image, reference).whole == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("image", "reference"), pairs())
def test_ssim_agrees_with_scikit_image(image, reference):
    peak = float(reference.abs().max())

    def independent(r, x):
        return structural_similarity(
            r, x, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=peak
        )

    expected = per_frame(independent, image, reference)
    assert ssim(image, reference).frames.tolist() == pytest.approx(expected, abs=1e-9)
    assert ssim(image, reference).whole == pytest.approx(np.mean(expected), abs=1e-9)
    assert ssim(image.float(), reference.float()).whole == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize(("image", "reference"), pairs())
def test_hfen_agrees_with_an_explicit_kernel(image, reference):
    y, x = np.mgrid[-7:8, -7:8]
    gauss = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    kernel = gauss / gauss.sum() * (x**2 + y**2 - 2 * 1.5**2) / 1.5**4
    kernel -= kernel.mean()

    def edges(frames):
        return np.stack([convolve(frame, kernel, mode="reflect") for frame in frames])

    error, truth = edges((image - reference).numpy()), edges(reference.numpy())
    assert hfen(image, reference).whole == pytest.approx(np.linalg.norm(error) / np.linalg.norm(truth), rel=1e-9)
    expected = np.linalg.norm(error, axis=(1, 2)) / np.linalg.norm(truth, axis=(1, 2))
    assert hfen(image, reference).frames.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_by_hand():
    reference = torch.tensor([[[0.0, 2.0], [2.0, 0.0]], [[4.0, 0.0], [0.0, 0.0]]])
    image = reference + torch.tensor([1.0, 2.0])[:, None, None]
    # errors 1 and 2 everywhere; squares 4 and 16 in sum; |r|^2 is 8 and 16; the largest value is 4
    assert data_range(reference) == 4
    assert psnr(image, reference).frames.tolist() == pytest.approx([10 * math.log10(16), 10 * math.log10(4)])
    assert psnr(image, reference).whole == pytest.approx(10 * math.log10(16 / 2.5))
    assert nmse(image, reference).frames.tolist() == pytest.approx([0.5, 1.0])
    assert nmse(image, reference).whole == pytest.approx(20 / 24)
    assert least_squares_scale(image, reference) == pytest.approx((12 + 24) / (1 + 9 + 9 + 1 + 36 + 4 + 4 + 4))


def test_ssim_of_flat_frames_by_hand():
    frames = torch.ones(1, 12, 11)
    c1 = (0.01 * 4) ** 2
    assert ssim(2 * frames, 4 * frames).whole == pytest.approx((2 * 2 * 4 + c1) / (4 + 16 + c1))


def test_hfen_of_points_by_hand():
    reference, far = torch.zeros(1, 40, 40), torch.zeros(1, 40, 40)
    reference[0, 10, 10] = far[0, 30, 30] = 1
    assert hfen(0 * reference, reference).whole == pytest.approx(1)
    assert hfen(1.25 * reference, reference).whole == pytest.approx(0.25)
    assert hfen(reference + 3 * far, reference).whole == pytest.approx(3)
    assert hfen(reference + 7, reference).whole == pytest.approx(0, abs=1e-12)


seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(11, 20), st.integers(11, 20))
few = settings(max_examples=20, deadline=None)


def values(image, reference):
    return [measure(image, reference).whole for measure in MEASURES]


@few
@given(seeds, sizes, st.floats(1e-6, 1e6))
def test_the_unit_of_both_images_does_not_matter(seed, size, unit):
    image, reference = noise_pair(size, seed)
    assert values(unit * image, unit * reference) == pytest.approx(values(image, reference), rel=1e-9, abs=1e-12)


@few
@given(seeds, sizes)
def test_an_image_equals_itself(seed, size):
    image, _ = noise_pair(size, seed)
    assert values(image, image) == [math.inf, 1, 0, 0]


@few
@given(seeds, sizes)
def test_the_sign_of_the_error_does_not_matter(seed, size):
    image, reference = noise_pair(size, seed)
    mirrored = 2 * reference - image
    for measure in (psnr, nmse, hfen):
        assert measure(image, reference).whole == pytest.approx(measure(mirrored, reference).whole, rel=1e-9)


@few
@given(seeds, sizes, st.floats(1.1, 4))
def test_more_noise_is_worse(seed, size, factor):
    image, reference = noise_pair(size, seed)
    noisier = reference + factor * (image - reference)
    better, worse = values(image, reference), values(noisier, reference)
    assert worse[0] == pytest.approx(better[0] - 20 * math.log10(factor))
    assert worse[1] < better[1] <= 1
    assert worse[2] == pytest.approx(better[2] * factor**2)
    assert worse[3] == pytest.approx(better[3] * factor)


@few
@given(seeds, sizes)
def test_ssim_lies_between_minus_one_and_one(seed, size):
    image, reference = noise_pair(size, seed)
    assert -1 <= ssim(-image, reference).whole <= ssim(image, reference).whole <= 1


@few
@given(seeds, st.floats(0.1, 10))
def test_the_fitted_scale_is_the_best(seed, brightness):
    image, reference = noise_pair((12, 13), seed)
    fitted = quality(brightness * image, reference, "least-squares")
    assert fitted.scale == pytest.approx(least_squares_scale(image, reference) / brightness)
    for other in (0.99, 1.01):
        assert fitted.nmse.whole < nmse(other * fitted.scale * brightness * image, reference).whole


def test_no_scale_is_fitted_unless_asked_for():
    image, reference = disc_pair((16, 16))
    plain = quality(image, reference)
    assert plain.scale is None
    assert plain.psnr.whole == psnr(image, reference).whole
    fitted = quality(3 * reference.float(), reference, "least-squares")
    assert fitted.scale == pytest.approx(1 / 3)
    assert fitted.psnr.whole > 120


def test_a_stack_of_slices_is_all_of_its_frames():
    image, reference = (v.reshape(2, 3, 14, 15) for v in noise_pair((14, 15), frames=6))
    stacked, flat = quality(image, reference), quality(image.flatten(0, 1), reference.flatten(0, 1))
    assert stacked.summary() == flat.summary()
    assert stacked.ssim.frames.shape == (2, 3)
    assert [(f["slice"], f["frame"]) for f in stacked.frames()] == [(z, t) for z in range(2) for t in range(3)]
    assert [f["hfen"] for f in stacked.frames()] == [f["hfen"] for f in flat.frames()]
    assert stacked.frames()[4]["psnr_db"] == pytest.approx(
        10 * math.log10(stacked.data_range**2 / float((image - reference)[1, 1].square().mean()))
    )


def test_how_many_frames_are_taken_at_once_does_not_matter(monkeypatch):
    image, reference = noise_pair((14, 15), frames=5)
    together = quality(image, reference)
    monkeypatch.setattr(metrics, "_PIXELS_AT_ONCE", 2 * 14 * 15)
    assert quality(image, reference).frames() == together.frames()


def test_the_order_of_the_axes_in_memory_does_not_matter():
    reference = torch.rand(8, 64, 64, generator=torch.Generator().manual_seed(8))
    image = reference + 0.1 * torch.rand(reference.shape, generator=torch.Generator().manual_seed(9))
    turned = [values.permute(2, 1, 0).contiguous().permute(2, 1, 0) for values in (image, reference)]
    assert not turned[0].is_contiguous()
    assert quality(*turned).summary() == quality(image, reference).summary()


def test_json_has_no_infinity():
    image, reference = noise_pair((12, 12))
    same = quality(reference, reference)
    assert same.summary()["psnr_db"] is None
    assert same.summary()["identical"] is True
    image[1] = reference[1]
    near = json.loads(json.dumps([quality(image, reference).summary(), *quality(image, reference).frames()]))
    assert [entry["identical"] for entry in near] == [False, False, True, False]
    assert [entry["psnr_db"] is None for entry in near] == [False, False, True, False]


def test_a_reference_that_is_the_same_all_over_has_all_but_hfen():
    reference = torch.full((2, 24, 20), 3.0, dtype=torch.float64)
    result = quality(reference + 0.3, reference)
    assert result.summary()["hfen"] is None
    assert result.psnr.whole == pytest.approx(20)
    assert result.nmse.whole == pytest.approx(0.01)
    assert [frame["hfen"] for frame in result.frames()] == [None, None]


def test_an_empty_frame_of_the_reference_has_no_nmse_and_no_hfen():
    image, reference = noise_pair((12, 12))
    reference[0] = 0
    reference[2] = 7
    result = quality(image, reference)
    json.dumps([result.summary(), result.frames()], allow_nan=False)
    assert [f["nmse"] is None for f in result.frames()] == [True, False, False]
    assert [f["hfen"] is None for f in result.frames()] == [True, False, True]
    assert all(math.isfinite(measure.whole) for measure in (result.psnr, result.ssim, result.nmse, result.hfen))


@pytest.mark.parametrize("strip", [1, 300, 2**20])
def test_strips_give_the_same_to_the_bit(monkeypatch, strip):
    image, reference = noise_pair((50, 23))
    expected = [(measure(image, reference).frames) for measure in (ssim, hfen)]
    monkeypatch.setattr(metrics, "_STRIP", strip)
    for measure, frames in zip((ssim, hfen), expected, strict=True):
        assert torch.equal(measure(image, reference).frames, frames)


def test_any_size_will_do_without_windows():
    tiny = torch.ones(2, 1, 3)
    assert psnr(tiny, tiny).whole == math.inf
    assert nmse(0 * tiny, tiny).whole == 1


def refused(image, reference, words, scale="none"):
    with pytest.raises(UnsupportedDataError, match=words):
        quality(image, reference, scale)


def test_what_cannot_be_compared_is_refused():
    image, reference = noise_pair((12, 12))
    broken = image.clone()
    broken[1, 2, 3] = math.nan
    refused(image[:2], reference, r"\(2, 12, 12\), the reference \(3, 12, 12\)")
    refused(image[0], reference[0], r"both must be the same \(T, Y, X\)")
    refused(image[:0], reference[:0], "both must be")
    refused(image + 0j, reference, "image is complex")
    refused(broken, reference, "image has NaN")
    refused(image, broken, "reference has NaN")
    refused(image[:, :10], reference[:, :10], r"12 x 10 pixels \(x, y\).*at least 11")
    refused(image, 0 * reference, "reference is zero everywhere")
    refused(image, 0 * reference, "reference is zero everywhere", "least-squares")
    refused(0 * image, reference, "no brightness can be fitted", "least-squares")


@pytest.mark.parametrize("measure", MEASURES)
def test_each_measure_refuses_a_reference_of_zeros(measure):
    image, reference = noise_pair((12, 12))
    with pytest.raises(UnsupportedDataError, match="zero everywhere"):
        measure(image, 0 * reference)
