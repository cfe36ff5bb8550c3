"""Noise level estimated from the periphery of k-space."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.noise import noise_deviation
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from crnn_cli.mri.sampling import variable_density
from crnn_cli.workflows.simulate import fitting_spacing


def noisy(deviation, shape=(1, 3, 24, 64, 64), image=0.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = variable_density(shape[2], shape[3], 4, g)[None, :, :, None]
    noise = torch.randn(*shape, dtype=torch.complex64, generator=g) * deviation
    return (image_to_kspace(torch.as_tensor(image).expand(shape).to(torch.complex64)) + noise) * mask[:, None], mask


@pytest.mark.parametrize("deviation", [1e-6, 0.02, 300.0])
@pytest.mark.parametrize("whole", [False, True])
def test_white_noise_is_found(deviation, whole):
    kspace, mask = noisy(deviation)
    mask = mask.expand(1, 24, 64, 64) if whole else mask
    assert noise_deviation(kspace, mask) == pytest.approx(deviation, rel=0.05)


def test_a_smooth_object_hides_nothing_and_sharp_edges_little():
    y, x = torch.meshgrid(torch.linspace(-3, 3, 64), torch.linspace(-3, 3, 64), indexing="ij")
    kspace, mask = noisy(0.01, image=torch.exp(-(x**2) - y**2))
    assert noise_deviation(kspace, mask) == pytest.approx(0.01, rel=0.05)
    truth = simulate_slice(PhantomScan(Grid(96, 96, 3.0), 24, seed=3), 0).truth_TYX
    kspace, mask = noisy(0.02, (1, 1, 24, 96, 96), truth / truth.abs().max())
    assert 0.019 < noise_deviation(kspace, mask) < 0.04


def test_sharp_edges_that_keep_their_place_hide_nothing():
    still = torch.zeros(64, 64)
    still[20:45, 10:50] = 1
    kspace, mask = noisy(0.003, image=still)
    assert noise_deviation(kspace, mask) == pytest.approx(0.003, rel=0.1)
    alone = image_to_kspace(still.to(torch.complex64))[None, None, None]  # without noise, one frame
    assert noise_deviation(alone, torch.ones(1, 1, 64, 1)) < 1e-5


CASES = [(48, 10, 4), (64, 16, 6), (96, 8, 6), (80, 1, 2), (64, 3, 1)]  # matrix, frames, acceleration


@functools.cache
def clean(n, frames, coils, seed):
    """Return noiseless k-space (1, C, T, Y, X) of a phantom."""
    scan = PhantomScan(Grid(n, n, fitting_spacing(n, n)), frames, 1, coils, seed=seed)
    return simulate_slice(scan, 0).kspace_CTYX[None]


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(CASES), st.sampled_from([1, 2, 3, 5, 12]), st.floats(20, 1000), st.integers(0, 1),
    st.integers(0, 10**6),
)  # fmt: skip
def test_the_noise_of_a_phantom_is_found_or_unknown(case, coils, snr, seed, draw):
    """Never a fifth too low or a fourth too high, of one coil half too high; of several coils it is always found."""
    n, frames, acceleration = case
    g, deviation = torch.Generator().manual_seed(draw), 2**0.5 / snr
    kspace = clean(n, frames, coils, seed)
    mask = torch.ones(frames, n)
    if acceleration > 1:
        mask = variable_density(frames, n, acceleration, g)
    mask = mask[None, :, :, None]
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=g) * deviation
    found = noise_deviation((kspace + noise) * mask[:, None], mask)
    assert found == 0 or 0.8 * deviation < found < (1.25 if coils > 1 else 1.5) * deviation
    assert found > 0 or coils < 3


def test_coils_of_other_noise_give_the_root_mean_square():
    g = torch.Generator().manual_seed(2)
    kspace, each = clean(64, 16, 5, 0), torch.tensor([1.0, 1, 2, 3, 1]) / 100
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=g) * each[None, :, None, None, None]
    mask = variable_density(16, 64, 6, g)[None, :, :, None]
    rms = float(each.square().mean().sqrt())
    assert noise_deviation((kspace + noise) * mask[:, None], mask) == pytest.approx(rms, rel=0.2)


def test_samples_filled_in_with_zeros_do_not_count():
    kspace, mask = noisy(0.02)
    kspace[..., :6] = 0  # an asymmetric echo
    kspace[:, 0] = 0  # a coil that was not connected
    assert noise_deviation(kspace, mask) == pytest.approx(0.02, rel=0.05)


def test_too_few_samples_give_zero():
    kspace, mask = noisy(0.02)
    assert noise_deviation(0 * kspace, mask) == 0
    centre = torch.zeros(64)
    centre[30:35] = 1  # no outer line was measured: coils and readout tell
    assert noise_deviation(kspace * centre[:, None], mask * centre[:, None]) == pytest.approx(0.02, rel=0.1)
    assert noise_deviation(kspace[..., :1, :1, :2, :2], mask[:, :1, :2]) == 0
