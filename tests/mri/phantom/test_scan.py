"""Laws of the phantom: anatomy and motion, phase, coils, noise, and the scan."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UsageError
from crnn_cli.mri.fourier import kspace_to_image
from crnn_cli.mri.phantom import anatomy
from crnn_cli.mri.phantom.anatomy import contraction, wall_thickness
from crnn_cli.mri.phantom.ellipses import Grid, ellipses_to_kspace, uniform
from crnn_cli.mri.phantom.scan import (
    PhantomScan,
    coil_sensitivities,
    combine_coils,
    object_phase,
    simulate_slice,
    with_noise,
)
from tests.reference.ellipses import double, generator, heart, points, raster

LEVELS = (
    0,
    anatomy.BLOOD,
    anatomy.FAT,
    anatomy.MARROW,
    anatomy.LIVER,
    anatomy.MYOCARDIUM,
    anatomy.MUSCLE,
    anatomy.LUNG,
    anatomy.VEIN,
)
FEW = settings(max_examples=15, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small arrays on a busy machine: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@FEW
@given(st.floats(-3, 3))
def test_contraction_is_periodic_and_between_0_and_1(time):
    now, later = contraction(torch.tensor([time, time + 1], dtype=torch.float64))
    assert float(now) == pytest.approx(float(later), abs=1e-9)
    assert 0 <= float(now) <= 1


def test_systole_is_shorter_and_faster_than_diastole():
    time = torch.linspace(0, 1, 2001, dtype=torch.float64)
    value = contraction(time)
    slope = torch.diff(value) * 2000
    assert float(value[0]) == pytest.approx(0)
    assert float(time[value.argmax()]) == pytest.approx(anatomy.SYSTOLE, abs=1e-3)
    assert float(slope.max()) > 1.5 * float(-slope.min())
    assert float(torch.diff(slope).abs().max()) < 0.1  # no jump in speed


def test_the_cycle_closes():
    start, end = heart(3, cycle=(0.0,)), heart(3, cycle=(1.0,))
    for first, last in zip(start, end, strict=True):
        assert torch.allclose(first.centre_T2, last.centre_T2)
        assert torch.allclose(first.semi_axes_T2, last.semi_axes_T2)
        assert torch.allclose(first.angle_T, last.angle_T)


@FEW
@given(st.floats(5, 40), st.floats(5, 40), st.floats(1, 3000))
def test_wall_thickness_gives_the_area_asked_for(a, b, area):
    w = float(wall_thickness(double(a), double(b), area))
    assert w > 0
    assert math.pi * ((a + w) * (b + w) - a * b) == pytest.approx(area, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_left_ventricle_keeps_its_muscle_and_ejects_its_blood(seed):
    cycle = (0.0, 0.1, 0.2, 0.36, 0.6, 0.9)
    shapes = [s for s in heart(seed, cycle) if not s.still]
    darker = [s for s in shapes if s.amplitude == anatomy.MYOCARDIUM - anatomy.BLOOD]
    brighter = [s for s in shapes if s.amplitude == anatomy.BLOOD - anatomy.MYOCARDIUM]
    outer = max((math.pi * s.semi_axes_T2.prod(dim=1) for s in darker), key=lambda area: float(area[0]))
    inner = min((math.pi * s.semi_axes_T2.prod(dim=1) for s in brighter), key=lambda area: float(area[0]))
    length = 1 - 0.15 * contraction(torch.tensor(cycle, dtype=torch.float64))
    muscle, blood = (outer - inner) * length, inner * length
    assert torch.allclose(muscle, muscle[:1].expand(6), rtol=1e-9)
    assert 0.45 < 1 - float(blood[3] / blood[0]) < 0.7


@pytest.mark.parametrize("seed", range(6))
def test_regions_nest_or_keep_apart(seed):
    """Every point has the level of one tissue, in every phase, breath and size: no two outlines cross."""
    x, y = points(344, 250, 1.3)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    cycle, drift = (0.0, 0.36, 0.7, 0.36), (0.0, 0.0, 5.0, 10.0)
    shapes = heart(seed, cycle, drift, scale=0.45 if seed % 3 == 0 else 1.0)
    for frame in range(4):
        values = raster(shapes, frame, x, y)
        assert float((values[..., None] - levels).abs().amin(dim=-1).max()) < 1e-9
        edge = torch.cat([values[0], values[-1], values[:, 0], values[:, -1]])
        assert not edge.any()


def test_body_fits_its_stated_size():
    for seed in range(50):
        body = heart(seed)[0]
        assert (2 * body.semi_axes_T2[0] <= torch.tensor(anatomy.BODY)).all()


def test_breathing_moves_the_heart_by_its_millimetres():
    rest, drifted = heart(7, cycle=(0.3,)), heart(7, cycle=(0.3,), drift=(6.0,))
    shifts = [last.centre_T2[0] - first.centre_T2[0] for first, last in zip(rest, drifted, strict=True)]
    steps = {round(float(shift[1]), 9) for shift in shifts}
    assert steps == {0.0, 3.0, 6.0}  # chest; the lung below which the liver rises; heart and liver
    assert all(float(shift[0]) == 0 for shift in shifts)
    assert sum(round(float(shift[1]), 9) == 6.0 for shift in shifts) >= 8


def test_another_seed_is_another_chest():
    grid = Grid(16, 16, 22.0)
    first, again, other = (ellipses_to_kspace(heart(seed), grid, 1, [uniform()]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, rtol=1e-2)


# --- phase, coils, noise -------------------------------------------------------------------------------------------


@FEW
@given(st.integers(0, 10_000))
def test_object_phase_hardly_touches_the_magnitude(seed):
    values = object_phase(generator(seed)).sampled(Grid(40, 40, 9.0))
    assert float((values.abs() - 1).abs().max()) < 2e-3
    assert float(values.angle().std()) > 0.01


def test_one_coil_is_uniform_and_many_are_normalised_and_look_their_way():
    grid = Grid(65, 65, 5.0)
    assert torch.equal(coil_sensitivities(1)[0].sampled(grid), torch.ones(65, 65, dtype=torch.complex128))
    maps = torch.stack([coil.sampled(grid) for coil in coil_sensitivities(6)])
    assert float((maps.abs() ** 2).sum(dim=0)[32, 32]) == pytest.approx(1)
    assert float((maps.abs() ** 2).sum(dim=0).min()) > 0.05
    for coil in range(6):
        row, column = divmod(int(maps[coil].abs().argmax()), 65)
        angle = 2 * math.pi * (coil + 0.25) / 6
        assert math.atan2(row - 32, column - 32) == pytest.approx(math.remainder(angle, 2 * math.pi), abs=0.1)


def test_coil_images_are_the_image_times_the_sensitivities():
    """Up to ringing at edges, which shrinks with the pixels."""
    errors = []
    for pixels in (48, 144):
        grid = Grid(pixels, pixels, 360 / pixels)
        coils = coil_sensitivities(3)
        kspace = ellipses_to_kspace(heart(2), grid, 1, [uniform(), *coils])
        images = kspace_to_image(kspace)[:, 0]
        product = torch.stack([coil.sampled(grid) for coil in coils]) * images[0]
        errors.append(float((images[1:] - product).norm() / product.norm()))
    assert errors[1] < 0.015
    assert errors[1] < errors[0] / 2


def test_combining_coils_leaves_their_root_of_the_sum_of_squares():
    maps = torch.stack([coil.sampled(Grid(12, 10, 4.0)) for coil in coil_sensitivities(4)])
    image = torch.randn(3, 10, 12, dtype=torch.complex128, generator=generator())
    seen = image * maps.abs().square().sum(0).sqrt()
    assert torch.allclose(combine_coils(maps[:, None] * image, maps), seen, atol=1e-12)


def test_a_scan_of_several_coils_says_how_bright_the_coils_see_the_object():
    data = simulate_slice(PhantomScan(Grid(32, 24, 11.0), 2, coils=3), 0)
    brightness = kspace_to_image(data.kspace_CTYX).abs().square().sum(0).sqrt()
    torch.testing.assert_close(data.seen_TYX.abs(), brightness)
    torch.testing.assert_close(torch.sgn(data.seen_TYX), torch.sgn(data.truth_TYX))
    alone = simulate_slice(PhantomScan(Grid(32, 24, 11.0), 2), 0)
    assert torch.equal(alone.seen_TYX, alone.truth_TYX)


def test_noise_has_the_stated_spread_in_both_parts_and_in_the_image():
    noise = with_noise(torch.zeros(4, 5, 64, 64, dtype=torch.complex64), 0.25, generator())
    for values in (noise, kspace_to_image(noise)):
        assert float(values.real.std()) == pytest.approx(0.25, rel=0.02)
        assert float(values.imag.std()) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("coils", [1, 2])
def test_snr_is_blood_over_the_noise_of_one_coil(coils):
    grid = Grid(41, 40, 9.0)
    clean, noisy = (simulate_slice(PhantomScan(grid, 12, coils=coils, snr=snr, seed=8), 0) for snr in (math.inf, 20.0))
    noise = kspace_to_image(noisy.kspace_CTYX - clean.kspace_CTYX)
    assert float(noise.real.std()) == pytest.approx(anatomy.BLOOD / 20, rel=0.03)
    assert float(noise.imag.std()) == pytest.approx(anatomy.BLOOD / 20, rel=0.03)
    assert torch.equal(clean.truth_TYX, noisy.truth_TYX)


# --- the scan ------------------------------------------------------------------------------------------------------


def test_truth_of_one_coil_is_the_image_of_its_noise_free_kspace():
    data = simulate_slice(PhantomScan(Grid(33, 28, 11.0), 3), 0)
    assert torch.equal(data.truth_TYX, kspace_to_image(data.kspace_CTYX[0]))
    assert data.kspace_CTYX.shape == (1, 3, 28, 33)
    assert data.kspace_CTYX.dtype == torch.complex64


def test_seed_decides_anatomy_and_noise():
    grid = Grid(24, 24, 15.0)
    first, again, other = (simulate_slice(PhantomScan(grid, 2, snr=10, seed=seed), 0) for seed in (1, 1, 2))
    clean = simulate_slice(PhantomScan(grid, 2, seed=1), 0), simulate_slice(PhantomScan(grid, 2, seed=2), 0)
    assert torch.equal(first.kspace_CTYX, again.kspace_CTYX)
    assert not torch.allclose(first.truth_TYX, other.truth_TYX, atol=0.05)
    noises = [noisy.kspace_CTYX - still.kspace_CTYX for noisy, still in zip((first, other), clean, strict=True)]
    assert not torch.allclose(*noises, atol=0.05)


def test_truth_of_many_coils_is_the_truth_of_one():
    one, four = (simulate_slice(PhantomScan(Grid(32, 32, 11.0), 2, coils=coils, seed=3), 0) for coils in (1, 4))
    assert torch.equal(one.truth_TYX, four.truth_TYX)
    assert four.coils_CYX.shape == (4, 32, 32)


def test_slices_share_the_chest_but_not_the_noise_and_widen_towards_the_base():
    scan = PhantomScan(Grid(32, 32, 11.0), 2, slices=3, snr=10, seed=5)
    slices = [simulate_slice(scan, index) for index in range(3)]
    clean = [simulate_slice(PhantomScan(Grid(32, 32, 11.0), 2, slices=3, seed=5), index) for index in range(3)]
    noises = [noisy.kspace_CTYX - still.kspace_CTYX for noisy, still in zip(slices, clean, strict=True)]
    assert not torch.allclose(noises[0], noises[1], atol=1e-2)
    brightness = [float(data.truth_TYX.abs().sum()) for data in clean]
    assert brightness == sorted(brightness)
    assert torch.equal(simulate_slice(scan, 1).kspace_CTYX, slices[1].kspace_CTYX)


def test_slices_stay_within_the_heart():
    assert PhantomScan(Grid(16, 16, 20.0), 2, slices=4).slice_spacing == 10
    assert 40 * PhantomScan(Grid(16, 16, 20.0), 2, slices=40).slice_spacing == pytest.approx(80)


@pytest.mark.parametrize(
    "wrong", [{"breathing": -1.0}, {"breathing": 11.0}, {"breathing": math.nan}, {"snr": 0.0}, {"snr": math.nan}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"choose"):
        PhantomScan(Grid(16, 16, 20.0), 2, **wrong)


def test_no_coils_are_refused():
    with pytest.raises(UsageError, match="coils"):
        coil_sensitivities(0)
