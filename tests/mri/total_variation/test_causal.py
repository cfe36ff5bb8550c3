"""Causal total variation: it minimises the total variation of its window, looks back only, and forgets."""

import pytest
import torch

from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.mri.total_variation import causal as module
from crnn_cli.mri.total_variation.admm import SPACE, GradientSolver, Steps, iterate
from crnn_cli.mri.total_variation.causal import CausalTV, causal_tv
from crnn_cli.reconstruction.measurement import SliceMeasurement
from tests.mri.total_variation.test_start import measured

LONG = (1, 16, 24, 10)
WEIGHT = 0.02


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("coils", [0, 3])
def test_a_frame_is_the_last_one_of_the_total_variation_of_its_window(monkeypatch, coils, two_axes):
    _, data = measured(coils, two_axes)
    operator, steps = data.consistency(), Steps(WEIGHT, 0.2, SPACE, 400)
    plan = module._Plan(data.kspace_BCTYX.shape[2], steps)
    monkeypatch.setattr(module, "_ONE_COIL", plan)
    monkeypatch.setattr(module, "_SEVERAL_COILS", plan)
    scale = energy_weighted_rms(operator.running())
    begun, adjoint = ((image / scale).mT.contiguous() for image in (operator.running(), operator.zero_filled()))
    system = GradientSolver(operator.normal, steps)
    expected = scale * iterate(begun, begun.new_zeros(3, *begun.shape), adjoint, system, steps).mT
    made = causal_tv(operator)
    torch.testing.assert_close(made[:, -1], expected[:, -1], rtol=0, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("coils", [0, 3])
def test_a_held_frame_stays_and_its_neighbour_sees_it(coils):
    truth, data = measured(coils)
    operator, steps = data.consistency(), Steps(WEIGHT, 0.2, SPACE, 200)
    adjoint = operator.zero_filled().mT.contiguous()
    begun = operator.running().mT.contiguous()
    begun[:, 0] = 2 * truth[:, 0].mT  # pulls its neighbour
    held, free = (
        iterate(begun.clone(), begun.new_zeros(3, *begun.shape), adjoint, system, steps)
        for system in (GradientSolver(operator.normal, steps, held=each) for each in (True, False))
    )
    assert torch.equal(held[:, 0], begun[:, 0])
    assert (free[:, 1] - held[:, 1]).norm() > 0.01 * held[:, 1].norm()
    # the minimum over the others: one more solution changes nothing
    system = GradientSolver(operator.normal, steps, held=True)
    again = iterate(held.clone(), begun.new_zeros(3, *begun.shape), adjoint, system, steps)
    torch.testing.assert_close(again, held, rtol=0, atol=0.02 * float(held.abs().max()))


@pytest.mark.parametrize("coils", [0, 3])
def test_a_frame_does_not_depend_on_later_ones(coils):
    _, data = measured(coils, shape=LONG)
    changed = data.kspace_BCTYX.clone()
    changed[:, :, 10:] *= 2
    made, other = (
        causal_tv(SliceMeasurement(kspace, data.mask_BTYX, data.maps_BCYX).consistency())
        for kspace in (data.kspace_BCTYX, changed)
    )
    assert torch.equal(made[:, :10], other[:, :10])
    assert not torch.allclose(made[:, 10:], other[:, 10:], rtol=0.1)


@pytest.mark.parametrize("coils", [0, 3])
def test_it_is_nearer_to_the_truth_than_running_images(coils):
    truth, data = measured(coils, share=0.4, shape=LONG)
    operator = data.consistency()
    assert (causal_tv(operator) - truth)[:, 5:].norm() < 0.95 * (operator.running() - truth)[:, 5:].norm()


@pytest.mark.parametrize("coils", [0, 3])
def test_it_scales_with_the_data(coils):
    _, data = measured(coils, shape=LONG)
    operator, factor = data.consistency(), torch.full((1, 1, 1, 1), 1e3)
    made = causal_tv(operator)
    torch.testing.assert_close(causal_tv(operator.scaled(factor)), factor * made, rtol=1e-3, atol=1.0)


def test_of_zeros_it_is_zero():
    _, data = measured()
    nothing = SliceMeasurement(0 * data.kspace_BCTYX, data.mask_BTYX, data.maps_BCYX)
    assert not causal_tv(nothing.consistency()).any()


@pytest.mark.parametrize(("coils", "frames"), [(1, 9), (3, 5)])
def test_it_holds_a_few_frames_however_many_have_passed(coils, frames):
    _, data = measured(0 if coils == 1 else coils, shape=LONG)
    operator, series = data.consistency(), CausalTV(coils)
    assert series.frames == frames
    for stop in range(1, 17):
        before = series._images_BWXY
        series.next(operator, slice(max(0, stop - series.frames), stop))
        if stop >= frames:  # the frame before the window stays as it is
            assert torch.equal(series._images_BWXY[:, 0], before[:, 1 - frames])
            assert not torch.equal(series._images_BWXY[:, 1], before[:, 2 - frames])
    assert series._images_BWXY.shape[1] == series._dual_3BWXY.shape[2] == frames


def test_a_copy_goes_on_alone():
    _, data = measured(0)
    operator, series = data.consistency(), CausalTV()
    series.next(operator, slice(0, 1))
    copy = series.copy()
    copy.next(operator.scaled(torch.tensor(3.0)), slice(0, 2))
    other = CausalTV()
    other.next(operator, slice(0, 1))
    assert torch.equal(series.next(operator, slice(0, 2)), other.next(operator, slice(0, 2)))


@pytest.mark.parametrize("one_mask", [False, True])
@pytest.mark.parametrize("coils", [0, 3])
def test_normal_operator_of_some_frames_is_that_part_of_all(coils, one_mask):
    truth, data = measured(coils)
    if one_mask:
        data = SliceMeasurement(data.kspace_BCTYX, data.mask_BTYX[:, :1], data.maps_BCYX)
    operator = data.consistency()
    whole = operator.normal(truth)
    torch.testing.assert_close(operator.normal(truth[:, 2:5], slice(2, 5)), whole[:, 2:5])
