"""Laws of the phantom: its k-space against integrals and rasters that know nothing of Bessel functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UsageError
from crnn_cli.mri import anatomy
from crnn_cli.mri.anatomy import beating_heart, contraction, wall_thickness
from crnn_cli.mri.ellipses import Ellipse, Grid, Modulation, ellipse_transform, ellipses_to_kspace, jinc, uniform
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.phantom import Scan, coil_sensitivities, combine_coils, object_phase, simulate_slice, with_noise

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
number = st.floats(-40, 40, allow_nan=False)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small arrays on a busy machine: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ellipse(amplitude, *rows):
    """rows of x, y, a, b, angle, one per frame"""
    table = torch.tensor(rows, dtype=torch.float64)
    return Ellipse(amplitude, table[:, :2], table[:, 2:4], table[:, 4])


def double(value):
    return torch.tensor([value], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def heart(seed=0, cycle=(0.0,), drift=None, scale=1.0):
    cycle_T = torch.tensor(cycle, dtype=torch.float64)
    drift_T = torch.zeros_like(cycle_T) if drift is None else torch.tensor(drift, dtype=torch.float64)
    return beating_heart(cycle_T, drift_T, generator(seed), scale)


def integral(shape, frame, kx, ky, factor=lambda x, y: 1.0):
    """Integrate amplitude * factor * exp(-2 pi i k.r) over the ellipse: Gauss-Legendre rings, trapezoid angles."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    radius, ring = torch.tensor((nodes + 1) / 2)[:, None], torch.tensor(weights / 2)[:, None]
    turn = torch.arange(160, dtype=torch.float64) * (2 * math.pi / 160)
    (x0, y0), (a, b), angle = shape.centre_T2[frame], shape.semi_axes_T2[frame], shape.angle_T[frame]
    u, v = a * radius * torch.cos(turn), b * radius * torch.sin(turn)
    x, y = x0 + u * torch.cos(angle) - v * torch.sin(angle), y0 + u * torch.sin(angle) + v * torch.cos(angle)
    wave = torch.exp(-2j * math.pi * (kx * x + ky * y)) * factor(x, y)
    return shape.amplitude * complex((wave * (a * b * radius * ring)).sum() * (2 * math.pi / 160))


def raster(shapes, frame, x, y):
    """Add up ellipses at points, one by one."""
    total = torch.zeros_like(x)
    for shape in shapes:
        row = min(frame, shape.angle_T.numel() - 1)
        (x0, y0), (a, b), angle = shape.centre_T2[row], shape.semi_axes_T2[row], shape.angle_T[row]
        u = (x - x0) * torch.cos(angle) + (y - y0) * torch.sin(angle)
        v = (y - y0) * torch.cos(angle) - (x - x0) * torch.sin(angle)
        total += shape.amplitude * ((u / a) ** 2 + (v / b) ** 2 <= 1).double()
    return total


def points(width, height, step):
    x = torch.arange(-width / 2, width / 2, step, dtype=torch.float64)
    y = torch.arange(-height / 2, height / 2, step, dtype=torch.float64)
    return x.expand(len(y), -1), y[:, None].expand(-1, len(x))


# --- the closed form -----------------------------------------------------------------------------------------------


@FEW
@given(number, number, st.floats(1, 40), st.floats(1, 40), st.floats(-7, 7), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_transform_of_an_ellipse_is_its_fourier_integral(x, y, a, b, angle, kx, ky):
    shape = ellipse(0.7, (x, y, a, b, angle))
    found = ellipse_transform(shape, 0, double(kx), double(ky))
    assert abs(complex(found) - integral(shape, 0, kx, ky)) < 3e-13 * 0.7 * math.pi * a * b


def test_jinc_is_its_power_series_and_vanishes_at_the_zeros_of_j1():
    """Zeros from Abramowitz & Stegun, table 9.5."""
    for r in (0.0, 0.3, 1.0, 4.9, 5.1, 9.0):
        terms = [(-1) ** m * (r / 2) ** (2 * m) / (math.factorial(m) * math.factorial(m + 1)) for m in range(40)]
        assert float(jinc(double(r))) == pytest.approx(math.fsum(terms), abs=2e-14)
    zeros = (3.83170597021, 7.01558666982, 10.17346813506, 19.61585851047, 22.76008438059)
    assert max(abs(float(jinc(double(zero)))) for zero in zeros) < 1e-11
    both = jinc(torch.tensor([0.0, 19.9999, 20.0001, 60.0], dtype=torch.float64))
    assert torch.allclose(both, torch.cat([jinc(double(r)) for r in (0.0, 19.9999, 20.0001, 60.0)]), atol=1e-13)


def test_transform_at_frequency_zero_is_the_area():
    zero = torch.zeros(1, dtype=torch.float64)
    found = ellipse_transform(ellipse(2.0, (5, -3, 7, 2, 0.4)), 0, zero, zero)
    assert complex(found) == pytest.approx(2 * math.pi * 14, rel=1e-12)


@pytest.mark.parametrize(("samples", "lines"), [(9, 8), (8, 9)])
def test_modulated_kspace_is_the_integral_of_object_times_phase_times_coil(samples, lines):
    grid = Grid(samples, lines, 11.0)
    shapes = [ellipse(1.0, (3, -6, 30, 18, 0.5), (4, -6, 27, 19, 0.6)), ellipse(-0.4, (-10, 5, 9, 12, -1.0))]
    modulation = object_phase(generator(3)).times(coil_sensitivities(4)[1])

    def factor(x, y):
        along_x = sum(
            term * torch.exp(1j * math.pi * p * x / (samples * 11.0))
            for p, term in enumerate(modulation.x_terms.tolist(), -(len(modulation.x_terms) // 2))
        )
        along_y = sum(
            term * torch.exp(1j * math.pi * p * y / (lines * 11.0))
            for p, term in enumerate(modulation.y_terms.tolist(), -(len(modulation.y_terms) // 2))
        )
        return along_x * along_y

    found = ellipses_to_kspace(shapes, grid, 2, [uniform(), modulation])
    scale = 11.0**2 * math.sqrt(samples * lines)
    for coil, times in enumerate((lambda x, y: 1.0, factor)):
        for frame in range(2):
            for line, sample in ((0, 0), (lines - 1, 2), (lines // 2, samples // 2), (1, samples - 1)):
                kx, ky = (sample - samples // 2) / (samples * 11.0), (line - lines // 2) / (lines * 11.0)
                truth = sum(integral(s, min(frame, len(s.angle_T) - 1), kx, ky, times) for s in shapes) / scale
                assert abs(complex(found[coil, frame, line, sample]) - truth) < 1e-13


def test_modulation_at_the_pixels_is_its_series_written_out():
    grid = Grid(7, 6, 2.0)
    modulation = object_phase(generator(1))
    found = modulation.sampled(grid)
    for row, column in ((0, 0), (5, 6), (3, 3), (2, 5)):
        x, y = (column - 3) * 2.0, (row - 3) * 2.0
        along_x = sum(
            t * complex(math.cos(math.pi * p * x / 14), math.sin(math.pi * p * x / 14))
            for p, t in enumerate(modulation.x_terms.tolist(), -4)
        )
        along_y = sum(
            t * complex(math.cos(math.pi * p * y / 12), math.sin(math.pi * p * y / 12))
            for p, t in enumerate(modulation.y_terms.tolist(), -4)
        )
        assert abs(complex(found[row, column]) - along_x * along_y) < 1e-12


def test_product_of_modulations_is_the_product_of_their_values():
    grid, first, second = Grid(11, 8, 3.0), object_phase(generator(1)), coil_sensitivities(3)[2]
    assert torch.allclose(first.times(second).sampled(grid), first.sampled(grid) * second.sampled(grid), atol=1e-13)


def test_kspace_of_the_chest_is_that_of_a_fine_raster():
    """A raster of 0.5 mm transformed by an FFT of 15 times the size: within 1 % over the band of the grid."""
    shapes = heart(seed=2, cycle=(0.0, 0.36))
    grid, fine = Grid(50, 49, 7.2), 15
    x = (torch.arange(50 * fine, dtype=torch.float64) - 25 * fine) * (7.2 / fine)
    y = (torch.arange(49 * fine, dtype=torch.float64) - 49 * fine // 2) * (7.2 / fine)
    found = ellipses_to_kspace(shapes, grid, 2, [uniform()])[0]
    for frame in range(2):
        image = raster(shapes, frame, x.expand(len(y), -1), y[:, None].expand(-1, len(x)))
        whole = image_to_kspace(image.to(torch.complex128)) / fine
        top, left = 49 * fine // 2 - 24, 25 * fine - 25
        truth = whole[top : top + 49, left : left + 50]
        assert float((found[frame] - truth).norm() / truth.norm()) < 0.01


def test_image_of_the_kspace_has_the_intensities_of_the_object():
    """In the blood, away from edges, the image is the object."""
    grid = Grid(200, 160, 1.8)
    shapes = heart(seed=4)
    image = kspace_to_image(ellipses_to_kspace(shapes, grid, 1, [uniform()]))[0, 0].real
    x, y = (torch.arange(200) - 100) * 1.8, (torch.arange(160) - 80) * 1.8
    truth = raster(shapes, 0, x.double().expand(160, -1), y.double()[:, None].expand(-1, 200))
    darkest = -torch.nn.functional.max_pool2d(-truth[None], 5, 1, padding=2)[0]
    inside = darkest > 0.9
    assert int(inside.sum()) > 300
    assert float(image[inside].mean()) == pytest.approx(anatomy.BLOOD, abs=0.005)


@FEW
@given(st.integers(0, 10_000))
def test_kspace_centre_is_intensity_times_area(seed):
    shapes = heart(seed)
    area = sum(s.amplitude * math.pi * float(s.semi_axes_T2[0].prod()) for s in shapes)
    centre = complex(ellipses_to_kspace(shapes, Grid(6, 7, 60.0), 1, [uniform()])[0, 0, 3, 3])
    assert centre.real == pytest.approx(area / (60.0**2 * math.sqrt(42)), rel=1e-12)
    assert abs(centre.imag) < 1e-12


def test_kspace_is_linear_in_the_object_and_in_the_modulation():
    grid, shapes = Grid(14, 15, 25.0), heart(1)
    coil = coil_sensitivities(3)[0]
    half = len(shapes) // 2
    whole, first, second = (
        ellipses_to_kspace(part, grid, 1, [coil]) for part in (shapes, shapes[:half], shapes[half:])
    )
    assert torch.allclose(whole, first + second, atol=1e-12)
    scaled = Modulation(coil.x_terms * (2 - 3j), coil.y_terms)
    assert torch.allclose(ellipses_to_kspace(shapes, grid, 1, [scaled]), whole * (2 - 3j), atol=1e-12)


@pytest.mark.parametrize(("samples", "lines"), [(15, 13), (16, 14)])
def test_kspace_without_phase_is_hermitian(samples, lines):
    kspace = ellipses_to_kspace(heart(5), Grid(samples, lines, 24.0), 1, [uniform()])[0, 0]
    both = kspace[1 - lines % 2 :, 1 - samples % 2 :]  # the lowest line of an even grid has no partner
    assert torch.allclose(both, both.flip(0, 1).conj(), atol=1e-12)


def test_what_does_not_move_is_the_same_as_when_computed_per_frame():
    grid = Grid(20, 18, 18.0)
    moving = heart(6, cycle=(0.0, 0.2, 0.36))
    together = ellipses_to_kspace(moving, grid, 3, [uniform()])[0]
    assert any(s.still for s in moving)
    assert any(not s.still for s in moving)
    for frame, cycle in enumerate((0.0, 0.2, 0.36)):
        alone = ellipses_to_kspace(heart(6, cycle=(cycle,)), grid, 1, [uniform()])[0, 0]
        assert torch.allclose(together[frame], alone, atol=1e-12)


# --- anatomy and motion --------------------------------------------------------------------------------------------


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


def test_combining_coils_undoes_the_sensitivities():
    maps = torch.stack([coil.sampled(Grid(12, 10, 4.0)) for coil in coil_sensitivities(4)])
    image = torch.randn(3, 10, 12, dtype=torch.complex128, generator=generator())
    assert torch.allclose(combine_coils(maps[:, None] * image, maps), image, atol=1e-12)


def test_noise_has_the_stated_spread_in_both_parts_and_in_the_image():
    noise = with_noise(torch.zeros(4, 5, 64, 64, dtype=torch.complex64), 0.25, generator())
    for values in (noise, kspace_to_image(noise)):
        assert float(values.real.std()) == pytest.approx(0.25, rel=0.02)
        assert float(values.imag.std()) == pytest.approx(0.25, rel=0.02)


@pytest.mark.parametrize("coils", [1, 2])
def test_snr_is_blood_over_the_noise_of_one_coil(coils):
    grid = Grid(41, 40, 9.0)
    clean, noisy = (simulate_slice(Scan(grid, 12, coils=coils, snr=snr, seed=8), 0) for snr in (math.inf, 20.0))
    noise = kspace_to_image(noisy.kspace_CTYX - clean.kspace_CTYX)
    assert float(noise.real.std()) == pytest.approx(anatomy.BLOOD / 20, rel=0.03)
    assert float(noise.imag.std()) == pytest.approx(anatomy.BLOOD / 20, rel=0.03)
    assert torch.equal(clean.truth_TYX, noisy.truth_TYX)


# --- the scan ------------------------------------------------------------------------------------------------------


def test_truth_of_one_coil_is_the_image_of_its_noise_free_kspace():
    data = simulate_slice(Scan(Grid(33, 28, 11.0), 3), 0)
    assert torch.equal(data.truth_TYX, kspace_to_image(data.kspace_CTYX[0]))
    assert data.kspace_CTYX.shape == (1, 3, 28, 33)
    assert data.kspace_CTYX.dtype == torch.complex64


def test_seed_decides_anatomy_and_noise():
    grid = Grid(24, 24, 15.0)
    first, again, other = (simulate_slice(Scan(grid, 2, snr=10, seed=seed), 0) for seed in (1, 1, 2))
    clean = simulate_slice(Scan(grid, 2, seed=1), 0), simulate_slice(Scan(grid, 2, seed=2), 0)
    assert torch.equal(first.kspace_CTYX, again.kspace_CTYX)
    assert not torch.allclose(first.truth_TYX, other.truth_TYX, atol=0.05)
    noises = [noisy.kspace_CTYX - still.kspace_CTYX for noisy, still in zip((first, other), clean, strict=True)]
    assert not torch.allclose(*noises, atol=0.05)


def test_truth_of_many_coils_is_the_truth_of_one():
    one, four = (simulate_slice(Scan(Grid(32, 32, 11.0), 2, coils=coils, seed=3), 0) for coils in (1, 4))
    assert torch.equal(one.truth_TYX, four.truth_TYX)
    assert four.coils_CYX.shape == (4, 32, 32)


def test_slices_share_the_chest_but_not_the_noise_and_widen_towards_the_base():
    scan = Scan(Grid(32, 32, 11.0), 2, slices=3, snr=10, seed=5)
    slices = [simulate_slice(scan, index) for index in range(3)]
    clean = [simulate_slice(Scan(Grid(32, 32, 11.0), 2, slices=3, seed=5), index) for index in range(3)]
    noises = [noisy.kspace_CTYX - still.kspace_CTYX for noisy, still in zip(slices, clean, strict=True)]
    assert not torch.allclose(noises[0], noises[1], atol=1e-2)
    brightness = [float(data.truth_TYX.abs().sum()) for data in clean]
    assert brightness == sorted(brightness)
    assert torch.equal(simulate_slice(scan, 1).kspace_CTYX, slices[1].kspace_CTYX)


def test_slices_stay_within_the_heart():
    assert Scan(Grid(16, 16, 20.0), 2, slices=4).slice_spacing == 10
    assert 40 * Scan(Grid(16, 16, 20.0), 2, slices=40).slice_spacing == pytest.approx(80)


@pytest.mark.parametrize(
    "wrong", [{"breathing": -1.0}, {"breathing": 11.0}, {"breathing": math.nan}, {"snr": 0.0}, {"snr": math.nan}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"choose"):
        Scan(Grid(16, 16, 20.0), 2, **wrong)


def test_no_coils_are_refused():
    with pytest.raises(UsageError, match="coils"):
        coil_sensitivities(0)
