"""The way from an acquisition to images: scale, network, unscale, slice by slice; the network is a stand-in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.compute.device import choose_device
from crnn_cli.data.acquisition import from_fully_sampled
from crnn_cli.data.image import Image
from crnn_cli.errors import DeviceError, UnsupportedDataError
from crnn_cli.mri.classical import METHODS
from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.reconstruction.measurement import SingleCoilSource
from crnn_cli.reconstruction.reconstruct import (
    INITIAL_IMAGES,
    ClassicalReconstructor,
    InferenceSettings,
    NetworkReconstructor,
    reconstruct,
)
from tests.support.cines import AFFINE, moving_cine

CPU = torch.device("cpu")


def acquisition(empty=False):
    """Return two slices, each with its own lines."""
    truth = moving_cine(12, 10, 3 if empty else 2, 4)
    if empty:
        truth[:, :, 1] = 0
    mask = np.random.default_rng(0).random((truth.shape[2], 4, 10)) < 0.4
    mask[:, :, 5] = True
    return from_fully_sampled(Image(truth, AFFINE), mask, 1, "test")


def run(network, data=None, start="view-shared", amplitude=1.0, iterations=3, noise=0.0):
    """Return the result, and what progress was told."""
    told = []
    recipe = InferenceSettings(start, amplitude, iterations, noise)
    method = NetworkReconstructor(network, recipe)
    source = SingleCoilSource(data or acquisition())
    result = reconstruct(source, method, CPU, lambda done, total: told.append((done, total)))
    return result, told


def ticking(image, consistency, iterations, progress):
    for _ in range(iterations):
        progress()
    return image


def operators(data):
    for kspace, mask in zip(data.kspace_ZCTYX, data.mask_ZTYX, strict=True):
        yield SingleCoilConsistency(torch.from_numpy(kspace), torch.from_numpy(mask)[None])


@pytest.mark.parametrize("start", INITIAL_IMAGES)
@pytest.mark.parametrize("amplitude", [1.0, 0.7])
def test_each_slice_starts_as_the_recipe_says_and_comes_back_in_its_own_scale(start, amplitude):
    seen = []

    def network(image, consistency, iterations, progress):
        seen.append(float(energy_weighted_rms(image)))
        return image

    data = acquisition()
    result, _ = run(network, data, start, amplitude)
    assert seen == pytest.approx([amplitude, amplitude])
    for z, operator in enumerate(operators(data)):
        zero_filled = operator.zero_filled()[0].numpy()
        wanted = INITIAL_IMAGES[start](operator)
        np.testing.assert_allclose(result.images_ZTYX[z], wanted[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(result.zero_filled_ZTYX[z], zero_filled, atol=1e-6)


class Noisy(SingleCoilSource):
    def measure(self, z, device):
        return replace(super().measure(z, device), deviation=0.2)


@pytest.mark.parametrize("noise", [None, 0.0, 2.0])
def test_noise_that_was_found_is_weighed_against_the_error_expected_unless_trust_is_given(noise):
    data, error, amplitude = acquisition(), torch.tensor(0.5), 3.0

    def network(image, consistency, iterations, progress):
        return consistency(0 * image, error)

    recipe = InferenceSettings("zero-filled", amplitude, 1, noise)
    found = reconstruct(Noisy(data), NetworkReconstructor(network, recipe), CPU)
    for z, operator in enumerate(operators(data)):
        scale = amplitude / float(energy_weighted_rms(operator.zero_filled()))
        v = (0.2 * scale / float(error)) ** 2 if noise is None else noise
        expected = found.zero_filled_ZTYX[z] / (1 + v)
        np.testing.assert_allclose(found.images_ZTYX[z], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_network_gets_the_data_of_its_slice_in_its_scale_and_how_far_to_trust_them(noise):
    data = acquisition()
    result, _ = run(lambda image, consistency, iterations, progress: consistency(0 * image), data, noise=noise)
    np.testing.assert_allclose(result.images_ZTYX, result.zero_filled_ZTYX / (1 + noise), atol=1e-5)
    pulled, _ = run(lambda image, consistency, iterations, progress: consistency(torch.ones_like(image)), data)
    for z in range(2):
        one = replace(data, kspace_ZCTYX=data.kspace_ZCTYX[z : z + 1], mask_ZTYX=data.mask_ZTYX[z : z + 1])
        alone, _ = run(lambda image, consistency, iterations, progress: consistency(torch.ones_like(image)), one)
        np.testing.assert_array_equal(alone.images_ZTYX[0], pulled.images_ZTYX[z])


def test_residual_is_of_what_came_out_over_all_slices():
    shares = iter((1.0, 0.5))
    data = acquisition()
    result, _ = run(lambda image, consistency, iterations, progress: next(shares) * image, data)
    energies = [float((np.abs(kspace) ** 2).sum()) for kspace in data.kspace_ZCTYX]
    assert result.residual == pytest.approx((0.25 * energies[1] / sum(energies)) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("iterations", [1, 3])
def test_progress_goes_step_by_step_from_nothing_to_all(empty, iterations):
    result, told = run(ticking, acquisition(empty), iterations=iterations)
    total = iterations * (3 if empty else 2)
    assert {all_ for _, all_ in told} == {total}
    done = [done for done, _ in told]
    skipped = range(iterations + 1, 2 * iterations) if empty else ()
    assert done == [step for step in range(total + 1) if step not in skipped]
    if empty:
        assert not result.images_ZTYX[1].any()


@pytest.mark.parametrize("name", METHODS)
def test_progress_of_classical_methods_ends_at_all(name):
    told = []
    method = ClassicalReconstructor(name, METHODS[name].weight, 3 if METHODS[name].iterations else 0)
    reconstruct(SingleCoilSource(acquisition()), method, CPU, lambda done, total: told.append((done, total)))
    assert told == [(step, 2 * method.steps) for step in range(2 * method.steps + 1)]


def test_an_empty_slice_at_the_end_is_counted_too():
    data = acquisition()
    data = replace(data, kspace_ZCTYX=np.array(data.kspace_ZCTYX))
    data.kspace_ZCTYX[1] = 0
    assert run(ticking, data)[1][-1] == (6, 6)


def test_several_coils_and_values_that_are_not_finite_are_refused():
    data = acquisition()
    with pytest.raises(UnsupportedDataError, match="2 coils"):
        run(ticking, replace(data, kspace_ZCTYX=np.repeat(data.kspace_ZCTYX, 2, axis=1)))
    with pytest.raises(UnsupportedDataError, match="not finite"):
        run(lambda image, consistency, iterations, progress: image / 0, data)


@pytest.mark.parametrize(
    ("count", "name", "wanted"),
    [
        (0, "auto", "cpu"), (2, "auto", "cuda"), (2, "cpu", "cpu"), (1, "cuda", "cuda"), (2, "cuda:1", "cuda:1"),
        (0, "cuda", None), (2, "cuda:2", None), (2, "cuda:1x", None), (2, "cpu:0", None), (2, "CUDA", None),
        (2, "", None), (0, "mps", None), (2, "mps:0", None),
    ],
)  # fmt: skip
def test_a_device_is_the_one_asked_for_or_an_error(monkeypatch, count, name, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if wanted is None:
        with pytest.raises(DeviceError, match=r"device='cpu'|use auto"):
            choose_device(name)
    else:
        assert choose_device(name) == torch.device(wanted)


@pytest.mark.parametrize("name", ["tv", "llr", "l+s"])
def test_a_default_weight_grows_with_the_noise_found_and_a_given_one_does_not(name):
    kind = METHODS[name]
    data = acquisition()
    quiet, noisy, given = (ClassicalReconstructor(name, weight, 2) for weight in (None, None, 0.125))
    assert reconstruct(SingleCoilSource(data), quiet, CPU).regularisation_weights == (kind.weight, kind.weight)
    assert reconstruct(Noisy(data), given, CPU).regularisation_weights == (0.125, 0.125)
    found = reconstruct(Noisy(data), noisy, CPU)
    used = found.regularisation_weights
    for z, operator in enumerate(operators(data)):
        sigma = 0.2 / float(energy_weighted_rms(operator.view_shared()))
        assert used[z] == pytest.approx(kind.weight + kind.weight_per_sigma * sigma, rel=1e-4)
        assert used[z] > 2 * kind.weight
    again = reconstruct(SingleCoilSource(data), ClassicalReconstructor(name, used[0], 2), CPU)
    np.testing.assert_allclose(again.images_ZTYX[0], found.images_ZTYX[0], atol=1e-6)
