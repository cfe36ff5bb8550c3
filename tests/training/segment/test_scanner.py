"""What a poorer scan would give: each artefact does to k-space what it says, and leaves the anatomy in place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.training.segment import scanner
from crnn_cli.training.segment.scanner import rescanned, smooth_phase, to_image, to_kspace

SEEDS = st.integers(0, 2**32 - 1)


def disc(rows=48, columns=40, slices=3):
    """Bright disc off the centre, with a darker ring, on a dim body."""
    y, x = np.mgrid[:rows, :columns]
    radius = np.hypot(y - rows / 2 + 4, x - columns / 2 - 3)
    return np.broadcast_to(np.where(radius < 8, 1.0, np.where(radius < 11, 0.3, 0.5)), (slices, rows, columns)).astype(
        np.float32
    )


def complex_scan(seed):
    rng = np.random.default_rng(seed)
    return to_kspace(disc() * smooth_phase(disc().shape, rng)), rng


def test_k_space_and_back_is_the_image():
    image = disc() * smooth_phase(disc().shape, np.random.default_rng(0))
    np.testing.assert_allclose(to_image(to_kspace(image)), image, atol=1e-5)
    energy = [np.linalg.norm(x) for x in (image, to_kspace(image))]
    assert energy[0] == pytest.approx(energy[1], rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_resolution_keeps_a_centred_block_and_no_more(seed):
    kspace, rng = complex_scan(seed)
    kept = scanner.resolution(kspace, rng) != 0
    rows, columns = kept[0].any(axis=1), kept[0].any(axis=0)
    assert 0.4 < rows.mean() < 0.95
    assert rows[len(rows) // 2]
    assert columns[len(columns) // 2]
    assert np.diff(np.flatnonzero(rows)).max(initial=1) == 1
    np.testing.assert_array_equal(scanner.resolution(kspace, np.random.default_rng(1))[0] != 0, (
        scanner.resolution(kspace, np.random.default_rng(1)) != 0)[-1])  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_partial_fourier_leaves_the_centre_and_drops_one_side(seed):
    kspace, rng = complex_scan(seed)
    measured = (scanner.partial_fourier(kspace, rng) != 0).any(axis=(0, 2))
    assert measured[: len(measured) // 2 + 1].all()
    assert 0.15 < 1 - measured.mean() < 0.45
    assert not measured[-1]


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_ghosts_are_copies_along_the_phase_encoding(seed):
    """Weakening every n-th line by a adds the image shifted by multiples of N / n, each with weight a / n."""
    kspace, rng = complex_scan(seed)
    found = scanner.ghosts(kspace, rng)
    ratio = np.abs(found[0, :, 20]) / np.abs(kspace[0, :, 20])
    weak = ratio < 0.999
    step = int(np.diff(np.flatnonzero(weak)).max())
    assert step in (2, 3, 4)
    weakened = 1 - float(ratio[weak].mean())
    assert 0.049 < weakened < 0.251
    image, lost = to_image(kspace), to_image(kspace - found)
    errors = []
    for first in range(step):  # the lines first, first + step, ... from the centre
        copies = [np.exp(2j * np.pi * m * first / step) * np.roll(image, m * len(ratio) // step, axis=1)
                  for m in range(step)]  # fmt: skip
        errors.append(np.abs(lost - weakened / step * sum(copies)).max())
    assert min(errors) < 1e-3


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_motion_changes_phases_only(seed):
    kspace, rng = complex_scan(seed)
    found = scanner.motion(kspace, rng)
    np.testing.assert_allclose(np.abs(found), np.abs(kspace), rtol=1e-3, atol=1e-4)
    assert np.abs(found - kspace).max() > 1e-3


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_undersampling_keeps_the_centre_and_differs_by_slice(seed):
    kspace, rng = complex_scan(seed)
    measured = (scanner.undersampling(kspace, rng) != 0).any(axis=2)
    centre = measured.shape[1] // 2
    assert measured[:, centre - 1 : centre + 1].all()
    assert 0.4 < measured.mean() < 0.95
    assert not (measured == measured[0]).all()


@settings(deadline=None, max_examples=40)
@given(SEEDS)
def test_the_anatomy_stays_where_it_is(seed):
    """The disc is still bright in its place, the range about the same, and the same seed gives the same scan."""
    image = disc() - 0.2
    found = rescanned(image, np.random.default_rng(seed))
    assert found.shape == image.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert image.min() - 1e-3 <= found.min()
    assert found.max() < 2.5
    inside, ring = image > 0.75, image < 0.15
    assert found[inside].mean() > found[ring].mean() + 0.2
    np.testing.assert_array_equal(found, rescanned(image, np.random.default_rng(seed)))


def test_scans_differ_along_both_axes():
    """Lines run along rows in one half of the draws, along columns in the other."""
    image = disc(48, 48)
    blurred = []
    for seed in range(30):
        error = to_kspace(rescanned(image, np.random.default_rng(seed)) - image)[0]
        blurred.append(np.abs(error[0]).mean() > np.abs(error[:, 0]).mean())
    assert 3 < sum(blurred) < 27
