"""Whitening, coil compression and calibration blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.mri.coils import calibration_block, compression_matrix, mix_coils, normalise_maps, whitening_matrix


def random(*shape, seed=0, dtype=torch.complex64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def covariance(coils, seed=0):
    factor = random(coils, coils + 3, seed=seed)
    return factor @ factor.mH


@given(coils=st.integers(1, 12), seed=st.integers(0, 99), scale=st.floats(1e-9, 1e9))
@settings(max_examples=15, deadline=None)
def test_whitened_noise_has_the_middle_variance_in_every_coil_and_no_correlation(coils, seed, scale):
    noise = covariance(coils, seed) * scale
    matrix = whitening_matrix(noise)
    white = matrix @ noise @ matrix.mH
    expected = torch.eye(coils) * noise.diagonal().real.median()
    torch.testing.assert_close(white, expected.to(white.dtype), rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_whitening_samples_of_noise():
    noise = covariance(4)
    samples = mix_coils(random(4, 1, 100, 400), torch.linalg.cholesky(noise))
    white = mix_coils(samples, whitening_matrix(noise)).flatten(1)
    found = white @ white.mH / white.shape[1] / noise.diagonal().real.median()
    assert (found - torch.eye(4)).abs().max() < 0.03


def test_a_broken_coil_does_not_change_the_scale_of_the_others():
    matrix = whitening_matrix(torch.diag(torch.tensor([1.0, 1, 1, 1e6])).to(torch.complex64))
    torch.testing.assert_close(matrix.diagonal().real, torch.tensor([1, 1, 1, 1e-3]))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([[1, 0], [0, float("nan")]], "not finite"),
        ([[1, 0.5], [0, 1]], "not Hermitian"),
        ([[1, 0], [0, 0]], "0 in coil 1 "),
        ([[1, 1], [1, 1]], "singular"),
        ([[1, 2], [2, 1]], "singular"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(entries, said):
    with pytest.raises(UnsupportedDataError, match=said):
        whitening_matrix(torch.tensor(entries, dtype=torch.complex64))


def test_mixed_is_the_sum_over_coils():
    kspace, matrix = random(3, 2, 4, 5), random(2, 3, seed=1)
    expected = torch.stack([sum(matrix[n, c] * kspace[c] for c in range(3)) for n in range(2)])
    torch.testing.assert_close(mix_coils(kspace, matrix), expected)


@given(coils=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_compression_keeps_the_energy_it_says_and_no_other_matrix_keeps_more(coils, seed):
    kspace = random(6, 3, 8, 5, seed=seed) * torch.linspace(2, 0.1, 6)[:, None, None, None]
    kspace = mix_coils(kspace, random(6, 6, seed=seed + 1))
    matrix, kept = compression_matrix(kspace, coils)
    torch.testing.assert_close(matrix @ matrix.mH, torch.eye(coils, dtype=torch.complex64), atol=1e-5, rtol=0)
    virtual = mix_coils(kspace, matrix)
    assert float(virtual.norm() ** 2 / kspace.norm() ** 2) == pytest.approx(kept, rel=1e-4)
    strength = [float(coil.norm()) for coil in virtual]
    assert strength == sorted(strength, reverse=True)
    other = torch.linalg.qr(random(6, coils, seed=seed + 2))[0].mH
    assert mix_coils(kspace, other).norm() <= virtual.norm() * (1 + 1e-5)


def test_coils_that_are_sums_of_two_become_two_without_loss():
    kspace = mix_coils(random(2, 3, 8, 5), random(7, 2, seed=1))
    matrix, kept = compression_matrix(kspace, 2)
    assert kept == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(mix_coils(mix_coils(kspace, matrix), matrix.mH), kspace, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("coils", [0, 8])
def test_compression_to_more_coils_or_none_is_refused(coils):
    with pytest.raises(UsageError, match="choose 1 to 7"):
        compression_matrix(random(7, 1, 2, 2), coils)


def test_normalised_maps_have_unit_energy_and_the_same_direction():
    maps = random(3, 4, 5)
    maps[:, 1, 2] = 0
    found = normalise_maps(maps)
    energy = found.abs().square().sum(0)
    assert energy[1, 2] == 0
    energy[1, 2] = 1
    torch.testing.assert_close(energy, torch.ones(4, 5))
    torch.testing.assert_close((found * maps.conj()).sum(0).abs(), maps.abs().square().sum(0).sqrt())


def test_calibration_is_the_mean_over_the_frames_that_measured():
    kspace = random(2, 3, 12, 10)
    mask = torch.rand(3, 12, 1, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, 1], mask[:, 10], mask[0, 2:10] = False, False, True
    block = calibration_block(kspace * mask, mask)
    assert block.shape == (2, 8, 10)
    for line in range(8):
        seen = [t for t in range(3) if mask[t, line + 2, 0]]
        torch.testing.assert_close(block[:, line], kspace[:, seen, line + 2].mean(1))


def test_calibration_is_centred_and_leaves_out_samples_of_an_asymmetric_echo():
    kspace, mask = torch.zeros(1, 1, 64, 65, dtype=torch.complex64), torch.ones(1, 64, 65, dtype=torch.bool)
    kspace[0, 0, 32, 32] = 1
    block = calibration_block(kspace, mask)
    assert block.shape == (1, 24, 24)
    assert block[0, 12, 12] == 1
    mask[..., :28] = False
    block = calibration_block(kspace, mask)
    assert block.shape == (1, 24, 16)
    assert block[0, 12, 4] == 1


def test_separate_calibration_lines_are_taken_alone():
    kspace, mask = random(2, 1, 40, 30), torch.ones(1, 40, 1, dtype=torch.bool)
    lines = torch.zeros(2, 40, 30, dtype=torch.complex64)
    lines[:, 16:26] = random(2, 10, 30, seed=3)
    torch.testing.assert_close(calibration_block(kspace, mask, lines), lines[:, 16:26, 3:27])


def test_too_few_centre_lines_are_refused_with_ways_out():
    kspace, mask = random(2, 4, 40, 30), torch.zeros(4, 40, 1, dtype=torch.bool)
    mask[:, 18:23] = True
    with pytest.raises(UnsupportedDataError, match=r"has 5 .*maps='FILE'.*coils=1"):
        calibration_block(kspace * mask, mask)
    mask[:, 20] = False
    with pytest.raises(UnsupportedDataError, match="has 0"):
        calibration_block(kspace * mask, mask)
    mask[3, 20], mask[1, 23] = True, True
    assert calibration_block(kspace * mask, mask).shape[1] == 6
