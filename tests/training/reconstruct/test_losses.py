"""Losses of images equal what is worked out by hand and scikit-image's SSIM, scale, and have gradients."""

import cmath
import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.training.reconstruct.losses import (
    IMAGE_LOSSES,
    image_loss,
    kspace_loss,
    l1_loss,
    l2_loss,
    perpendicular_loss,
    reconstruction_loss,
    ssim_loss,
)
from tests.support.consistency import residual_energies

SCALING = {"l1": 1, "l2": 2, "ssim": 0, "perpendicular": 1, "kspace": 0}
"""The power of a common factor of images and data by which each loss grows."""


def problem(batch=2, frames=3, rows=14, columns=12, seed=0, dtype=torch.complex128, two_axes=False):
    """Return images, a truth, and the consistency operator of the truth's data."""
    g = torch.Generator().manual_seed(seed)
    shape = (batch, frames, rows, columns)
    truth = torch.randn(shape, dtype=dtype, generator=g)
    image = truth + 0.4 * torch.randn(shape, dtype=dtype, generator=g)
    mask = torch.rand(*shape[:3], columns if two_axes else 1, generator=g) < 0.4
    mask[:, :, rows // 2] = True
    return image, truth, SingleCoilConsistency(image_to_kspace(truth) * mask, mask)


def pixels(*values):
    return torch.tensor(values, dtype=torch.complex128)[None, None, None]


def test_log_by_hand():
    found = reconstruction_loss(pixels(3 + 4j, 1), pixels(0, 1))
    assert float(found) == pytest.approx(math.log(5 / 2 + math.sqrt(25 / 2)), abs=1e-4)


def test_l1_and_l2_by_hand():
    image, truth = pixels(3 + 4j, 1, 2j), pixels(0, 1, 0)
    assert float(l1_loss(image, truth)) == pytest.approx(7 / 3)
    assert float(l2_loss(image, truth)) == pytest.approx(29 / 3)


@pytest.mark.parametrize(
    ("image", "truth", "expected"),
    [
        (3, 2, 1),  # no angle: magnitudes alone
        (2j, 2, 2),  # a right angle: |r|
        (-2, 2, 4),  # opposite: 2 |r|
        (3j, 2, 2 + 1),
        (2 * cmath.exp(0.5j), 2, 2 * math.sin(0.5)),
        (5 * cmath.exp(-0.5j), 2, 2 * math.sin(0.5) + 3),  # whatever the size of x
        (2 * cmath.exp(2.5j), 2, 2 * (2 - math.sin(2.5))),  # beyond a right angle
        (2 * cmath.exp(2.5j), 2j, 2 * math.sin(2.5 - math.pi / 2)),  # only the angle between them counts
        (0, 2, 2),
        (3j, 0, 3),
        (0, 0, 0),
        (-0.01, 2, 0.5 * 4 + 1.99),  # half of 0.01 |r|: the angle counts half
    ],
)
def test_perpendicular_by_hand(image, truth, expected):
    assert float(perpendicular_loss(pixels(image), pixels(truth))) == pytest.approx(expected)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5, 2.0, 3.1])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_perpendicular_is_the_same_for_under_and_overestimation(angle, share):
    """And l2, at an angle, prefers what is too small."""
    _, truth, _ = problem()
    turn = cmath.exp(1j * angle)
    small, large = (1 - share) * turn * truth, (1 + share) * turn * truth
    torch.testing.assert_close(perpendicular_loss(small, truth), perpendicular_loss(large, truth))
    assert angle == 0.0 or l2_loss(small, truth) < l2_loss(large, truth)


def test_perpendicular_grows_with_the_angle_up_to_opposite_signs():
    _, truth, _ = problem()
    found = [float(perpendicular_loss(cmath.exp(1j * a) * truth, truth)) for a in np.linspace(0, math.pi, 30)]
    assert (np.diff(found) > 0).all()
    assert found[-1] == pytest.approx(2 * float(truth.abs().mean()))


@pytest.mark.parametrize("two_axes", [False, True])
def test_kspace_by_hand(two_axes):
    """Whether the pattern changes along the readout or not, differences are those of k-space."""
    image, truth, operator = problem(two_axes=two_axes)
    kspace = image_to_kspace(truth)
    measured = (operator._mask > 0).expand(kspace.shape)
    expected = (image_to_kspace(image) - kspace)[measured].abs().mean() / kspace[measured].abs().square().mean().sqrt()
    torch.testing.assert_close(kspace_loss(image, operator), expected)


def test_kspace_sees_measured_samples_only():
    """Hard consistency puts them back and leaves the others wrong."""
    image, truth, operator = problem()
    assert float(kspace_loss(image, operator)) > 0.1
    assert float(kspace_loss(operator(image), operator)) < 1e-12
    assert float(l1_loss(operator(image), truth)) > 0.1


@pytest.mark.parametrize("two_axes", [False, True])
def test_samples_have_the_squared_residual_of_the_encoding(two_axes):
    image, _, operator = problem(two_axes=two_axes)
    kspace = image_to_kspace(operator.zero_filled())[:, None]
    expected = Encoding(operator._mask).squared_residual(image, kspace)
    assert residual_energies(operator, image) == pytest.approx(expected, rel=1e-5)


def test_ssim_equals_scikit_images():
    image, truth, _ = problem(rows=17, columns=13)
    expected = [
        structural_similarity(
            x.numpy(), r.numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=float(peak)
        )
        for x_TYX, r_TYX in zip(image.abs(), truth.abs(), strict=True)
        for peak in [r_TYX.max()]
        for x, r in zip(x_TYX, r_TYX, strict=True)
    ]
    assert float(ssim_loss(image, truth)) == pytest.approx(1 - np.mean(expected), abs=1e-12)


def test_ssim_does_not_see_the_phase_and_needs_a_window():
    image, truth, _ = problem()
    torch.testing.assert_close(ssim_loss(1j * image, truth), ssim_loss(image, truth))
    with pytest.raises(UnsupportedDataError, match=r"10 x 14 pixels .* 11"):
        ssim_loss(image[..., :10], truth[..., :10])


@pytest.mark.parametrize("name", SCALING)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_zero_at_the_truth_and_positive_elsewhere(name, dtype):
    image, truth, operator = problem(dtype=dtype)
    assert float(IMAGE_LOSSES[name](truth, truth, operator)) == pytest.approx(0, abs=1e-6)
    found = IMAGE_LOSSES[name](image, truth, operator)
    assert float(found) > 0.05
    assert found.dtype == truth.real.dtype


def test_log_of_frames_is_the_mean_over_frames():
    image, truth, operator = problem(batch=1)
    alone = [float(IMAGE_LOSSES["log"](image[:, [t]], truth[:, [t]], operator)) for t in range(3)]
    assert float(IMAGE_LOSSES["log_frames"](image, truth, operator)) == pytest.approx(sum(alone) / 3, rel=1e-6)


def test_log_is_least_at_the_truth():
    image, truth, _ = problem()
    assert float(reconstruction_loss(truth, truth)) == pytest.approx(math.log(1.1e-4))
    assert float(reconstruction_loss(image, truth)) > float(reconstruction_loss(truth + 0.1 * (image - truth), truth))


@pytest.mark.parametrize("factor", [0.3, 7.0])
def test_scale_laws(factor):
    """The logarithm grows by that of the factor; the others by its power."""
    image, truth, operator = problem()
    scaled = factor * image, factor * truth, operator.scaled(torch.tensor(factor, dtype=torch.float64))
    for name, loss in IMAGE_LOSSES.items():
        before, after = float(loss(image, truth, operator)), float(loss(*scaled))
        expected = before + math.log(factor) if name.startswith("log") else before * factor ** SCALING[name]
        assert after == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_gradients(name):
    image, truth, operator = problem(batch=2, frames=1, rows=11, columns=12)
    assert torch.autograd.gradcheck(
        lambda x: IMAGE_LOSSES[name](x, truth, operator), image.requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize("name", IMAGE_LOSSES)
@pytest.mark.parametrize("of", ["image", "truth", "both", "neither"])
@pytest.mark.parametrize("tiny", [0.0, 1e-20, 1e-41])
def test_gradients_are_finite_where_images_are_zero_or_almost(name, of, tiny):
    """In single precision, where 1e-20 has a square of zero and 1e-41 is denormal."""
    image, truth, operator = problem(dtype=torch.complex64)
    if of in ("image", "both"):
        image = image * tiny
    if of in ("truth", "both"):
        truth, operator = truth * tiny, operator.scaled(torch.tensor(tiny))
    if of == "neither":
        image = truth.clone()
    loss = IMAGE_LOSSES[name](image.requires_grad_(), truth, operator)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.view_as_real(image.grad)).all()
    assert image.grad.abs().max() * image.numel() < 1e8


def test_no_measured_sample_gives_zero():
    image, truth, _ = problem()
    nothing = SingleCoilConsistency(image_to_kspace(truth), torch.zeros(2, 3, 14, 1))
    assert float(kspace_loss(image, nothing)) == 0


def test_image_loss_is_the_weighted_sum():
    image, truth, operator = problem()
    weights = {name: 0.5 + k for k, name in enumerate(IMAGE_LOSSES)}
    expected = sum(weight * IMAGE_LOSSES[name](image, truth, operator) for name, weight in weights.items())
    torch.testing.assert_close(image_loss(weights, image, truth, operator), expected)
    torch.testing.assert_close(image_loss({"l1": 2.0}, image, truth, operator), 2 * l1_loss(image, truth))
