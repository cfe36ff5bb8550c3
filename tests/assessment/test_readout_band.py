"""Lines predicted in a band of columns say what all columns would: a band is a scan, and noise is told apart."""

from dataclasses import replace

import pytest
import torch

from crnn_cli.assessment.held_out import hold_out_lines, residual_sums
from crnn_cli.assessment.missed_energy import MissedEnergy
from crnn_cli.assessment.readout_band import SHARE, Extension, choose_band
from crnn_cli.assessment.reliability import AssessedReconstructor, reliability_summary
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.reconstruction.measurement import SliceMeasurement
from tests.assessment.test_held_out import Guess
from tests.assessment.test_reliability import lines, maps, noise

COLUMNS = 96


def moving(frames=6, count=32, columns=COLUMNS):
    """Return images that change most about column 30, and little elsewhere."""
    change = noise(1, frames, count, columns) * (0.05 + torch.exp(-(((torch.arange(columns) - 30) / 8.0) ** 2)))
    return change + 3 * noise(1, 1, count, columns, seed=1)


def scan(image, coils=1, sigma=0.0, told=0.0):
    mask = lines(image.shape[1], image.shape[2])
    found = None if coils == 1 else maps(coils, *image.shape[-2:])
    kspace = image_to_kspace(Encoding(torch.ones(1), found).coil_images(image))
    kspace = kspace + sigma * noise(*kspace.shape, seed=5)
    return SliceMeasurement(kspace * mask[:, None], mask, found, told)


def held_out(data):
    return hold_out_lines(data, 0.2, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("coils", [1, 3])
def test_a_band_is_the_scan_of_its_columns(coils):
    image = moving()
    data = scan(image, coils)
    shown, held = held_out(data)
    band = choose_band(data, shown, held)
    assert band.columns.start < 30 < band.columns.stop
    assert band.width == 40
    assert band.share == pytest.approx(SHARE, abs=0.05)
    part = band.cut(data)
    assert part.kspace_BCTYX.shape[-1] == band.width
    everywhere, within = residual_sums(data, image, held), residual_sums(part, image[..., band.columns], held)
    assert everywhere.residual < 1e-5
    assert within.residual < 1e-5
    torch.testing.assert_close(band.energy_T, everywhere.energy_T, rtol=1e-5, atol=0)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("sigma", "left"), [(0.0, 0.3), (1.0, 0.3), (1.0, 0.0), (0.3, 0.6)])
def test_errors_of_all_columns_follow_from_the_band_with_noise_and_without(sigma, left, known):
    """A method that leaves a part of what a linear estimate misses: its errors in all columns are known."""
    clean = moving()
    data = scan(clean, sigma=sigma, told=sigma if known else 0.0)
    shown, held = held_out(data)
    band = choose_band(data, shown, held)
    image = clean + left * (shown.consistency().time_wiener() - clean)
    part, inside = band.cut(data), image[..., band.columns]
    extension, missed, within = band.extension(part, inside, held), MissedEnergy(data), MissedEnergy(part)
    within.add(inside, held)
    missed.add_band(within, extension, band.width)
    sums, all_of_it, whole = residual_sums(part, inside, held), residual_sums(data, image, held), MissedEnergy(data)
    whole.add(image, held)
    found = extension.sums(sums, band.energy_T)
    assert found.residual == pytest.approx(all_of_it.residual, rel=0.07)
    assert found.samples_T.tolist() == pytest.approx(all_of_it.samples_T.tolist())
    assert float(missed.error_D.sum()) == pytest.approx(float(whole.error_D.sum()), rel=0.07)
    assert (missed.count_D, missed.runs) == (pytest.approx(whole.count_D), 1)
    if known and sigma:
        assert extension.noise <= sigma**2
        assert extension.noise == pytest.approx(sigma**2, rel=0.1)
    if not sigma:
        assert extension.noise < 0.01


def test_an_extension_carries_noise_and_signal_over_each_by_its_own():
    extension = Extension(noise=2.0, ratio=0.5, beside=3.0)
    error, samples = torch.tensor([30.0, 20.0], dtype=torch.float64), torch.tensor([10.0, 10.0], dtype=torch.float64)
    assert extension.energy(error, samples).tolist() == [30 + 60 + 5, 20 + 60]


def test_no_band_where_columns_are_few_or_do_not_part():
    few = scan(moving(columns=40))
    assert choose_band(few, *held_out(few)) is None
    data = scan(moving())
    single = replace(data, mask_BTYX=data.mask_BTYX.expand(-1, -1, -1, COLUMNS).clone())
    assert choose_band(single, *held_out(single)) is None
    nothing = replace(data, kspace_BCTYX=torch.zeros_like(data.kspace_BCTYX))
    assert choose_band(nothing, *held_out(nothing)) is None


@pytest.mark.parametrize("folds", [1, 2])
def test_a_banded_method_predicts_a_band_and_makes_all_images(folds):
    image = moving()
    data = scan(image)

    def make(given):
        return given.consistency().view_shared()

    def judged(**options):
        watched = AssessedReconstructor(Guess(make), folds, lambda images: images, **options)
        return watched, watched(data, lambda: None)

    (plain, whole), (banded, found) = judged(), judged(banded=True)
    assert [each.kspace_BCTYX.shape[-1] for each in banded.method.seen] == [COLUMNS] + folds * [40]
    assert [each.kspace_BCTYX.shape[-1] for each in plain.method.seen] == (1 + folds) * [COLUMNS]
    assert (found.images_BTYX == whole.images_BTYX).all()
    facts, expected = (reliability_summary([each.assessment], [0], folds)["held_out"] for each in (found, whole))
    assert (facts["columns"], expected["columns"]) == (pytest.approx(40 / COLUMNS, abs=1e-4), 1)
    assert facts["samples"] == expected["samples"]
    assert facts["overall"] == pytest.approx(expected["overall"], rel=0.15)
    assert found.assessment.missed_energy == pytest.approx(whole.assessment.missed_energy, rel=0.3)


def test_for_a_map_all_columns_are_predicted():
    data = scan(moving())
    watched = AssessedReconstructor(
        Guess(lambda given: given.consistency().view_shared()), 1, lambda images: images, mapped=True, banded=True
    )
    watched(data, lambda: None)
    assert [each.kspace_BCTYX.shape[-1] for each in watched.method.seen] == [COLUMNS, COLUMNS]
