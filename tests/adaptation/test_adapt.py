"""A network tunes itself to a scan: on its own lines only, the same again, and never to predict worse."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.adaptation import adapt as adaptation
from crnn_cli.adaptation import losses as self_supervision
from crnn_cli.adaptation.adapt import AdaptSettings, adapt
from crnn_cli.adaptation.patches import gather_patches
from crnn_cli.adaptation.pseudo_measurement import resimulate
from crnn_cli.assessment.held_out import ResidualSums, drop_samples
from crnn_cli.data.acquisition import from_fully_sampled
from crnn_cli.data.image import Image
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.reconstruction.measurement import SingleCoilSource, SliceMeasurement
from crnn_cli.reconstruction.reconstruct import NetworkReconstructor, reconstruct
from crnn_cli.reconstruction.settings import InferenceSettings
from tests.support.cines import AFFINE, moving_cine

CPU = torch.device("cpu")
RECIPE = InferenceSettings("view-shared", 1.0, 2)
SHORT = AdaptSettings(steps=3)
EVERY = 5
"""Steps from one validation to the next in the tests that ask for `often`."""


@pytest.fixture
def often(monkeypatch):
    """Validate more often than a tuning does, so that few steps show the same."""
    assert adaptation.EVERY > EVERY
    monkeypatch.setattr(adaptation, "EVERY", EVERY)


def method(recipe=RECIPE, seed=0, features=4):
    torch.manual_seed(seed)
    return NetworkReconstructor(CRNNMRI(CRNNMRIConfig(features=features, iterations=2)), recipe)


def lines(slices=1, frames=8, count=24, share=0.4, seed=0):
    mask = np.random.default_rng(seed).random((slices, frames, count)) < share
    mask[:, :, count // 2 - 3 : count // 2 + 3] = True
    return mask


def scan(truth=None, mask=None):
    truth = moving_cine(12, 24, 1, 8) if truth is None else truth
    mask = lines(truth.shape[2], truth.shape[3], truth.shape[1]) if mask is None else mask
    return SingleCoilSource(from_fully_sampled(Image(truth, AFFINE), mask, 1, "test"))


class Given:
    """Slices that are given as they are."""

    def __init__(self, *slices):
        self.slices, self.count = slices, len(slices)

    def measure(self, z, device):
        return self.slices[z]

    def to_output_grid(self, images):
        return images


def several_coils(samples=1):
    """Return a scan of three coils; samples : 1 for whole lines, or the readout for single samples."""
    generator = torch.Generator().manual_seed(4)
    image = torch.from_numpy(moving_cine(12, 24, 1, 8)[:, :, 0].transpose(2, 1, 0).copy())[None]
    maps = torch.randn(1, 3, 24, 12, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    mask = torch.rand(1, 8, 24, samples, generator=generator) < 0.5
    mask[:, :, 9:15] = True
    kspace = image_to_kspace(Encoding(torch.ones(1), maps).coil_images(image))
    return Given(SliceMeasurement(kspace * mask[:, None], mask, maps))


def weights(made):
    return [value.clone() for value in made.network.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_patch_is_a_scan_of_its_columns():
    """Cut from the k-space of the whole readout, and measured of the cut images: the same samples."""
    source = several_coils()
    whole, image = source.slices[0], torch.randn(1, 8, 24, 12, dtype=torch.complex64)
    kspace = image_to_kspace(Encoding(torch.ones(1), whole.maps_BCYX).coil_images(image)) * whole.mask_BTYX[:, None]
    patches = gather_patches(Given(replace(whole, kspace_BCTYX=kspace)), RECIPE, 0, CPU)
    patch, held = patches.cut(0, 3, 5, CPU)
    maps = whole.maps_BCYX[..., 3:8]
    wanted = image_to_kspace(Encoding(torch.ones(1), maps).coil_images(image[..., 3:8])) * whole.mask_BTYX[:, None]
    torch.testing.assert_close(patch.kspace_BCTYX, wanted)
    assert (patch.maps_BCYX == maps).all()
    assert held.any()
    assert (held <= whole.mask_BTYX).all()
    kept = drop_samples(patch, held)
    assert not (kept.mask_BTYX & held).any()
    assert not (kept.kspace_BCTYX * held[:, None]).any()


def test_energy_of_columns_that_are_drawn_lies_where_the_object_is():
    truth = moving_cine(12, 24, 2, 8)
    truth[:9], truth[:, :, 0] = 0, 0
    patches = gather_patches(scan(truth), RECIPE, 0, CPU)
    drawn = {patches.draw(3, torch.Generator().manual_seed(seed)) for seed in range(20)}
    assert {z for z, _ in drawn} == {1}
    assert {x for _, x in drawn} <= {7, 8, 9}
    assert patches.tiles(3, 4, torch.Generator().manual_seed(0))[0][0] == (1, 9)


def test_scale_and_places_do_not_know_the_lines_for_validation():
    slices = several_coils()
    first = slices.slices[0]
    before = gather_patches(slices, RECIPE, 0, CPU)
    changed = first.kspace_BCTYX + 1e4 * before.validation[0][:, None]  # in image space all of it in one column
    after = gather_patches(Given(replace(first, kspace_BCTYX=changed)), RECIPE, 0, CPU)
    assert torch.equal(before.validation[0], after.validation[0])
    assert torch.equal(before.scale(0), after.scale(0))
    seeds = [torch.Generator().manual_seed(seed) for seed in range(20)]
    drawn = [[patches.draw(3, seed.manual_seed(seed.initial_seed())) for seed in seeds] for patches in (before, after)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("source", [scan, several_coils])
def test_lines_for_validation_are_never_tuned_on(source):
    slices, untuned = source(), method()
    tuned, found = adapt(slices, untuned, SHORT, CPU)
    assert found.used
    first = slices.measure(0, CPU)
    kspace = first.kspace_BCTYX + 0.01 * first.kspace_BCTYX * found.validation[0][:, None]
    again, other = adapt(Given(replace(first, kspace_BCTYX=kspace)), untuned, SHORT, CPU)
    assert other.used
    assert other.before != found.before
    assert same(tuned, again)
    changed = first.kspace_BCTYX + 0.01 * first.kspace_BCTYX * ~found.validation[0][:, None]
    assert not same(tuned, adapt(Given(replace(first, kspace_BCTYX=changed)), untuned, SHORT, CPU)[0])


def test_what_is_used_is_the_running_average_of_the_weights(monkeypatch):
    monkeypatch.setattr(adaptation, "PSEUDO_SHARE", 0.0)  # there the average makes the truth
    slices, untuned = scan(), method()
    averaged, found = adapt(slices, untuned, SHORT, CPU)
    assert found.used
    assert found.best_step == 3
    monkeypatch.setattr(adaptation, "_AVERAGE", 0.0)
    wanted = weights(untuned)
    for step in range(3):
        last, _ = adapt(slices, untuned, AdaptSettings(steps=step + 1), CPU)
        kept = (1 + step) / (10 + step)
        wanted = [kept * mean + (1 - kept) * now for mean, now in zip(wanted, weights(last), strict=True)]
    for one, other in zip(weights(averaged), wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("count", "frames", "wanted"), [(2, 30, 8), (4, 8, 8), (8, 30, 15), (20, 30, 30), (100, 6, 30)]
)
def test_few_lines_are_for_validation_where_there_are_few(count, frames, wanted):
    """A twentieth of those outside the centre, spread over the frames, but eight where so many frames have two."""
    mask = np.zeros((1, frames, 256), bool)
    mask[:, :, 124:133] = mask[:, :, 10 : 10 + count] = True
    patches = gather_patches(scan(np.random.default_rng(0).random((8, 256, 1, frames)), mask), RECIPE, 0, CPU)
    held = patches.validation[0][0, :, :, 0]
    assert int(held.sum()) == wanted
    of_frame = held.sum(1)
    assert of_frame.max() <= max(1, count // 20)
    used = of_frame.nonzero()[:, 0]
    assert (used.diff() == used.diff()[0]).all()


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 5, 15), (1.0, 20, 21)])
def test_half_of_the_steps_rehearse_what_was_made_without_the_lines_for_validation(monkeypatch, share, least, most):
    given = []

    def watched(seen, image, generator):
        given.append(seen.mask_BTYX)
        return resimulate(seen, image, generator)

    assert adaptation.PSEUDO_SHARE == 0.5
    monkeypatch.setattr(adaptation, "PSEUDO_SHARE", share)
    monkeypatch.setattr(self_supervision, "resimulate", watched)
    untuned = method()
    tuned, found = adapt(scan(), untuned, AdaptSettings(steps=20), CPU)
    assert least <= len(given) <= most
    assert not any((mask & found.validation[0]).any() for mask in given)
    assert not same(tuned, untuned)


def test_the_same_seed_and_steps_make_the_same_weights_and_leave_the_network_as_it_was():
    slices, untuned = scan(moving_cine(12, 24, 2, 8)), method()
    before = weights(untuned)
    tuned, found = adapt(slices, untuned, SHORT, CPU)
    again, _ = adapt(slices, untuned, SHORT, CPU)
    assert found.used
    assert (found.steps, found.best_step) == (3, 3)
    assert same(tuned, again)
    assert not same(tuned, untuned)
    assert not same(tuned, adapt(slices, untuned, replace(SHORT, seed=1), CPU)[0])
    assert all(torch.equal(a, b) for a, b in zip(before, weights(untuned), strict=True))
    assert set(found.validation) == {0, 1}


def test_for_other_slices_it_is_tuned_otherwise_and_repeated_too():
    slices, untuned = scan(), method()
    alone, there, again = (
        adapt(slices, untuned, AdaptSettings(steps=8, generalise=generalise), CPU)[0]
        for generalise in (False, True, True)
    )
    assert same(there, again)
    assert not same(there, alone)


def test_a_time_is_spent_and_its_steps_repeat_it():
    told, slices, untuned = [], scan(), method()
    tuned, found = adapt(slices, untuned, AdaptSettings(seconds=1.0), CPU, told.append)
    assert found.used
    assert found.why == "the time is spent"
    assert [each.step for each in told] == list(range(found.steps + 1))
    assert told[-1].steps == found.steps
    again, repeated = adapt(slices, untuned, AdaptSettings(steps=found.steps), CPU)
    assert same(tuned, again)
    assert (repeated.before, repeated.after, repeated.best_step) == (found.before, found.after, found.best_step)


def test_an_untrained_network_learns_a_real_structure_from_its_scan_alone():
    truth = moving_cine(12, 24, 1, 8)
    slices, untuned = scan(truth), method(features=8)
    tuned, found = adapt(slices, untuned, AdaptSettings(steps=50), CPU)
    assert found.after < 0.99 * found.before
    errors = [
        np.linalg.norm(reconstruct(slices, each, CPU).images_ZTYX - truth.transpose(2, 3, 1, 0))
        for each in (untuned, tuned)
    ]
    assert errors[1] < 0.995 * errors[0]


@pytest.mark.parametrize("samples", [1, 12])
def test_several_coils_lines_or_single_samples_are_tuned_on(samples):
    _, found = adapt(several_coils(samples), method(), SHORT, CPU)
    assert found.used
    assert found.after < found.before


def test_noise_alone_leaves_the_network_as_it_is():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(12, 24, 1, 8)) + 1j * generator.normal(size=(12, 24, 1, 8))
    untuned = method()
    same_one, found = adapt(scan(noise.astype(np.complex64)), untuned, AdaptSettings(steps=15), CPU)
    assert same_one is untuned
    assert not found.used
    assert found.after == found.before
    assert "held out better" in found.why


CENTRE_ONLY = np.abs(np.arange(24) - 12) < 4 + np.zeros((1, 8, 1))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((1, 8, 24), bool), "fully sampled"),
        (CENTRE_ONLY, "too few lines"),
        (CENTRE_ONLY | (np.arange(24) == 2), "too few lines"),  # one line to validate with, and none to tune on
        (CENTRE_ONLY | (np.arange(24) == 2) | (np.arange(24) == 3), "too few lines"),
    ],
)
def test_where_nothing_can_be_held_out_the_network_is_left_as_it_is(mask, said):
    untuned = method()
    same_one, found = adapt(scan(mask=mask), untuned, SHORT, CPU)
    assert same_one is untuned
    assert (found.steps, found.before, found.after, found.used) == (0, None, None, False)
    assert said in found.why


def test_slices_with_too_few_lines_are_left_out_of_the_tuning():
    mask = np.concatenate([lines(), CENTRE_ONLY | (np.arange(24) == 2) | (np.arange(24) == 3)])
    _, found = adapt(scan(moving_cine(12, 24, 2, 8), mask), method(), AdaptSettings(steps=8), CPU)
    assert (found.used, found.steps) == (True, 8)
    assert found.validation[0].any()
    assert found.validation[1] is None


def test_one_frame_is_left_to_who_refuses_it():
    one = SliceMeasurement(
        torch.ones(1, 1, 1, 24, 12, dtype=torch.complex64), torch.from_numpy(lines()[:, :1, :, None])
    )
    assert "one frame" in adapt(Given(one), method(), SHORT, CPU)[1].why


class Breaking(CRNNMRI):
    """A network that fails in some pass with gradients: its images are not finite, or their gradients."""

    def __init__(self, config, images):
        super().__init__(config)
        self.images = images

    def forward(self, *arguments):
        image = super().forward(*arguments)
        if image.requires_grad:
            self.passes = getattr(self, "passes", 0) + 1
            if self.passes == EVERY + 3:  # one is for the memory
                if self.images:
                    return image * torch.nan
                image.register_hook(lambda gradient: gradient * torch.nan)
        return image


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("images", [True, False])
def test_what_is_not_finite_ends_it_with_the_last_good_weights(images):
    torch.manual_seed(0)
    untuned = NetworkReconstructor(Breaking(CRNNMRIConfig(features=4, iterations=2), images), RECIPE)
    tuned, found = adapt(scan(), untuned, AdaptSettings(steps=3 * EVERY), CPU)
    assert found.used
    assert (found.steps, found.best_step) == (EVERY + 1, EVERY)
    assert f"not finite at step {EVERY + 2}" in found.why
    assert same(tuned, adapt(scan(), method(), AdaptSettings(steps=EVERY), CPU)[0])


class Turning(CRNNMRI):
    """A network whose weights go where the loss rises, after the first steps."""

    def __init__(self, config, steps):
        super().__init__(config)
        self.left = steps + 1  # one pass is for the memory

    def forward(self, *arguments):
        image = super().forward(*arguments)
        if image.requires_grad:
            self.left -= 1
            if self.left < 0:
                image.register_hook(lambda gradient: -gradient)
        return image


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("good", [0, EVERY])
def test_weights_that_predict_worse_are_not_used(good):
    torch.manual_seed(0)
    untuned = NetworkReconstructor(Turning(CRNNMRIConfig(features=4, iterations=2), good), RECIPE)
    tuned, found = adapt(scan(), untuned, AdaptSettings(steps=4 * EVERY), CPU)
    assert found.used == (good > 0) == (tuned is not untuned)
    assert found.steps == 4 * EVERY
    assert found.best_step in ((EVERY, 2 * EVERY) if good else (0,))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("at", [0, 1, EVERY + 2])
def test_an_interruption_ends_it_with_the_best_so_far(at):
    told = []
    settings = AdaptSettings(steps=3 * EVERY)
    tuned, found = adapt(
        scan(), method(), settings, CPU, told.append, lambda: bool(told) and told[-1].step == at
    )  # fmt: skip
    assert found.interrupted
    assert "interrupted" in found.why
    assert (found.used, found.steps, found.best_step) == (at > EVERY, at, EVERY if at > EVERY else 0)
    assert same(tuned, adapt(scan(), method(), AdaptSettings(steps=EVERY), CPU)[0] if at > EVERY else method())


@pytest.mark.usefixtures("often")
def test_what_is_told_is_the_residual_of_the_weights_that_are_used():
    told = []
    _, found = adapt(scan(), method(), AdaptSettings(steps=2 * EVERY), CPU, told.append)
    assert [each.step for each in told if each.validated] == [0, EVERY, 2 * EVERY]
    assert found.after == told[-1].best <= found.before == told[0].before == told[0].best


def judge(monkeypatch, residuals):
    """Let validation, after every step, find these residuals."""
    tallies, count = iter(residuals), torch.full((1,), 1000.0, dtype=torch.float64)
    monkeypatch.setattr(
        "crnn_cli.adaptation.validation.residual_sums",
        lambda *arguments: ResidualSums(count * next(tallies) ** 2, count, count),
    )
    monkeypatch.setattr("crnn_cli.adaptation.validation.TILES", 1)
    monkeypatch.setattr(adaptation, "EVERY", 1)


@pytest.mark.parametrize(
    ("residuals", "kept"),
    [
        ([1.0, 0.8, 0.81, 0.83], 2),  # hardly worse than the best: the later ones
        ([1.0, 0.8, 0.81, 0.85, 0.7, 0.75], 4),
        ([1.0, 0.99, 0.9905, 1.0], 2),
        ([0.9, 0.9, 0.91, 0.8999], 3),
        ([1.0, 1.0, 1.2], 0),
    ],
)
def test_weights_that_predict_hardly_worse_than_the_best_are_used_if_they_are_later(monkeypatch, residuals, kept):
    judge(monkeypatch, residuals)
    _, found = adapt(scan(), method(), AdaptSettings(steps=len(residuals) - 1), CPU)
    assert found.best_step == kept
    assert found.used == (kept > 0)
    assert found.after == pytest.approx(residuals[kept])


@pytest.mark.parametrize(("source", "used"), [(scan, False), (several_coils, True)])
def test_what_looks_like_noise_depends_on_how_many_samples_of_all_coils_there_are(monkeypatch, source, used):
    judge(monkeypatch, [1.0, 0.995])  # 1000 of each coil: fewer than 1 - 10 / 1000 of the energy is left, or not
    _, found = adapt(source(), method(), AdaptSettings(steps=1), CPU)
    assert found.used == used
    assert ("noise" in found.why) != used


def test_all_directions_of_a_layer_are_stepped_in_alike(monkeypatch):
    judge(monkeypatch, [0.9, 0.8])
    monkeypatch.setattr(adaptation, "_AVERAGE", 0.0)
    untuned = method(features=8)
    tuned, found = adapt(scan(), untuned, AdaptSettings(steps=1), CPU)
    assert found.used
    step = (tuned.network.conv1_x.weight - untuned.network.conv1_x.weight).detach().flatten(1)
    values = torch.linalg.svdvals(step)
    assert 1e-3 < float(values.min()) <= float(values.max()) < 3e-3


@pytest.mark.parametrize("whole", [False, True])
def test_narrow_patches_are_shown_all_frames_together_and_images_afterwards_are_not(whole):
    seen = set()

    class Watched(CRNNMRI):
        def forward(self, *arguments):
            seen.add((torch.is_grad_enabled(), self.batch_frames))
            return super().forward(*arguments)

    torch.manual_seed(0)
    untuned = NetworkReconstructor(Watched(CRNNMRIConfig(features=4, iterations=2)), RECIPE)
    tuned, found = adapt(several_coils(12 if whole else 1), untuned, SHORT, CPU)
    assert found.used
    assert seen == {(True, False), (False, not whole)}
    assert not tuned.network.batch_frames
    assert not untuned.network.batch_frames
