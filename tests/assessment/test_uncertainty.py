"""The uncertainty is that of errors whose size is known, and coverage counts what it says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from crnn_cli.assessment.held_out import CENTRE, hold_out_lines, outside_acs
from crnn_cli.assessment.reliability import AssessedReconstructor, reliability_summary
from crnn_cli.assessment.uncertainty import (
    LEFT_OUT,
    WINDOW,
    JackknifeSpread,
    _box_filtered,
    calibrated_deviation,
    noise_floor,
)
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.coverage import DARK, WIDTHS, body_mask, coverage
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.reconstruction.measurement import SliceMeasurement
from tests.assessment.test_held_out import Guess
from tests.assessment.test_reliability import lines, noise
from tests.support.data import ROOT

FRAMES, LINES, SAMPLES = 6, 48, 36
TRUTH = 10 + 0 * noise(1, FRAMES, LINES, SAMPLES)


def scan(mask, sigma=0.0, coils=1, truth=TRUTH):
    """Return what is measured of the truth; coils see the same, with a sum of squares of 1."""
    maps = torch.full((1, coils, LINES, SAMPLES), coils**-0.5, dtype=torch.complex64) if coils > 1 else None
    kspace = image_to_kspace(Encoding(torch.ones(1), maps).coil_images(truth))
    kspace = kspace + sigma * noise(*kspace.shape, seed=5)
    return SliceMeasurement(kspace * mask[:, None], mask, maps, sigma)


def wrong_where_unmeasured(size, weight=1.0):
    """Return a method that keeps what was measured and errs elsewhere: complex errors of deviation ``size``."""
    number = iter(range(99))

    def make(data):
        error = weight * size * noise(1, FRAMES, LINES, SAMPLES, seed=100 + next(number))
        return TRUTH + kspace_to_image(image_to_kspace(error) * ~data.mask_BTYX)

    return make


def watch(make, data, runs=4):
    watched = AssessedReconstructor(Guess(make), runs, lambda images: images, mapped=True)
    return watched, watched(data, lambda: None)


@pytest.mark.parametrize("samples", [1, SAMPLES])
def test_each_frame_leaves_every_line_out_once_before_any_again(samples):
    """But for the centre: frames of 4, 5, 12 and 15 lines more take a quarter at a time, and have their own turns."""
    mask = torch.zeros(1, FRAMES, LINES, samples, dtype=torch.bool)
    mask[..., LINES // 2 - CENTRE : LINES // 2 + CENTRE + 1, :] = True
    for frame, more in enumerate((4, 5, 12, 15, 4, 12)):
        mask[:, frame, 1 : 2 * more if more < 10 else more + 1 : 2 if more < 10 else 1] = True
    watched, _ = watch(wrong_where_unmeasured(0.1), scan(mask), 8)
    left_out = [mask & ~seen.mask_BTYX for seen in watched.method.seen[1:]]
    free, times = outside_acs(mask), torch.zeros(mask.shape)
    for held in left_out:
        assert held.any(-1).any(-1).all(), "a frame that loses nothing in a run says nothing of it"
        times += held
        counted = [times[:, frame][free[:, frame]] for frame in range(FRAMES)]
        assert all(count.max() - count.min() <= 1 for count in counted)


@pytest.mark.parametrize("size", [0.01, 0.5])
@pytest.mark.parametrize("samples", [1, SAMPLES])
def test_errors_alike_everywhere_are_found_to_their_size(size, samples):
    """Without any scale, the truth lies within 1, 1.64 and 2 deviations as often as a normal distribution says."""
    mask = lines(FRAMES, LINES)
    if samples > 1:
        mask = torch.rand(1, FRAMES, LINES, samples, generator=torch.Generator().manual_seed(2)) < 0.5
    _, result = watch(wrong_where_unmeasured(size), scan(mask), 6)
    found = torch.from_numpy(result.assessment.spread_TYX)[None]
    within = coverage(result.images_BTYX.abs(), TRUTH.abs(), found).within
    assert within == pytest.approx([2 * norm.cdf(width) - 1 for width in WIDTHS], abs=0.03)


@pytest.mark.parametrize("shape", [(2, 24, 24), (2, 9, 1), (5, 9, 1), (2, 3, 8), (3, 5, 5)])
def test_the_box_filter_is_the_mean_of_what_lies_inside(shape):
    values = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = _box_filtered(values)
    for place in np.ndindex(*shape):
        near = [slice(max(0, at - n // 2), at + n // 2 + 1) for at, n in zip(place, WINDOW, strict=True)]
        assert float(found[place]) == pytest.approx(float(values[tuple(near)].mean()), rel=1e-9)


def test_the_map_says_where():
    """Errors that are ten times larger in the middle third are told apart there."""
    weight = torch.full((LINES, SAMPLES), 0.05)
    weight[:, 12:24] = 0.5
    number = iter(range(99))
    _, result = watch(
        lambda _: TRUTH + weight * noise(1, FRAMES, LINES, SAMPLES, seed=next(number)), scan(lines(FRAMES, LINES)), 8
    )
    found, image = result.assessment.spread_TYX, result.images_BTYX
    inside, outside_acs = found[..., 14:22].mean(), found[..., :10].mean()
    assert 10**0.5 < inside / outside_acs < 10
    small, large = (np.std((image.abs() - 10)[0, ..., part].numpy()) for part in (slice(0, 10), slice(14, 22)))
    assert large > 8 * small


@settings(deadline=None, max_examples=4)
@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_the_unit_of_the_images_is_that_of_the_map(factor, seed):
    mask = lines(FRAMES, LINES, seed=seed)
    found = []
    for by in (1.0, factor):
        data = scan(mask, truth=by * TRUTH)
        make = wrong_where_unmeasured(0.1)
        found.append(watch(lambda seen, by=by, make=make: by * make(seen), data)[1].assessment.spread_TYX)
    np.testing.assert_allclose(found[1], factor * found[0], rtol=1e-3)


def test_coils_that_see_the_same_say_what_one_says():
    mask, found = lines(FRAMES, LINES), []
    for coils in (1, 3):
        found.append(watch(wrong_where_unmeasured(0.1), scan(mask, coils=coils))[1].assessment.spread_TYX)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)


@pytest.mark.parametrize("coils", [1, 3])
def test_noise_is_not_taken_for_error_and_is_the_floor(coils):
    mask, levels = lines(FRAMES, LINES), {}
    data = scan(mask, 0.2, coils)
    for told in (0.2, 0.0):
        seen = SliceMeasurement(data.kspace_BCTYX, mask, data.maps_BCYX, told)
        spread = JackknifeSpread(seen, TRUTH, lambda images: images)
        for seed in range(4):
            _, held = hold_out_lines(seen, LEFT_OUT, torch.Generator().manual_seed(seed))
            spread.update(TRUTH + 0.01 * noise(*TRUTH.shape, seed=seed), held)
        levels[told] = spread.variance_scale()
    assert levels[0.2] < 0.1 * levels[0.0]
    combined = Encoding(mask, data.maps_BCYX).adjoint(data.kspace_BCTYX - scan(mask, 0, coils).kspace_BCTYX)
    assert noise_floor(data) == pytest.approx(float(combined.real.std()), rel=0.03)
    assert (calibrated_deviation(np.float32([0.01, 1]), 2, 0.5) == np.float32([0.5, 2])).all()


def test_lines_count_by_their_distance_from_the_centre():
    """Errors that fall off outwards: what is left out lies further in than what is missing, and is not taken for it."""
    far = (torch.arange(LINES) - LINES // 2).abs().float()[:, None]
    density = torch.exp(-far / 10)
    mask = torch.rand(1, 40, LINES, 1, generator=torch.Generator().manual_seed(0)) < 0.1 + 0.8 * torch.exp(-far / 8)
    mask[:, :, LINES // 2 - 4 : LINES // 2 + 5] = True
    truth = 10 + 0 * noise(1, 40, LINES, SAMPLES)
    number = iter(range(99))

    def make(data):
        error = density * noise(1, 40, LINES, SAMPLES, seed=next(number))
        return truth + kspace_to_image(error * ~data.mask_BTYX)

    data = scan(mask, truth=truth)
    spread = JackknifeSpread(data, image := make(data), lambda images: images)
    change, held_energy, held_count = 0.0, 0.0, 0
    for seed in range(4):
        kept, held = hold_out_lines(data, LEFT_OUT, torch.Generator().manual_seed(seed))
        spread.update(run := make(kept), held)
        change += float((run - image).abs().square().sum()) / 4
        held_energy += float((image_to_kspace(run - truth) * held).abs().square().sum())
        held_count += int(held.sum())
    missing = int((~mask).sum())
    actual = float((image - truth).abs().square().sum())
    assert spread.variance_scale() * change == pytest.approx(actual, rel=0.1)
    assert held_energy / held_count * missing > 1.3 * actual  # what counting all alike would say


def test_the_images_and_the_residual_are_not_touched():
    mask = lines(FRAMES, LINES)
    data, make = scan(mask), wrong_where_unmeasured(0.1)
    watched, result = watch(make, data)
    first, *others = watched.method.seen
    assert (result.images_BTYX == wrong_where_unmeasured(0.1)(data)).all()
    assert first is data
    assert len(others) == 4 == watched.steps - 1
    found = reliability_summary([result.assessment], [0], 4, watched.share)["held_out"]
    held = [mask & ~seen.mask_BTYX for seen in others]
    assert found["share"] == LEFT_OUT
    assert found["samples"] == sum(int(one.sum()) for one in held) * SAMPLES
    outer = mask.clone()
    outer[:, :, LINES // 2 - 4 : LINES // 2 + 5] = False
    for one in held[:-1]:  # the last takes what is left
        assert ((one.sum((2, 3)) - LEFT_OUT * outer.sum((2, 3))).abs() <= 0.5).all()


def test_of_a_tuned_network_only_what_it_never_saw_is_judged_but_more_is_left_out():
    mask = lines(FRAMES, LINES)
    unseen = mask & (torch.arange(LINES) % 8 == 1)[:, None]
    watched = AssessedReconstructor(Guess(wrong_where_unmeasured(0.1)), 4, lambda images: images, mapped=True)
    result = watched(replace(scan(mask), unseen_BTYX=unseen), lambda: None)
    held = [mask & ~seen.mask_BTYX for seen in watched.method.seen[1:]]
    counted = int(result.assessment.residual_held_out.samples_T.sum())
    assert counted == sum(int((one & unseen).sum()) for one in held) * SAMPLES
    assert all((one & ~unseen).any() for one in held)


def test_lines_that_a_method_was_tuned_on_do_not_make_the_map_small():
    """It predicts them three times too well when they are left out; those it never saw say how wrong it is."""
    mask = lines(FRAMES, LINES)
    unseen = mask & (torch.arange(LINES) % 4 == 1)[:, None]
    number = iter(range(99))

    def remembering(data):
        error = image_to_kspace(0.1 * noise(1, FRAMES, LINES, SAMPLES, seed=next(number)))
        return TRUTH + kspace_to_image(error * ~data.mask_BTYX * torch.where(mask & ~unseen, 0.3, 1.0))

    within = []
    for told in (unseen, None):
        watched = AssessedReconstructor(Guess(remembering), 4, lambda images: images, mapped=True)
        result = watched(replace(scan(mask), unseen_BTYX=told), lambda: None)
        spread = torch.from_numpy(result.assessment.spread_TYX)[None]
        within.append(coverage(result.images_BTYX.abs(), TRUTH.abs(), spread).within)
    assert within[0] == pytest.approx([2 * norm.cdf(width) - 1 for width in WIDTHS], abs=0.05)
    assert within[1][1] < 0.7


def test_lines_never_tuned_on_that_are_predicted_well_do_not_make_the_map_smaller():
    mask = lines(FRAMES, LINES)
    lucky = mask & (torch.arange(LINES) % 4 == 1)[:, None]
    levels = []
    for unseen in (lucky, None):
        spread = JackknifeSpread(scan(mask), TRUTH, lambda images: images)
        error = image_to_kspace(0.1 * noise(*TRUTH.shape, seed=3))
        spread.update(TRUTH + kspace_to_image(error * torch.where(lucky, 0.1, 1.0)), mask, unseen)
        levels.append(spread.variance_scale())
    assert levels[0] == pytest.approx(levels[1])


def test_the_map_lies_on_the_grid_of_the_images_that_are_written():
    watched = AssessedReconstructor(
        Guess(wrong_where_unmeasured(0.1)), 2, lambda images: images[:, 8:-8, 4:], mapped=True
    )
    result = watched(scan(lines(FRAMES, LINES)), lambda: None)
    assert result.assessment.spread_TYX.shape == (FRAMES, LINES - 16, SAMPLES - 4)


@pytest.mark.parametrize(
    ("mask", "why"),
    [(torch.ones(1, FRAMES, LINES, 1, dtype=torch.bool), "everything"), (lines(FRAMES, LINES, -1), "too few lines")],
)
def test_where_no_lines_can_be_left_out_nothing_is_begun(mask, why):
    method = Guess(lambda _: TRUTH)
    with pytest.raises(UnsupportedDataError, match=why):
        AssessedReconstructor(method, 4, lambda images: images, mapped=True)(scan(mask), lambda: None)
    assert method.seen == []


def test_no_change_is_no_uncertainty():
    _, result = watch(lambda _: TRUTH, scan(lines(FRAMES, LINES)))
    assert not result.assessment.spread_TYX.any()
    assert WINDOW == (3, 5, 5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.floats(0.1, 3), st.floats(1e-3, 1e3))
def test_coverage_counts_what_lies_within(frames, size, unit):
    assume(all(abs(size - width) > 1e-6 for width in WIDTHS))  # rounding decides about what lies on the edge
    truth = torch.full((2, frames, 6, 5), unit).double()
    truth[..., 0] = 0
    error = torch.full_like(truth, size)
    error[:, 0] = 0
    error[..., 0] = 99  # not body
    found = coverage(truth + unit * error, truth, torch.full_like(truth, unit)).summary()
    assert found["body_share"] == pytest.approx(0.8)
    for width in WIDTHS:
        expected = (1 + (frames - 1) * (size <= width)) / frames
        assert found[f"within_{width:g}"] == pytest.approx(expected, abs=1e-5)
        assert found["normal"][f"within_{width:g}"] == pytest.approx(2 * norm.cdf(width) - 1, abs=1e-5)
    ranges = found["frames"]
    covered = [frame for part in ranges for frame in range(part["first"], part["last"] + 1)]
    assert covered == list(range(frames))
    assert len(ranges) == min(4, frames)
    assert ranges[0]["within_1"] >= found["within_1"] - 1e-5


def test_the_body_is_what_is_bright_on_the_mean():
    image = torch.zeros(1, 4, 10, 10)
    image[:, :, 2:8] = 1
    image[:, :, 0] = 1.01 * DARK
    image[:, :2, 9] = 1.5 * DARK
    inside = body_mask(image)[0, 0]
    assert inside[2:8].all()
    assert inside[0].all()
    assert not inside[[1, 8, 9]].any()
    assert not body_mask(0 * image).any()
    with pytest.raises(ValueError, match="differ"):
        coverage(image, image[:, :1], image)
    assert math.isclose(coverage(0 * image, 0 * image, image).body, 0)


@pytest.mark.parametrize("acceleration", [4, 8, 12])
def test_of_a_real_cine_the_truth_lies_within_as_often_as_said(crnn, tmp_path, acceleration):
    """Without any scale, as the level comes from the scan itself: 85 to 95 % within 1.64 deviations."""
    cine, out = ROOT / "sample_data" / "pig_cine.nii.gz", tmp_path / "o.nii"
    arguments = ("--undersample", acceleration, "--method", "sliding-window", "-o", out)
    ended = crnn("reconstruct", cine, *arguments, "--uncertainty", tmp_path / "sd.nii")
    assert ended.code == 0, ended.err
    found = json.loads(out.with_suffix(".json").read_text())["uncertainty"]
    assert not found["calibrated"]
    assert 0.85 < found["against_truth"]["within_1.64"] < 0.95
