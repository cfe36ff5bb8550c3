"""The energy of errors at samples held out says how large it is at all that were not measured."""

import math

import pytest
import torch

from crnn_cli.assessment.missed_energy import MissedEnergy
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.reconstruction.measurement import SliceMeasurement

FRAMES, LINES, COLUMNS = 12, 64, 24


def noise(seed):
    shape = (1, FRAMES, LINES, COLUMNS)
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def error(power):
    """Return an image whose energy falls with the distance from the middle of k-space."""
    distance = (torch.arange(LINES) - LINES // 2).abs()
    return kspace_to_image(noise(1) / (3 + distance[:, None]) ** power)


def drawn(share, seed):
    """Return a mask of lines, dense in the middle, and a part of those outside it."""
    generator = torch.Generator().manual_seed(seed)
    chance = share / (1 + (torch.arange(LINES) - LINES // 2).abs() / 8)
    mask = torch.rand(1, FRAMES, LINES, 1, generator=generator) < chance[:, None]
    mask[:, :, LINES // 2 - 4 : LINES // 2 + 5] = True
    held = mask & (torch.rand(mask.shape, generator=generator) < 0.3)
    held[:, :, LINES // 2 - 4 : LINES // 2 + 5] = False
    return mask, held


def scan(mask, sigma=0.0, told=0.0):
    kspace = image_to_kspace(noise(0)) + sigma * noise(2)
    return SliceMeasurement((kspace * mask)[:, None], mask, deviation=told)


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_errors_that_depend_on_the_distance_are_found_where_nothing_was_measured(power, share, sigma):
    mask, held = drawn(share, 3)
    missed = MissedEnergy(scan(mask, sigma, sigma))
    missed.add(noise(0) + error(power), held)
    energy_BTYX = image_to_kspace(error(power)).abs() ** 2
    true = float((energy_BTYX * ~mask).sum())
    assert missed.expected() == pytest.approx(true, rel=0.2)
    plain = float((energy_BTYX * held).sum() / held.sum() * (~mask).sum())
    assert plain > missed.expected() + 0.1 * true  # the mean over the samples held out, wherever they lie, would not do


def test_runs_add_up():
    mask, held = drawn(0.6, 4)
    whole, parts = MissedEnergy(scan(mask)), MissedEnergy(scan(mask))
    whole.add(noise(0) + error(1.0), held)
    first = held & (torch.arange(FRAMES) < 5)[:, None, None]
    for part in (first, held & ~first):
        parts.add(noise(0) + error(1.0), part)
    torch.testing.assert_close(parts.error_D, whole.error_D)
    assert parts.expected() == pytest.approx(whole.expected())


def test_of_single_samples_the_distance_along_the_readout_counts_too():
    generator = torch.Generator().manual_seed(7)
    far = (torch.arange(LINES) - LINES // 2)[:, None] ** 2 + (torch.arange(COLUMNS) - COLUMNS // 2) ** 2
    wrong = kspace_to_image(noise(1) / (3 + far.sqrt()))
    near = far < 12**2
    mask = (torch.rand(1, FRAMES, LINES, COLUMNS, generator=generator) < 0.5) & (near | (torch.arange(COLUMNS) == 12))
    missed = MissedEnergy(scan(mask))
    missed.add(noise(0) + wrong, mask & (torch.rand(mask.shape, generator=generator) < 0.3))
    true = float((image_to_kspace(wrong).abs() ** 2 * ~mask).sum())
    assert missed.expected() == pytest.approx(true, rel=0.25)


def test_noise_that_was_estimated_too_high_is_not_taken_off():
    mask, held = drawn(0.6, 5)
    found = []
    for told in (0.0, 3.0):
        missed = MissedEnergy(scan(mask, told=told))
        missed.add(noise(0) + error(1.0), held)
        found.append(missed.expected())
    assert found[0] == found[1] > 0


def test_images_of_all_lines_miss_less_than_those_of_the_runs_by_what_these_were_not_shown():
    mask, held = drawn(0.6, 8)
    missed = MissedEnergy(scan(mask))
    for seed in (1, 2):
        missed.add(noise(0) + seed * error(1.0), held)
    shown = 1 - float(held.sum() / mask.sum())
    assert 0.7 < shown < 0.9
    gain = 10 * math.log10(missed.expected() / missed.expected_of_all_lines())
    assert gain == pytest.approx(-4 * math.log2(shown), rel=0.01)


def test_nothing_held_out_says_nothing():
    assert not MissedEnergy(scan(drawn(0.6, 6)[0])).expected() >= 0
