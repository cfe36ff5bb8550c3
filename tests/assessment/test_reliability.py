"""What is said of a reconstruction is true: what the data do not determine, the noise, what stands out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.assessment.held_out import CENTRE, ResidualSums
from crnn_cli.assessment.reliability import (
    SHARE,
    AssessedReconstructor,
    SliceReliability,
    ratio_to_expected,
    reliability_summary,
    robust_deviations,
)
from crnn_cli.data.sampling_mask import describe_pattern
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.null_space import GAIN, noise_energy, null_space_component
from crnn_cli.reconstruction.measurement import SliceMeasurement
from tests.assessment.test_held_out import Guess


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def lines(frames=6, count=32, share=0.6, seed=0, centre=2):
    mask = torch.rand(1, frames, count, 1, generator=torch.Generator().manual_seed(seed)) < share
    mask[:, :, count // 2 - centre : count // 2 + centre] = True
    return mask


def maps(coils, y, x):
    made = noise(1, coils, y, x, seed=9)
    return made / made.abs().square().sum(1, keepdim=True).sqrt()


def watch(make, data, folds=0):
    watched = AssessedReconstructor(Guess(make), folds, lambda images: images)
    return watched, watched(data, lambda: None)


def scan(image, mask, coils=1, sigma=0.0):
    """Return what is measured of an image."""
    found = None if coils == 1 else maps(coils, *image.shape[-2:])
    kspace = image_to_kspace(Encoding(torch.ones(1), found).coil_images(image))
    kspace = kspace + sigma * noise(*kspace.shape, seed=5)
    return SliceMeasurement(kspace * mask[:, None], mask, found)


@pytest.mark.parametrize("samples", [1, 8])
def test_of_one_coil_undetermined_is_what_lies_outside_the_mask(samples):
    mask = torch.rand(1, 3, 12, samples, generator=torch.Generator().manual_seed(0)) < 0.4
    image = noise(1, 3, 12, 8)
    part, kspace = null_space_component(Encoding(mask), image), image_to_kspace(image)
    torch.testing.assert_close(image_to_kspace(part), kspace * ~mask, atol=1e-5, rtol=0)


def test_only_what_was_not_tuned_on_is_held_out():
    mask, seen = lines(), []
    unseen = mask & (torch.arange(32) % 4 == 1)[:, None]
    data = scan(noise(1, 6, 32, 16), mask)
    watched = AssessedReconstructor(
        Guess(lambda given: seen.append(given) or noise(1, 6, 32, 16)), 1, lambda images: images
    )
    watched(replace(data, unseen_BTYX=unseen), lambda: None)
    held = mask & ~seen[1].mask_BTYX
    assert held.any()
    assert (held <= unseen).all()


def test_of_several_coils_undetermined_is_the_filter_that_is_named():
    y, x = 8, 3
    mask = lines(1, y, share=0.3, centre=1)
    encoding = Encoding(mask, maps(2, y, x))
    units = torch.eye(y * x, dtype=torch.complex64).reshape(-1, 1, 1, y, x)
    normal = torch.stack([encoding.normal(unit).flatten() for unit in units], 1).to(torch.complex128)
    image = noise(1, 1, y, x)
    inverse = torch.linalg.inv(normal + GAIN * torch.eye(y * x, dtype=torch.complex128))
    expected = GAIN * inverse @ image.flatten().to(torch.complex128)
    found = null_space_component(encoding, image).flatten().to(torch.complex128)
    assert (found - expected).norm() < 0.02 * image.norm()
    assert expected.norm() > 0.1 * image.norm()
    everything = null_space_component(Encoding(torch.ones(1, 1, y, 1), maps(2, y, x)), image)
    assert everything.norm() < 0.02 * image.norm()


@settings(deadline=None, max_examples=20)
@given(sigma=st.floats(1e-6, 1e3), coils=st.integers(1, 3), seed=st.integers(0, 99))
def test_noise_is_found_under_an_image_and_where_much_is_zero(sigma, coils, seed):
    mask = lines(32, 40, seed=seed)
    kspace = sigma * noise(1, coils, 32, 40, 32, seed=seed)
    kspace[..., 16:24, 12:20] += 1e3 * sigma
    kspace[..., :4, :], kspace[..., -6:] = 0, 0  # interpolated
    unconnected = torch.cat([kspace * mask[:, None], 0 * kspace[:, :1]], 1)
    found = noise_energy(unconnected, mask)
    assert found == pytest.approx(coils * sigma**2, rel=0.25)


def test_noise_is_not_guessed_from_a_few_samples():
    mask = torch.ones(1, 2, 8, 1, dtype=torch.bool)
    assert noise_energy(noise(1, 1, 2, 8, 8), mask) is None
    assert noise_energy(0 * noise(1, 1, 9, 40, 40), torch.ones(1, 9, 40, 1)) is None


@pytest.mark.parametrize("folds", [0, 1, 2])
@pytest.mark.parametrize("samples", [1, 16])
def test_folds_hold_out_other_lines_and_the_images_are_those_of_all_data(folds, samples):
    mask = lines() if samples == 1 else torch.rand(1, 6, 32, 16, generator=torch.Generator().manual_seed(1)) < 0.6
    image = noise(1, 6, 32, 16)
    data, number = scan(image, mask), iter(range(3))
    watched, result = watch(lambda seen: (1 + next(number)) * image, data, folds)
    assert (result.images_BTYX == image).all()
    first, *others = watched.method.seen
    assert first is data
    assert len(others) == folds
    taken = [data.mask_BTYX & ~seen.mask_BTYX for seen in others]
    assert all(bool(held.any()) for held in taken)
    assert sum(held.long() for held in taken).max() <= 1 if folds else True
    far = lines(centre=0, share=2)
    far[:, :, 16 - CENTRE : 16 + CENTRE + 1] = samples > 1
    wanted = (mask & far).sum((2, 3))
    for held in taken:
        assert (held & ~far).sum() == 0
        assert (held.sum((2, 3)) - SHARE * wanted).abs().max() <= 1 + (samples > 1) * 0.1 * 81
    assert watched.steps == 1 + folds
    found = reliability_summary([result.assessment], [0], folds)
    assert found["held_out"]["folds"] == folds
    if folds:
        expected = {1: 1.0, 2: math.sqrt(2.5)}[folds]  # errors of 1 and 2 times the image
        assert found["held_out"]["overall"] == pytest.approx(expected, rel=0.1)
        assert found["held_out"]["samples"] == sum(int(held.sum()) for held in taken) * (16 // samples)


def test_the_truth_is_trusted_and_nothing_is_not():
    image = noise(1, 6, 32, 16)
    for coils in (1, 2):
        data = scan(image, lines(), coils)
        right, wrong = (
            reliability_summary([watch(lambda _, x=x: x, data, 1)[1].assessment], [0], 1) for x in (image, 0 * image)
        )
        assert right["held_out"]["overall"] < 1e-5
        assert right["residual"]["overall"] < 1e-5
        assert wrong["held_out"]["overall"] == wrong["residual"]["overall"] == pytest.approx(1)
        assert wrong["null_space_energy_fraction"]["overall"] is None
        assert 0 < right["null_space_energy_fraction"]["overall"] < 1
        assert len(right["held_out"]["per_frame"]) == len(right["null_space_energy_fraction"]["per_frame"]) == 6


def test_energy_is_seen_or_undetermined_and_the_map_holds_it():
    image, mask = noise(1, 6, 32, 16), lines()
    one = watch(lambda _: image, scan(image, mask))[1].assessment
    seen = image_to_kspace(image)[mask.expand(1, 6, 32, 16)].abs().double().square().sum()
    null_energy = float(one.null_energy_T.sum())
    assert float(one.energy_T.sum()) == pytest.approx(float(seen) + null_energy, rel=1e-5)
    assert 6 * float((one.null_rms_YX.astype(np.float64) ** 2).sum()) == pytest.approx(null_energy, rel=1e-5)
    found = reliability_summary([one], [0], 0)["null_space_energy_fraction"]
    assert found["overall"] == pytest.approx(float(one.null_energy_T.sum() / one.energy_T.sum()), rel=1e-5)
    for frame, share in enumerate(found["per_frame"]):
        assert share == pytest.approx(float((one.null_energy_T / one.energy_T)[frame]), rel=1e-5)


def test_noise_alone_gives_the_floor():
    """The best prediction of noise is nothing: then the residual is the floor."""
    data = scan(0 * noise(1, 12, 64, 48), lines(12, 64), coils=2, sigma=0.3)
    found = reliability_summary([watch(lambda seen: 0 * noise(1, 12, 64, 48), data, 2)[1].assessment], [0], 2)
    for kind in ("residual", "held_out"):
        assert found[kind]["noise_floor"] == pytest.approx(1, rel=0.1)
        assert np.mean(found[kind]["noise_floor_per_frame"]) == pytest.approx(1, rel=0.1)
    assert found["outlier_frames"] == []


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_a_frame_that_is_not_like_the_others_stands_out_alone(sigma):
    weight = 1 / (1 + (torch.arange(64) - 32).abs())[:, None] ** 1.0
    smooth = image_to_kspace(noise(1, 12, 64, 48, seed=2) * weight)
    data = scan(smooth, lines(12, 64), sigma=sigma)
    guess = smooth + 0.1 * image_to_kspace(noise(1, 12, 64, 48, seed=3) * weight)
    assert reliability_summary([watch(lambda _: guess, data, 1)[1].assessment], [0], 1)["outlier_frames"] == []
    bad = guess.clone()
    bad[:, 4] = -guess[:, 4]
    found = reliability_summary([watch(lambda _: bad, data, 1)[1].assessment], [2], 1)["outlier_frames"]
    assert {(one["slice"], one["frame"], one["measure"]) for one in found} == {(3, 4, "held_out"), (3, 4, "residual")}
    good = guess.clone()
    good[:, 4] = smooth[:, 4]
    assert reliability_summary([watch(lambda _: good, data, 1)[1].assessment], [2], 1)["outlier_frames"] == []
    assert all(one["ratio_to_expected"] > 1.3 and one["deviations"] > 3 for one in found)


def told(error, noise):
    """Return a slice of 11 frames, of 100 samples each, with the energy of the errors at samples held out."""
    energy_T, ones = 1e4 * torch.ones(11, dtype=torch.float64), torch.ones(11, dtype=torch.float64)
    sums = ResidualSums(torch.tensor(error, dtype=torch.float64), energy_T, 100 * ones)
    quiet = ResidualSums(0 * ones, energy_T, 100 * ones)
    return SliceReliability(quiet, sums, "", noise, ones, energy_T, np.zeros((1, 1)))


def test_a_frame_below_its_noise_never_stands_out():
    error = [50.0] * 6 + [95] + [200] * 4
    found = reliability_summary([told(error, 1.0)], [0], 1)
    assert [one["frame"] for one in found["outlier_frames"]] == [7, 8, 9, 10]
    assert found["noise_estimate"] is None
    assert found["held_out"]["noise_floor"] == pytest.approx(0.1)


def test_noise_that_lines_held_out_disprove_is_not_used():
    error = [50.0] * 10 + [500]
    found = reliability_summary([told(error, 5.0)], [0], 1)
    assert found["noise_estimate"] == "too high"
    assert found["held_out"]["noise_floor"] is found["residual"]["noise_floor"] is None
    assert [one["frame"] for one in found["outlier_frames"]] == [10]
    assert told(error, 5.0).credible_noise is None
    assert told(error, 0.5).credible_noise == 0.5


def test_what_is_expected_to_be_missed_comes_from_the_lines_held_out():
    weight = 1 / (1 + (torch.arange(64) - 32).abs())[:, None]
    image, error = noise(1, 12, 64, 48), image_to_kspace(noise(1, 12, 64, 48, seed=3) * weight)
    mask = lines(12, 64, centre=5)
    _, result = watch(lambda _: image + error, scan(image, mask, sigma=0.0), 2)
    true = float((image_to_kspace(error).abs() ** 2 * ~mask).sum())
    shown = 1 - float(result.assessment.residual_held_out.samples_T.sum() / 2 / (48 * mask.sum()))
    assert result.assessment.missed_energy == pytest.approx(true * shown ** (4 / 3), rel=0.2)
    assert watch(lambda _: image, scan(image, mask), 0)[1].assessment.missed_energy is None
    noisy = replace(scan(image, mask), deviation=0.2)
    share = 0.2**2 * float(mask.float().mean()) * image.numel()
    assert watch(lambda _: image, noisy, 1)[1].assessment.image_noise == pytest.approx(share, rel=1e-4)


def test_a_large_residual_where_there_is_only_noise_is_expected():
    ones = torch.ones(6, dtype=torch.float64)
    energy, error = 100 * ones, 4 * ones
    energy[3], error[3] = 1.2, 1.1  # a line that holds little but noise
    counted = ResidualSums(error, energy, ones)
    assert counted.residual_by_frame[3] > 4 * counted.residual_by_frame[0]
    assert ratio_to_expected(counted, 1.0).tolist() == pytest.approx([1] * 6, abs=0.1)
    assert ratio_to_expected(counted, None)[3] > 3


def test_deviations_are_robust_and_need_a_few_frames():
    values = torch.tensor([0.0, 1, 2, 3, 4, math.nan, 1000], dtype=torch.float64)
    found = robust_deviations(values)
    assert found[5] == 0
    assert found[3] == pytest.approx(0.5 / (1.4826 * 1.5))
    assert found[6] > 300
    assert robust_deviations(values[:4]) == [0.0] * 4
    assert robust_deviations(torch.tensor([1.0] * 5 + [1.2]).double())[5] == pytest.approx(2)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (torch.ones(1, 6, 32, 1, dtype=torch.bool), "fully sampled"),
        (lines(6, 9), "too few lines"),
        (torch.eye(32, dtype=torch.bool)[None, :6, :, None], "too few lines"),
    ],
)
def test_where_nothing_can_be_held_out_the_reason_is_said(mask, why):
    image = noise(1, 6, mask.shape[2], 16)
    watched, result = watch(lambda _: image, scan(image, mask), 2)
    found = reliability_summary([result.assessment], [0], 2)["held_out"]
    assert found["folds"] == 0
    assert why in found["reason"]
    assert "overall" not in found
    assert len(watched.method.seen) == 1


def test_lines_far_out_alone_are_held_out_too():
    """No centre lines at all, one free line left after the first fold."""
    mask = torch.zeros(1, 6, 32, 1, dtype=torch.bool)
    mask[:, :, [1, 30]] = True
    _, result = watch(lambda _: noise(1, 6, 32, 16), scan(noise(1, 6, 32, 16), mask), 2)
    assert result.assessment.residual_held_out.samples_T.tolist() == [32.0] * 6


def test_patterns_are_said_in_words():
    mask = lines(4, 16, share=-1, centre=3).numpy().repeat(5, -1)
    assert describe_pattern(mask) == "6 of 16 lines a frame, 6 in the middle always, the same in every frame"
    mask[0, 2, 1], mask[0, 1, 8] = True, False
    assert describe_pattern(mask) == "5 to 7 of 16 lines a frame, 0 in the middle always, changing over time"
    mask[:, :, 8], mask[0, 1, 7] = True, False
    assert describe_pattern(mask).startswith("5 to 7 of 16 lines a frame, 3 in the middle always")
    assert describe_pattern(mask | True) == "everything was measured"
    assert "along both axes" in describe_pattern(np.random.default_rng(0).random((1, 4, 16, 16)) < 0.5)


def test_empty_slices_say_nothing():
    found = reliability_summary([], [], 1)
    assert found["residual"]["overall"] is found["null_space_energy_fraction"]["overall"] is None
    assert found["held_out"]["folds"] == 0
    assert found["outlier_frames"] == []
