"""Classical reconstructions minimise their cost functions."""

import math

import numpy as np
import pytest
import torch

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.classical import METHODS, run_method
from crnn_cli.mri.conjugate_gradient import conjugate_gradient, sense
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.low_rank import llr, low_rank_plus_sparse, shrink_blocks
from crnn_cli.mri.total_variation.admm import tv
from tests.reference import classical as slow

ITERATIVE = [name for name, method in METHODS.items() if method.iterations]
DYNAMIC = [name for name, method in METHODS.items() if method.min_frames > 1]


def problem(coils=3, two_axes=False, shape=(1, 4, 7, 6), seed=0, share=0.5, noise=0.02):
    """Return the truth (a still scene and a moving square), an encoding and noisy k-space of all samples."""
    g = torch.Generator().manual_seed(seed)
    batch, frames, lines, columns = shape
    truth = torch.ones(batch, frames, 1, 1) * torch.rand(batch, 1, lines, columns, generator=g).round()
    for t in range(frames):
        truth[:, t, 1 + t % 3 : 4 + t % 3, 2:4] += 1
    truth = truth * torch.exp(1j * torch.linspace(0, 1, columns))
    mask = torch.rand(batch, frames, lines, columns if two_axes else 1, generator=g) < share
    mask[:, :, lines // 2] = True
    maps = None
    if coils:
        maps = torch.randn(batch, coils, lines, columns, dtype=torch.complex64, generator=g)
        maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    encoding = Encoding(mask, maps)
    full = Encoding(torch.ones(batch, frames, lines, columns + 0), maps)
    kspace = sampled(full, truth)
    return truth, encoding, kspace + noise * torch.randn(kspace.shape, dtype=torch.complex64, generator=g)


def sampled(encoding, image):
    """Return A x with both axes in k-space."""
    full = Encoding(encoding.mask_BTYX, encoding.maps_BCYX)
    full.axes = (-2, -1)
    return full.forward(image)


def matrix(encoding, shape):
    return slow.dense(lambda unit: encoding.forward(torch.from_numpy(unit)[None]).numpy(), shape)


def distance(found, expected):
    expected = torch.as_tensor(expected).to(torch.complex64)
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("coils", [0, 3])
@pytest.mark.parametrize("weight", [0.01, 0.5])
def test_sense_solves_the_dense_normal_equations(coils, two_axes, weight):
    _, encoding, kspace = problem(coils, two_axes)
    data = encoding.to_data_space(kspace)
    a = matrix(encoding, (4, 7, 6))
    normal = a.conj().T @ a + weight * np.eye(a.shape[1])
    expected = np.linalg.solve(normal, a.conj().T @ data.numpy().ravel()).reshape(1, 4, 7, 6)
    assert distance(sense(encoding, data, weight, 200), expected) < 1e-4


def test_conjugate_gradients_are_exact_after_as_many_steps_as_eigenvalues():
    values = torch.tensor([1.0, 2.0, 5.0]).repeat(4).view(1, 1, 3, 4).to(torch.complex64)
    right = torch.randn(1, 1, 3, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    found = conjugate_gradient(lambda x: values * x, right, torch.zeros_like(right), 3)
    assert distance(found, right / values) < 1e-5
    assert distance(conjugate_gradient(lambda x: values * x, right, torch.zeros_like(right), 2), right / values) > 1e-3
    given = right.clone(), torch.ones_like(right)
    conjugate_gradient(lambda x: x, right, given[1], 3)
    assert torch.equal(right, given[0])
    assert torch.equal(given[1], torch.ones_like(right))
    some = torch.cat((right, 0 * right))
    found = conjugate_gradient(lambda x: values * x, some, torch.zeros_like(some), 3)
    assert torch.equal(found, torch.cat((found[:1], 0 * right)))


@pytest.mark.parametrize(("coils", "two_axes", "space"), [(0, False, 0.0), (0, True, 0.4), (2, False, 0.4)])
def test_tv_minimises_its_objective(coils, two_axes, space):
    truth, encoding, kspace = problem(coils, two_axes, (1, 4, 6, 5))
    data, weight = encoding.to_data_space(kspace), 0.05
    a, y = matrix(encoding, (4, 6, 5)), data.numpy().astype(np.complex128)
    expected = slow.tv(a, y, truth[0].numpy(), (weight, weight * space))
    found = tv(encoding, data, weight, 500, space=space)[0].numpy().astype(np.complex128)
    best = slow.tv_objective(a, y, expected, (weight, weight * space))[0]
    assert slow.tv_objective(a, y, found, (weight, weight * space))[0] <= best * (1 + 1e-3)


def test_tv_of_one_frame_is_total_variation_in_space():
    truth, encoding, kspace = problem(2, shape=(1, 1, 6, 5))
    data, weight = encoding.to_data_space(kspace), 0.05
    a, y = matrix(encoding, (1, 6, 5)), data.numpy().astype(np.complex128)
    best = slow.tv_objective(a, y, slow.tv(a, y, truth[0].numpy(), (0, weight)), (0, weight))[0]
    found = tv(encoding, data, weight, 500)[0].numpy().astype(np.complex128)
    assert slow.tv_objective(a, y, found, (0, weight))[0] <= best * (1 + 1e-3)


def test_tv_of_a_large_weight_is_constant_in_time_and_fits_what_all_frames_say():
    _, encoding, kspace = problem(0, noise=0.2)
    data = encoding.to_data_space(kspace)
    found = tv(encoding, data, 100.0, 1000, space=0.0)
    assert (found - found.mean(1, keepdim=True)).norm() < 1e-3 * found.norm()
    total = encoding.mask_BTYX.sum(1, keepdim=True)
    mean = data.sum(2, keepdim=True) / total.clamp_min(1)[:, None]
    one = Encoding((total > 0).float()).forward(found[:, :1])
    assert (one - mean).norm() < 2e-3 * mean.norm()


@pytest.mark.parametrize(("frames", "weight"), [(5, 0.0), (5, 0.3), (20, 0.3), (5, 100.0)])
def test_blocks_are_shrunk_as_by_dense_svd(frames, weight):
    image = torch.randn(2, frames, 11, 9, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    found = shrink_blocks(image, weight, 4)
    padded = np.zeros((2, frames, 12, 12), np.complex128)
    padded[:, :, :11, :9] = image.numpy()
    expected = np.stack([slow.shrink_blocks(item, weight, 4)[:, :11, :9] for item in padded])
    assert np.abs(found.numpy() - expected).max() < 2e-5


def test_low_rank_plus_sparse_ends_where_plain_steps_end():
    truth, encoding, _ = problem(2, shape=(1, 5, 6, 6))
    truth[0, :, 2, 2] += 3 * torch.exp(4j * math.pi * torch.arange(5) / 5)
    kspace = sampled(encoding, truth)
    data, weight = encoding.to_data_space(kspace), 0.05
    found = low_rank_plus_sparse(encoding, data, weight, 3000)[0].numpy().astype(np.complex128)
    a, y = matrix(encoding, (5, 6, 6)), data.numpy().ravel()
    wave = np.fft.fft(np.eye(5), norm="ortho")
    of_low = weight * 0.3 * (math.sqrt(5) + 6)
    low, sparse = found.reshape(5, -1), np.zeros((5, 36), np.complex128)
    for _ in range(2000):
        slope = (a.conj().T @ (a @ (low + sparse).ravel() - y)).reshape(5, -1)
        u, s, v = np.linalg.svd(low - slope / 2, full_matrices=False)
        low = (u * np.maximum(s - of_low / 2, 0)) @ v
        rates = wave @ (sparse - slope / 2)
        sparse = wave.conj().T @ (rates * np.maximum(1 - weight / 2 / np.maximum(abs(rates), 1e-30), 0))
    assert np.linalg.norm(sparse) > 0.1 * np.linalg.norm(low) > 0.01
    assert np.linalg.norm(found - (low + sparse).reshape(found.shape)) < 0.01 * np.linalg.norm(found)


@pytest.mark.parametrize("method", [llr, low_rank_plus_sparse, tv])
def test_a_tiny_weight_fits_the_data(method):
    _, encoding, kspace = problem(3)
    data = encoding.to_data_space(kspace)
    found = method(encoding, data, 0.0, 400)
    least = sense(encoding, data, 0.0, 400)
    left = (encoding.forward(least) - data).norm()
    assert (encoding.forward(found) - data).norm() < left + 0.01 * data.norm()


@pytest.mark.parametrize("coils", [0, 3])
@pytest.mark.parametrize("name", METHODS)
def test_full_noiseless_data_and_no_weight_give_the_truth(name, coils):
    truth, encoding, _ = problem(coils, share=2.0)
    found = run_method(name, encoding, sampled(encoding, truth), weight=0.0)
    assert distance(found, truth) < 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_a_coil_of_ones_is_no_coil(name):
    _, encoding, kspace = problem(0)
    ones = Encoding(encoding.mask_BTYX, torch.ones(1, 1, 7, 6, dtype=torch.complex64))
    assert distance(run_method(name, ones, kspace), run_method(name, encoding, kspace)) < 1e-3


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_scaled_data_scales_the_image_and_neighbours_change_nothing(name, two_axes):
    _, encoding, kspace = problem(2, two_axes, (2, 4, 7, 6))
    both = run_method(name, encoding, kspace, iterations=15)
    kspace[1] *= 1000
    again = run_method(name, encoding, kspace, iterations=15)
    for item in (slice(0, 1), slice(1, 2)):
        alone = Encoding(encoding.mask_BTYX[item], encoding.maps_BCYX[item])
        assert torch.equal(again[item], run_method(name, alone, kspace[item], iterations=15))
    assert torch.equal(again[0], both[0])
    assert distance(again[1], 1000 * both[1]) < 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_samples_outside_the_mask_are_ignored_and_nothing_gives_nothing(name):
    _, encoding, kspace = problem(0, shape=(1, 5, 9, 7))
    inside = kspace * encoding.mask_BTYX[:, None]
    assert distance(run_method(name, encoding, kspace), run_method(name, encoding, inside)) < 1e-5
    assert run_method(name, encoding, 0 * kspace).abs().max() == 0


@pytest.mark.parametrize("name", ITERATIVE)
def test_progress_ends_at_its_total_also_when_it_stops_early(name):
    _, encoding, kspace = problem(0, shape=(2, 4, 7, 6), share=2.0)
    for iterations, early in ((2, False), (300, True)):
        steps = []
        run_method(name, encoding, kspace, 0.01, iterations, lambda *told, steps=steps: steps.append(told))
        assert steps[-1] == (2 * iterations, 2 * iterations)
        assert steps == sorted(steps)
        assert (len(steps) < 2 * iterations) == early


@pytest.mark.parametrize("name", METHODS)
def test_one_frame_where_it_makes_sense(name):
    truth, encoding, kspace = problem(4, shape=(1, 1, 9, 7), share=0.7)
    if name in DYNAMIC:
        with pytest.raises(UnsupportedDataError, match=r"there is 1: choose zero-filled, sense, tv"):
            run_method(name, encoding, kspace)
    else:
        assert run_method(name, encoding, kspace).shape == truth.shape


def test_what_cannot_be_run_is_refused():
    _, encoding, kspace = problem(0)
    with pytest.raises(UsageError, match=r"unknown method tvv: use zero-filled, sliding-window, sense, tv, llr, l\+s"):
        run_method("tvv", encoding, kspace)
    with pytest.raises(UsageError, match=r"weight -1 of tv: give 0 or more"):
        run_method("tv", encoding, kspace, weight=-1)
    with pytest.raises(UsageError, match=r"0 iterations of tv: give at least 1"):
        run_method("tv", encoding, kspace, iterations=0)
