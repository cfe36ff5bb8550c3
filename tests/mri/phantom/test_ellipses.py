"""Analytic k-space of ellipses against integrals and rasters."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.phantom import anatomy
from crnn_cli.mri.phantom.ellipses import Grid, Modulation, ellipse_transform, ellipses_to_kspace, jinc, uniform
from crnn_cli.mri.phantom.scan import coil_sensitivities, object_phase
from tests.reference.ellipses import double, ellipse, generator, heart, integral, raster

FEW = settings(max_examples=15, deadline=None)
number = st.floats(-40, 40, allow_nan=False)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small arrays on a busy machine: threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
