"""Data consistency of one coil, and initial images that share samples between frames."""

import pytest
import torch

from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from tests.laws import assert_adjoint
from tests.support.consistency import residual_energies


def problem(two_axes, seed=0, shape=(2, 5, 9, 8)):
    g = torch.Generator().manual_seed(seed)
    kspace = torch.randn(*shape, dtype=torch.complex64, generator=g)
    mask = torch.rand(*shape[:3], shape[3] if two_axes else 1, generator=g) < 0.4
    mask[:, :, shape[2] // 2] = True
    return kspace * mask, mask, torch.randn(*shape, dtype=torch.complex64, generator=g)


@pytest.mark.parametrize("two_axes", [False, True])
def test_hard_consistency_returns_the_measured_samples(two_axes):
    kspace, mask, image = problem(two_axes)
    result = image_to_kspace(SingleCoilConsistency(kspace, mask)(image))
    assert ((result - kspace) * mask).norm() <= 1e-6 * kspace.norm()
    untouched = image_to_kspace(image)
    assert ((result - untouched) * ~mask).norm() <= 1e-6 * untouched.norm()


@pytest.mark.parametrize("two_axes", [False, True])
def test_hard_consistency_is_a_projection(two_axes):
    kspace, mask, image = problem(two_axes)
    operator = SingleCoilConsistency(kspace, mask)
    once = operator(image)
    assert (operator(once) - once).norm() <= 1e-5 * once.norm()


@pytest.mark.parametrize("noise", [0.1, 1.0, 7.0])
def test_noisy_consistency_minimises_its_objective(noise):
    kspace, mask, image = problem(two_axes=False)
    result = SingleCoilConsistency(kspace, mask, noise)(image)

    def objective(x):
        data = (image_to_kspace(x) * mask - kspace).abs().double().square().sum()
        return noise * (x - image).abs().double().square().sum() + data

    best = objective(result)
    for seed in range(5):
        step = 1e-2 * torch.randn(*image.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))
        assert objective(result + step) > best


@pytest.mark.parametrize("two_axes", [False, True])
def test_known_noise_is_weighed_against_the_error_expected(two_axes):
    kspace, mask, image = problem(two_axes)
    operator = SingleCoilConsistency(kspace, mask, 0.2, deviation=0.3)
    expected = SingleCoilConsistency(kspace, mask, 0.2 + (0.3 / 0.5) ** 2)(image)
    torch.testing.assert_close(operator(image, torch.tensor(0.5)), expected)
    torch.testing.assert_close(operator(image), SingleCoilConsistency(kspace, mask, 0.2)(image))
    factor = torch.tensor([2.0, 0.5]).view(2, 1, 1, 1)
    scaled = operator.scaled(factor)(factor * image, torch.tensor(0.5))
    for item in range(2):  # twice the noise in twice the scale, against the same error
        alone = SingleCoilConsistency(kspace, mask, 0.2 + (0.3 * float(factor[item]) / 0.5) ** 2)(image)
        torch.testing.assert_close(scaled[item], factor[item] * alone[item])


def test_the_error_expected_has_a_gradient_and_without_noise_it_is_zero():
    kspace, mask, image = problem(two_axes=False)
    for deviation in (0.0, 0.3):
        error = torch.tensor(0.5, requires_grad=True)
        SingleCoilConsistency(kspace, mask, deviation=deviation)(image, error).abs().sum().backward()
        assert (error.grad != 0) == (deviation > 0)


def test_readout_shortcut_equals_the_full_transform(monkeypatch):
    kspace, mask, image = problem(two_axes=False)
    short = SingleCoilConsistency(kspace, mask, 0.3)
    monkeypatch.setattr("crnn_cli.mri.consistency._constant_along_readout", lambda mask: False)
    whole = SingleCoilConsistency(kspace, mask.expand(kspace.shape), 0.3)
    torch.testing.assert_close(short(image), whole(image), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(short.view_shared(), whole.view_shared(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(short.time_wiener(), whole.time_wiener(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("two_axes", [False, True])
def test_zero_filled_is_the_adjoint_of_sampling(two_axes):
    kspace, mask, image = problem(two_axes)
    assert_adjoint(
        lambda x: image_to_kspace(x) * mask, lambda y: SingleCoilConsistency(y, mask).zero_filled(), image, kspace
    )


def test_view_shared_keeps_measured_samples_and_reproduces_a_still_object():
    kspace, mask, _ = problem(two_axes=False)
    operator = SingleCoilConsistency(kspace, mask)
    shared = image_to_kspace(operator.view_shared())
    assert ((shared - kspace) * mask).norm() <= 1e-6 * kspace.norm()
    still = torch.randn(1, 1, 9, 8, dtype=torch.complex64).expand(1, 5, 9, 8)
    mask = torch.zeros(1, 5, 9, 1, dtype=torch.bool)
    for line in range(9):
        mask[0, line % 5, line] = True
    found = SingleCoilConsistency(image_to_kspace(still) * mask, mask).view_shared()
    torch.testing.assert_close(found, still, atol=1e-5, rtol=1e-5)


def test_view_shared_is_the_weighted_mean_over_frames():
    kspace, mask, _ = problem(two_axes=True)
    mask[:, :, 2, 3] = False
    kspace = kspace * mask
    expected = torch.zeros_like(kspace)
    for t in range(5):
        weights = torch.tensor([1 / (1 + abs(t - s)) ** 2 for s in range(5)]).view(1, 5, 1, 1)
        total = (weights * mask).sum(1)
        mean = torch.where(total > 0, (weights * kspace).sum(1) / total, torch.zeros(()))
        expected[:, t] = torch.where(mask[:, t], kspace[:, t], mean)
    found = image_to_kspace(SingleCoilConsistency(kspace, mask).view_shared())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_time_wiener_keeps_measured_samples_and_tells_the_states_of_a_beat_apart():
    """Frames alternate between two pictures: the estimate is made of the frames that look alike, near ones or not."""
    pictures = torch.randn(2, 32, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    frames = pictures[[0, 1, 1, 1, 0, 0]][None]
    kspace = image_to_kspace(frames)
    mask = torch.ones(1, 6, 32, 1, dtype=torch.bool)
    mask[0, 0, 20:24], mask[0, 3, 22:29] = False, False
    operator = SingleCoilConsistency(kspace * mask, mask)
    found = image_to_kspace(operator.time_wiener())
    assert ((found - kspace) * mask).norm() <= 1e-6 * kspace.norm()
    lost = ((found - kspace) * ~mask).norm() / (kspace * ~mask).norm()
    of_neighbours = ((image_to_kspace(operator.view_shared()) - kspace) * ~mask).norm() / (kspace * ~mask).norm()
    assert lost < 0.2 < 0.6 < of_neighbours


def test_time_wiener_equals_its_formula():
    kspace, mask, _ = problem(two_axes=True)
    mask[:, :, 2, 3] = False
    kspace, mask = (kspace * mask)[:1], mask[:1]
    operator = SingleCoilConsistency(kspace, mask)
    shared = image_to_kspace(operator.view_shared())
    shared[:, :, 3:6] = 0  # of 9 lines
    flat = [shared[0, t].flatten() for t in range(5)]
    gram = torch.stack([torch.stack([(a * b.conj()).sum() for b in flat]) for a in flat])
    gram = gram / gram.diagonal().real.mean()
    expected = kspace.clone()
    for y in range(kspace.shape[2]):
        for x in range(kspace.shape[3]):
            seen = mask[0, :, y, x].nonzero()[:, 0]
            some = gram[seen][:, seen] + 1e-3 * torch.eye(len(seen))
            estimate = gram[:, seen] @ torch.linalg.inv(some) @ kspace[0, seen, y, x]
            expected[0, :, y, x] = torch.where(mask[0, :, y, x], kspace[0, :, y, x], estimate)
    torch.testing.assert_close(image_to_kspace(operator.time_wiener()), expected, atol=1e-4, rtol=1e-4)


def test_time_wiener_of_nothing_is_nothing():
    kspace, mask, _ = problem(two_axes=False)
    assert not SingleCoilConsistency(torch.zeros_like(kspace), mask).time_wiener().abs().any()


def test_samples_outside_the_mask_are_ignored():
    kspace, mask, image = problem(two_axes=False)
    dirty = kspace + 5 * ~mask
    torch.testing.assert_close(SingleCoilConsistency(dirty, mask)(image), SingleCoilConsistency(kspace, mask)(image))


def test_scaled_operator_and_residual():
    kspace, mask, image = problem(two_axes=False)
    for noise in (0.0, 0.5):
        operator = SingleCoilConsistency(kspace, mask, noise)
        threefold = operator.scaled(torch.tensor(3.0))
        torch.testing.assert_close(threefold(3 * image), 3 * operator(image))
        torch.testing.assert_close(threefold.zero_filled(), 3 * operator.zero_filled())
        torch.testing.assert_close(threefold.view_shared(), 3 * operator.view_shared())
        torch.testing.assert_close(threefold.time_wiener(), 3 * operator.time_wiener(), atol=1e-4, rtol=1e-4)
    operator = SingleCoilConsistency(kspace, mask)
    error, energy = residual_energies(operator, operator(image))
    assert error <= 1e-11 * energy
    assert residual_energies(operator, torch.zeros_like(image)) == pytest.approx((energy, energy))
    assert energy == pytest.approx(float(kspace.abs().square().sum()), rel=1e-5)


def test_energy_weighted_rms_ignores_background_and_follows_scale():
    image = kspace_to_image(problem(two_axes=False)[0])
    padded = torch.nn.functional.pad(image, (20, 20, 20, 20))
    torch.testing.assert_close(energy_weighted_rms(padded), energy_weighted_rms(image))
    torch.testing.assert_close(energy_weighted_rms(5 * image), 5 * energy_weighted_rms(image))
    both = torch.cat([image[:1], 7 * image[:1]])
    torch.testing.assert_close(energy_weighted_rms(both)[1:], 7 * energy_weighted_rms(image[:1]))
    assert float(energy_weighted_rms(torch.zeros(1, 2, 3, 4, dtype=torch.complex64))) == 0
