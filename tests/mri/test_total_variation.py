"""TV initial image of the networks: a few iterations of total variation."""

import pytest
import torch

from crnn_cli.bundles.config import _INITIAL_IMAGES
from crnn_cli.mri.classical import run_method
from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.mri.total_variation import _START, SPACE, tv_start
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
    weight = _START.weight * float(energy_weighted_rms(data.consistency().time_wiener()))
    down, across = torch.zeros_like(image), torch.zeros_like(image)
    down[:, :, :-1], across[..., :-1] = image.diff(dim=2), image.diff(dim=3)
    changes = image.diff(dim=1).abs().sum() + SPACE * (down.abs().square() + across.abs().square()).sqrt().sum()
    return 0.5 * data.encoding().squared_residual(image, data.kspace_BCTYX)[0] + weight * float(changes)


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("coils", [0, 3])
def test_start_goes_most_of_the_way_from_time_wiener_to_the_minimum(coils, two_axes):
    _, data = measured(coils, two_axes)
    operator = data.consistency()
    begin, made = operator.time_wiener(), tv_start(operator)
    best = run_method("tv", data.encoding(), data.kspace_BCTYX, lambda _: _START.weight, 300)
    first, now, last = (objective(data, image) for image in (begin, made, best))
    assert last < now < last + 0.25 * (first - last)


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
