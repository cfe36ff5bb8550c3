"""Validation judges the images of patches that cover a slice, and hands out those that were made last."""

import numpy as np
import pytest
import torch

from crnn_cli.adaptation import losses as self_supervision
from crnn_cli.adaptation import validation
from crnn_cli.adaptation.losses import SelfSupervisedLosses
from crnn_cli.adaptation.patches import gather_patches
from crnn_cli.adaptation.validation import Validation
from crnn_cli.assessment.held_out import drop_samples, residual_sums
from tests.adaptation.test_adapt import CPU, RECIPE, Given, scan, several_coils
from tests.support.cines import moving_cine

SOURCES = pytest.mark.parametrize(
    "source", [scan, several_coils, lambda: several_coils(12)], ids=["one", "coils", "samples"]
)


def begun(factor=1.0):
    """Return what makes of a start the start itself, times a factor."""
    return lambda start, operator, iterations: start * factor


def supervision(source, copies=1):
    return SelfSupervisedLosses(gather_patches(source, RECIPE, 0, CPU), RECIPE, False, CPU, copies)


@SOURCES
def test_what_is_judged_are_the_lines_for_validation_of_all_columns(source):
    slices = source()
    of = supervision(slices)
    found = Validation(of, 3, torch.Generator().manual_seed(0)).measure(begun())
    wanted = None
    for x in (0,) if of.patches.whole else (0, 6):
        patch, held = of.patches.cut(0, x, 6, CPU)
        one = residual_sums(patch, of.image(begun(), 0, drop_samples(patch, held)), held)
        wanted = one if wanted is None else wanted + one
    torch.testing.assert_close(found.error_T, wanted.error_T)
    torch.testing.assert_close(found.energy_T, wanted.energy_T)
    held = of.patches.validation[0]
    assert int(found.samples_T.sum()) == int(held.sum()) * (1 if of.patches.whole else 12)


@SOURCES
def test_what_is_rehearsed_is_what_was_made_last_where_it_was_made(source):
    of = supervision(source())
    looked = Validation(of, 3, torch.Generator().manual_seed(0))
    looked.measure(begun())
    looked.measure(begun(2.0))
    width = 12 if of.patches.whole else 3
    wholes = {}
    for x in (0,) if of.patches.whole else (0, 6):
        wholes[x] = of.image(begun(2.0), 0, drop_samples(*of.patches.cut(0, x, 6, CPU)))
    whole = torch.cat(list(wholes.values()), -1)
    firsts = set()
    for seed in range(40):
        z, seen, image = looked.draw(torch.Generator().manual_seed(seed))
        assert z == 0
        assert image.shape[-1] == width
        places = [x for x in range(12 - width + 1) if torch.equal(image, whole[..., x : x + width])]
        assert len(places) == 1
        wanted = drop_samples(*of.patches.cut(0, places[0], width, CPU))
        assert torch.equal(seen.kspace_BCTYX, wanted.kspace_BCTYX)
        assert torch.equal(seen.mask_BTYX, wanted.mask_BTYX)
        firsts |= set(places)
    assert firsts == ({0} if of.patches.whole else {0, 1, 2, 3, 6, 7, 8, 9})


def test_starts_are_made_once(monkeypatch):
    made, start = [], self_supervision.INITIAL_IMAGES[RECIPE.initial_image]

    def watched(operator):
        made.append(operator)
        return start(operator)

    monkeypatch.setitem(self_supervision.INITIAL_IMAGES, RECIPE.initial_image, watched)
    of = supervision(scan())
    made.clear()
    looked = Validation(of, 3, torch.Generator().manual_seed(0))
    for _ in range(3):
        looked.measure(begun())
    assert len(made) == 2


def test_each_copy_is_judged_however_few_the_patches(monkeypatch):
    asked = []

    class Watched(SelfSupervisedLosses):
        def image(self, network, z, measured, number=0, initial_BTYX=None):
            asked.append(number)
            return super().image(network, z, measured, number, initial_BTYX)

    of = Watched(gather_patches(scan(), RECIPE, 0, CPU), RECIPE, False, CPU, 3)
    looked = Validation(of, 12, torch.Generator().manual_seed(0))
    looked.measure(begun())
    assert asked == [0, 1, 2]
    assert looked.draw(torch.Generator().manual_seed(0))[2].shape == (1, 8, 24, 12)


def test_of_many_slices_a_few_patches_are_judged_those_with_energy_first():
    truth = moving_cine(12, 24, 6, 8)
    truth[:, :, 3] *= 1e-3
    of = supervision(scan(truth))
    looked = Validation(of, 6, torch.Generator().manual_seed(0))
    drawn = {looked.draw(torch.Generator().manual_seed(seed))[0] for seed in range(60)}
    assert len(drawn) == validation.TILES
    assert 3 not in drawn


def test_what_is_rehearsed_lies_where_the_energy_is():
    half = moving_cine(6, 24, 1, 8)
    of = supervision(scan(np.concatenate([half, 3 * half])))
    looked = Validation(of, 3, torch.Generator().manual_seed(0))
    looked.measure(begun())
    first = of.image(begun(), 0, drop_samples(*of.patches.cut(0, 0, 6, CPU)))
    drawn = [looked.draw(torch.Generator().manual_seed(seed))[2] for seed in range(200)]
    in_first = sum(any(torch.equal(image, first[..., x : x + 3]) for x in range(4)) for image in drawn)
    assert 5 < in_first < 40  # a tenth; of all places alike, half


@pytest.mark.parametrize(
    ("columns", "width", "firsts"),
    [(12, 12, [0]), (12, 16, [0]), (12, 6, [0, 6]), (13, 6, [0, 3, 7]), (95, 32, [0, 31, 63]), (5, 1, [0, 1, 2, 3, 4])],
)
def test_patches_side_by_side_cover_every_column(columns, width, firsts):
    kspace = torch.randn(1, 1, 8, 24, columns, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    measured = scan().measure(0, CPU)
    one = type(measured)(kspace * measured.mask_BTYX[:, None, ..., :1], measured.mask_BTYX[..., :1])
    patches, generator = gather_patches(Given(one), RECIPE, 0, CPU), torch.Generator().manual_seed(0)
    patches.draw(width, generator)  # from everywhere, which is another thing
    places, energies = patches.tiles(width, 99, generator)
    assert sorted(x for _, x in places) == firsts
    assert len(energies) == len(firsts)
    covered = {x for _, first in places for x in range(first, min(first + width, columns))}
    assert covered == set(range(columns))
