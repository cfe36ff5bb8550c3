"""The loss of a step says how wrong the lines taken away were predicted, and counts the rare ones most."""

import pytest
import torch

from crnn_cli.adaptation import losses as self_supervision
from crnn_cli.adaptation.adapt import AdaptSettings, adapt
from crnn_cli.adaptation.losses import SelfSupervisedLosses
from crnn_cli.adaptation.patches import gather_patches
from crnn_cli.adaptation.pseudo_measurement import resimulate
from crnn_cli.assessment.held_out import CENTRE, hold_out_lines
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.sampling_density import inverse_density_weights
from crnn_cli.reconstruction.ensemble import VIEWS, make_copy
from crnn_cli.reconstruction.measurement import SliceMeasurement
from tests.adaptation.test_adapt import CPU, RECIPE, method, same, scan, several_coils


@pytest.fixture
def taken(monkeypatch):
    """Return a list that gets the mask of what each step takes away."""
    masks = []

    def watched(*arguments, **more):
        kept, lost = hold_out_lines(*arguments, **more)
        masks.append(lost)
        return kept, lost

    monkeypatch.setattr(self_supervision, "hold_out_lines", watched)
    return masks


def test_steps_take_away_lines_near_the_middle_too_but_not_the_nearest(taken):
    _, found = adapt(scan(), method(), AdaptSettings(steps=8), CPU)
    distance = {abs(line - 12) for lost in taken for line in lost[0].any(-1).nonzero()[:, 1].tolist()}
    assert min(distance) == self_supervision.NEAR + 1
    held = {abs(line - 12) for line in found.validation[0][0].any(-1).nonzero()[:, 1].tolist()}
    assert min(held) > CENTRE


@pytest.mark.parametrize("source", [scan, several_coils, lambda: several_coils(12)], ids=["one", "coils", "samples"])
def test_loss_is_of_the_lines_taken_away_weighed_by_their_rarity(source, taken):
    slices = source()
    whole = slices.measure(0, CPU)
    guess = torch.randn(1, 8, 24, 12, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    patches = gather_patches(slices, RECIPE, 0, CPU)
    supervision = SelfSupervisedLosses(patches, RECIPE, False, CPU)
    found = supervision.self_supervised(
        lambda start, operator, iterations: guess * patches.scale(0), 12, torch.Generator().manual_seed(0)
    )
    coils = whole.kspace_BCTYX.shape[1]
    maps = torch.ones(1, 1, 24, 12) if coils == 1 else whole.maps_BCYX
    difference = image_to_kspace(guess[:, None] * maps[:, :, None]) - whole.kspace_BCTYX
    lost = taken[0][:, None]
    weight = inverse_density_weights(whole.mask_BTYX)[:, None] * lost
    assert weight[lost.expand_as(weight)].unique().numel() > 2
    squares = [(weight * values.abs().square()).sum() for values in (difference, whole.kspace_BCTYX)]
    sums = [(weight * values.abs()).sum() for values in (difference, whole.kspace_BCTYX)]
    torch.testing.assert_close(found, (squares[0] / squares[1]).sqrt() + sums[0] / sums[1])


@pytest.mark.parametrize("rehearsing", [False, True])
def test_each_step_is_for_one_of_the_copies(monkeypatch, rehearsing):
    asked = []

    def watched(measured, number):
        asked.append(number)
        return make_copy(measured, number)

    monkeypatch.setattr(self_supervision, "make_copy", watched)

    def begun(start, operator, iterations):
        return start

    patches, generator = gather_patches(scan(), RECIPE, 0, CPU), torch.Generator().manual_seed(0)
    seen = scan().measure(0, CPU)
    for copies in (1, 3):
        asked.clear()
        supervision = SelfSupervisedLosses(patches, RECIPE, False, CPU, copies)
        for _ in range(20):
            if rehearsing:
                truth = torch.ones(1, 8, 24, 12, dtype=torch.complex64)
                supervision.pseudo_supervised(begun, 0, seen, truth, generator)
            else:
                supervision.self_supervised(begun, 12, generator)
        assert set(asked) == set(range(copies))
        images = [supervision.image(begun, 0, seen, number) for number in range(copies)]
        for image in images:
            torch.testing.assert_close(image, images[0])


@pytest.mark.parametrize("generalise", [False, True])
def test_for_other_slices_what_is_rehearsed_is_flipped(generalise, monkeypatch):
    """What is made is compared with what was measured again, flipped or not; the lines taken away are not touched."""
    truth = torch.rand(1, 8, 24, 12, generator=torch.Generator().manual_seed(2)).to(torch.complex64)
    given = []

    def watched(seen, image, generator):
        given.append(image)
        return resimulate(seen, image, generator)

    monkeypatch.setattr(self_supervision, "resimulate", watched)
    patches, generator = gather_patches(scan(), RECIPE, 0, CPU), torch.Generator().manual_seed(0)
    supervision = SelfSupervisedLosses(patches, RECIPE, False, CPU, generalise=generalise)
    for _ in range(30):
        loss = supervision.pseudo_supervised(
            lambda start, operator, iterations: given[-1] * patches.scale(0),
            0,
            scan().measure(0, CPU),
            truth,
            generator,
        )
        assert float(loss) < 1e-5
    ways = {axes for image in given for axes in VIEWS if torch.allclose(image, truth.flip(axes), rtol=1e-4, atol=1e-4)}
    assert len(given) == 30
    assert ways == (set(VIEWS) if generalise else {()})


@pytest.mark.parametrize("source", [scan, several_coils], ids=["one", "coils"])
def test_data_consistency_is_made_once_a_step_beside_that_of_the_loss(source, monkeypatch):
    made, consistency = [], SliceMeasurement.consistency

    def watched(measured, noise=None):
        made.append(measured)
        return consistency(measured, noise)

    supervision = SelfSupervisedLosses(gather_patches(source(), RECIPE, 0, CPU), RECIPE, False, CPU)
    monkeypatch.setattr(SliceMeasurement, "consistency", watched)
    supervision.self_supervised(lambda start, operator, iterations: start, 12, torch.Generator().manual_seed(0))
    assert len(made) == 2


def test_an_ensemble_is_tuned_for_all_of_its_copies(monkeypatch):
    looked_at = []

    class Watched(SelfSupervisedLosses):
        def image(self, network, z, measured, number=0, initial_BTYX=None):
            if not torch.is_grad_enabled():
                looked_at.append(number)
            return super().image(network, z, measured, number, initial_BTYX)

    monkeypatch.setattr("crnn_cli.adaptation.adapt.SelfSupervisedLosses", Watched)
    slices, untuned = scan(), method()
    alone, _ = adapt(slices, untuned, AdaptSettings(steps=4), CPU)
    assert set(looked_at) == {0}
    looked_at.clear()
    together, found = adapt(slices, untuned, AdaptSettings(steps=4, copies=4), CPU)
    assert found.used
    assert set(looked_at) == {0, 1, 2, 3}
    assert not same(alone, together)
