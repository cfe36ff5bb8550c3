"""TV initial image of the networks: a few iterations of total variation."""

from dataclasses import replace

import pytest
import torch

from crnn_cli.bundles.config import _INITIAL_IMAGES
from crnn_cli.mri.classical import run_method
from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.total_variation import admm
from crnn_cli.mri.total_variation.admm import start_steps, tv_start
from crnn_cli.mri.total_variation.solver import FourierSolver
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import INITIAL_IMAGES
from tests.mri.test_classical import problem

SHAPE = (1, 6, 24, 10)


def measured(coils=3, two_axes=False, shape=SHAPE, **how):
    """Return the truth and what was measured of it."""
    truth, encoding, kspace = problem(coils, two_axes, shape, **how)
    mask = encoding.mask_BTYX.expand(-1, -1, -1, SHAPE[3] if two_axes else 1)
    return truth, SliceMeasurement(kspace * mask[:, None], mask, encoding.maps_BCYX)


def objective(data, image):
    """Return 1/2 ||A x - y||^2 + w ||D_t x||_1 + w s TV(x), w relative to the brightness, written on its own."""
    operator = data.consistency()
    steps = start_steps(operator)
    weight = steps.weight * float(energy_weighted_rms(operator.time_wiener()))
    down, across = image.roll(-1, 2) - image, image.roll(-1, 3) - image
    if data.maps_BCYX is not None:  # not across the border
        down[:, :, -1], across[..., -1] = 0, 0
    changes = image.diff(dim=1).abs().sum() + steps.space * (down.abs().square() + across.abs().square()).sqrt().sum()
    return 0.5 * data.encoding().squared_residual(image, data.kspace_BCTYX)[0] + weight * float(changes)


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("coils", [0, 3])
def test_start_goes_most_of_the_way_from_time_wiener_to_the_minimum(monkeypatch, coils, two_axes):
    _, data = measured(coils, two_axes)
    operator = data.consistency()
    begin, made = operator.time_wiener(), tv_start(operator)
    for name in ("_ONE_COIL", "_SEVERAL_COILS"):
        monkeypatch.setattr(admm, name, replace(getattr(admm, name), iterations=300))
    first, now, last = (objective(data, image) for image in (begin, made, tv_start(operator)))
    assert last < now < last + 0.25 * (first - last)


def test_many_iterations_end_at_the_minimum_of_the_method(monkeypatch):
    _, data = measured(3)
    operator = data.consistency()
    monkeypatch.setattr(admm, "_SEVERAL_COILS", replace(admm._SEVERAL_COILS, iterations=300))
    best = run_method("tv", data.encoding(), data.kspace_BCTYX, lambda _: admm._SEVERAL_COILS.weight, 300)
    assert objective(data, tv_start(operator)) == pytest.approx(objective(data, best), rel=0.01)


@pytest.mark.parametrize("kind", ["lines", "samples", "same in all frames"])
def test_fourier_solver_solves_the_system(kind):
    truth, data = measured(0, kind == "samples", shape=(2, *SHAPE[1:]))
    mask = data.mask_BTYX[:, :1] if kind == "same in all frames" else data.mask_BTYX
    operator = SliceMeasurement(data.kspace_BCTYX, mask).consistency()
    penalty, factors = 0.3, (1.0, 0.4, 0.2)
    solver = FourierSolver(operator.fourier_mask(), (6, 10, 24), penalty, factors)
    right, image = torch.randn_like(truth.mT), truth.mT.contiguous()
    found = solver(right.clone(), image)
    applied = operator.normal(found.mT).mT
    for axis, factor in enumerate(factors, start=1):
        after, before = found.roll(-1, axis) - found, found - found.roll(1, axis)
        if axis == 1:
            after[:, -1], before[:, 0] = 0, 0
        applied = applied + penalty * factor**2 * (before - after)
    torch.testing.assert_close(applied, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("axis", [-2, -1])
def test_start_of_one_coil_moves_around_the_border_with_the_image(axis):
    _, data = measured(0, shape=(1, 6, 24, 10))
    images_BTYX = kspace_to_image(data.kspace_BCTYX[:, 0])
    moved = image_to_kspace(images_BTYX.roll(3, axis)) * data.mask_BTYX
    made = tv_start(data.consistency()).roll(3, axis)
    of_moved = tv_start(SliceMeasurement(moved[:, None], data.mask_BTYX).consistency())
    torch.testing.assert_close(of_moved, made, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("coils", [0, 3])
def test_differences_and_their_adjoint_go_together(coils):
    _, data = measured(coils)
    operator = data.consistency()
    system = admm._start_system(operator, start_steps(operator))
    assert system.across_border == (coils == 0)
    image = torch.randn(1, 6, 10, 24, dtype=torch.complex64)
    of_image, change, back = torch.zeros(3, *image.shape) + 0j, torch.randn(3, *image.shape) + 0j, 0 * image
    admm._add_differences(of_image, image, system)
    for axis, (part, factor) in enumerate(zip(change, system.factors, strict=True), start=1):
        admm._add_adjoint_difference(back, part, axis, factor, axis > 1 and system.across_border)
    left, right = ((a.conj() * b).sum() for a, b in ((of_image, change), (image, back)))
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_start_is_nearer_to_the_truth_than_time_wiener():
    truth, data = measured(share=0.4)
    operator = data.consistency()
    assert (tv_start(operator) - truth).norm() < 0.8 * (operator.time_wiener() - truth).norm()


@pytest.mark.parametrize("coils", [0, 3])
def test_start_scales_with_the_data_each_item_alone(coils):
    _, data = measured(coils, shape=(2, *SHAPE[1:]))
    operator = data.consistency()
    factor = torch.tensor([1e3, 1e-3]).view(2, 1, 1, 1)
    made = tv_start(operator)
    torch.testing.assert_close(tv_start(operator.scaled(factor)), factor * made, rtol=1e-3, atol=1e-6)
    maps = None if data.maps_BCYX is None else data.maps_BCYX[1:]
    alone = tv_start(SliceMeasurement(data.kspace_BCTYX[1:], data.mask_BTYX[1:], maps).consistency())
    torch.testing.assert_close(alone, made[1:], rtol=1e-3, atol=1e-4)


def test_initial_image_of_zeros_is_zero():
    _, data = measured()
    assert not tv_start(SliceMeasurement(0 * data.kspace_BCTYX, data.mask_BTYX, data.maps_BCYX).consistency()).any()


def test_bundles_may_name_every_start():
    assert set(_INITIAL_IMAGES) == set(INITIAL_IMAGES)
