"""Items of several coils are what they claim, those of one coil what they were, and a network learns from both."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.mri.sampling import PATTERNS
from crnn_cli.reconstruction.reconstruct import INITIAL_IMAGES
from crnn_cli.training.memory import step_bytes
from crnn_cli.training.reconstruct.cine import CineItems, SamplingSettings, draw, draw_item
from crnn_cli.training.reconstruct.coil_maps import perturb_maps, random_maps
from crnn_cli.training.reconstruct.job import ReconstructJob
from crnn_cli.training.reconstruct.losses import image_loss
from crnn_cli.training.reconstruct.run import train_reconstruction
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, random_scene, with_phase
from crnn_cli.training.reconstruct.settings import (
    ReconstructionLoss,
    ReconstructionNetworkSettings,
    ReconstructSettings,
)
from crnn_cli.training.session import TrainingRequest
from tests.support.cines import moving_cine
from tests.support.consistency import residual_energies

CPU = torch.device("cpu")
TINY = SamplingSettings(lines=24, most_lines=40, frames=3, most_frames=4, cycle=5, most_cycle=6)
SEVERAL = replace(TINY, several=1.0, coils=3, most_coils=5)


def items(sampling, pixels=2_000):
    return CineItems((), pixels=pixels, sampling=sampling)


def relative(off, true):
    return float((off - true).norm() / true.norm())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("coils", [2, 5, 12])
def test_maps_are_normalised_smooth_and_their_errors_as_large_as_asked_for(coils, seed):
    maps = random_maps(coils, 40, 16, SceneRandom(seed))
    assert maps.dtype == torch.complex64
    assert maps.shape == (coils, 40, 16)
    assert torch.equal(maps, random_maps(coils, 40, 16, SceneRandom(seed)))
    power = (maps[:, :-1].conj() * maps[:, 1:]).sum(0).abs()  # 1 where neighbours agree but for a common phase
    assert power.min() > 0.8
    for error in (0.003, 0.05):
        off = perturb_maps(maps, error, SceneRandom(seed + 1))
        for normal in (maps, off):
            torch.testing.assert_close(normal.abs().square().sum(0), torch.ones(40, 16))
        assert relative(off, maps) == pytest.approx(error, rel=0.02)
        along = (maps.conj() * off).sum(0)
        torch.testing.assert_close(along.imag, torch.zeros(40, 16), atol=1e-6, rtol=0)  # no phase for the image


def test_maps_are_from_nearly_equal_to_sharply_falling():
    """Some coils are alike up to factors, in some each coil has a place of its own."""
    ranks, peaks = [], []
    for seed in range(60):
        flat = random_maps(6, 40, 24, SceneRandom(seed)).flatten(1)
        singular = torch.linalg.svdvals(flat)
        ranks.append(float(singular.sum() ** 2 / singular.square().sum()))  # 1 where one image says all, 6 at most
        power = flat.abs().square()
        peaks.append(float((power.amax(1) / power.mean(1)).median()))
    assert 5 <= sum(rank < 1.45 for rank in ranks) <= 20
    assert max(ranks) > 4.5
    assert max(peaks) > 7


def single_coil_item(seed, source):
    """Return start, truth, k-space and mask of an item of one coil, written on its own."""
    rng, how = SceneRandom(seed), source.sampling
    lines, kept = rng.integer(how.lines, how.most_lines), rng.integer(how.frames, how.most_frames)
    columns = max(16, min(64, round(source.pixels / (lines * kept) / 4) * 4))
    size = SceneSize(max(kept, rng.integer(how.cycle, how.most_cycle)), lines, columns)
    truth = with_phase(random_scene(size, rng), rng)[None]
    truth = truth / energy_weighted_rms(truth)
    pattern = "variable-density" if rng.chance(how.variable_density) else "sheared-grid"
    rate = rng.log_uniform(how.acceleration, max(how.acceleration, min(how.most_acceleration, lines / 6)))
    centre = None if rng.chance(0.7) else rng.integer(1, max(1, int(lines / rate * 0.8)))
    mask = PATTERNS[pattern](size.frames, lines, rate, rng.generator, centre)[None, :, :, None]
    noise = rng.log_uniform(how.noise, how.most_noise) if rng.chance(how.noisy) else 0.0
    kspace = image_to_kspace(truth)
    kspace = (kspace + noise * torch.complex(rng.normal(*kspace.shape), rng.normal(*kspace.shape)) / 2**0.5) * mask
    start = INITIAL_IMAGES[source.initial_image](SingleCoilConsistency(kspace, mask))
    scale = rng.log_uniform(0.8, 1.25) / energy_weighted_rms(start)
    first = rng.integer(0, size.frames - kept)
    return [scale * x[:, first : first + kept] for x in (start, truth, kspace)], mask[:, first : first + kept]


@pytest.mark.parametrize("seed", range(6))
def test_items_of_one_coil_are_bit_for_bit_what_they_were(seed):
    """Whatever the other settings of coils say, no random number more is drawn."""
    source = CineItems((), pixels=4_000)
    (start, truth, kspace), mask = single_coil_item(seed, source)
    for sampling in (SamplingSettings(), SamplingSettings(coils=7, most_coils=9, maps_error=0.3)):
        item = draw_item(replace(source, sampling=sampling), seed)
        assert torch.equal(item.truth_BTYX, truth)
        assert torch.equal(item.initial_BTYX, start)
        expected = SingleCoilConsistency(kspace, mask)
        assert torch.equal(item.consistency.zero_filled(), expected.zero_filled())
        assert residual_energies(item.consistency, start) == residual_energies(expected, start)


@pytest.mark.parametrize("seed", range(4))
def test_exact_maps_and_no_noise_leave_no_residual(seed):
    item = draw_item(items(replace(SEVERAL, noisy=0.0, maps_error=0.0)), seed)
    assert isinstance(item.consistency, MultiCoilConsistency)
    assert 3 <= item.consistency._maps_BCYX.shape[1] <= 5
    error, energy = residual_energies(item.consistency, item.truth_BTYX)
    assert error < 1e-9 * energy
    assert torch.linalg.vector_norm(item.consistency(item.truth_BTYX) - item.truth_BTYX) < 1e-4
    assert 0.4 < float(energy_weighted_rms(item.initial_BTYX)) < 2.5


def test_the_residual_of_the_truth_is_as_large_as_noise_and_error_say():
    """Relative to the bright parts each sample has the noise; the error of the maps counts as a share of the data."""
    for seed in range(6):
        noisy = draw_item(items(replace(SEVERAL, noisy=1.0, noise=0.02, most_noise=0.02, maps_error=0.0)), seed)
        error, _ = residual_energies(noisy.consistency, noisy.truth_BTYX)
        samples = noisy.consistency.at_samples(noisy.truth_BTYX)[0].numel()
        whole_cycle = float(energy_weighted_rms(noisy.truth_BTYX))  # of a part of the cycle, so only about the same
        assert (error / samples) ** 0.5 / whole_cycle == pytest.approx(0.02, rel=0.2)
    found = []
    for seed in range(20):
        off = draw_item(items(replace(SEVERAL, noisy=0.0, maps_error=0.1)), seed)
        error, energy = residual_energies(off.consistency, off.truth_BTYX)
        found.append((error / energy) ** 0.5)
    assert 0.003 < min(found) < 0.02 < 0.06 < max(found) < 0.2  # log-uniform from a tenth of it


@pytest.mark.parametrize("start", INITIAL_IMAGES)
def test_items_repeat_survive_pickling_and_start_from_their_own_data(start):
    source = replace(items(SEVERAL), initial_image=start)
    for seed in range(3):
        item, again, other = (draw_item(source, s) for s in (seed, seed, seed + 50))
        copied = pickle.loads(pickle.dumps(item))
        for same in (again, copied):
            assert torch.equal(same.initial_BTYX, item.initial_BTYX)
            assert torch.equal(same.consistency(item.truth_BTYX), item.consistency(item.truth_BTYX))
        assert other.initial_BTYX.shape != item.initial_BTYX.shape or not torch.equal(
            other.initial_BTYX, item.initial_BTYX
        )
        part = INITIAL_IMAGES[start](item.consistency)  # from a part of the cycle: near to that from all of it
        assert relative(part, item.initial_BTYX) < (1e-4 if start == "zero-filled" else 0.7)


def test_the_share_of_several_coils_is_as_set():
    kinds = [type(draw_item(items(replace(TINY, several=0.3)), seed).consistency) for seed in range(30)]
    assert 0.1 < kinds.count(MultiCoilConsistency) / 30 < 0.5
    assert kinds.count(MultiCoilConsistency) + kinds.count(SingleCoilConsistency) == 30


@pytest.mark.parametrize("wrong", [{"several": 1.1}, {"coils": 1}, {"coils": 13}, {"maps_error": 1.0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="several is a share"):
        SamplingSettings(**wrong)


SMALL = ReconstructSettings(
    epochs=1, items=4, batch=2, pixels=2_000, start_iterations=2, sampling=SEVERAL,
    network=ReconstructionNetworkSettings(features=4, iterations=2, temporal_context=1),
    loss=ReconstructionLoss(l1=0.5, kspace=0.5),
)  # fmt: skip


@pytest.mark.parametrize("checkpoint", [0, 1])
def test_gradients_are_those_of_single_precision_whatever_autocast_does_to_convolutions(checkpoint):
    """The operator itself must not be rounded: its step lengths are quotients of sums over all pixels."""
    item = draw_item(items(SEVERAL), 3)
    found = []
    for rounded in (False, True):
        image = item.initial_BTYX.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            made = item.consistency(image)
            image_loss({"l1": 1.0, "kspace": 1.0}, made, item.truth_BTYX, item.consistency).backward()
        found.append((made.detach(), image.grad))
    for plain, rounded in zip(*found, strict=True):
        torch.testing.assert_close(rounded, plain)
    torch.manual_seed(0)
    job = ReconstructJob(replace(SMALL, network=replace(SMALL.network, checkpoint=checkpoint)), [], [], 1)
    network = job.network(0, None)
    for loss in job.losses(0, network, [job.item(0, k) for k in range(2)], CPU):
        loss.backward()
    for weight in network.parameters():
        assert weight.grad is not None
        assert torch.isfinite(weight.grad).all()


def test_several_coils_have_figures_of_their_own_that_count_in_the_score():
    cines = [torch.from_numpy(np.abs(moving_cine(60, 64, 1, 8))[:, :, 0].T.copy())]
    torch.manual_seed(0)
    for share, held_out, kinds in (
        (0.5, [], {"simulated", "several_coils"}),
        (0.5, cines, {"simulated", "held_out", "several_coils"}),
        (0.0, cines, {"simulated", "held_out"}),
    ):
        job = ReconstructJob(replace(SMALL, sampling=replace(SEVERAL, several=share)), [], held_out, 1)
        found = job.validate(job.network(0, None), CPU)
        assert set(found) == {"score"} | kinds
        falls = [found[kind]["start_db"] - found[kind]["reconstructed_db"] for kind in kinds]
        assert found["score"] == pytest.approx(np.mean(falls), abs=2e-3)
        assert len({found[kind]["start_db"] for kind in kinds}) == len(kinds)
    assert job.simulated.sampling.several == 0


def test_the_estimate_of_memory_covers_items_of_most_coils():
    settings = replace(SMALL, pixels=6_000, sampling=replace(SEVERAL, coils=2, most_coils=12))
    most = replace(settings, sampling=replace(settings.sampling, coils=12))

    def kept(job, some, factor):
        torch.manual_seed(0)
        network = job.network(0, None)
        return step_bytes(lambda: next(job.losses(0, network, some, CPU)), factor)

    job = ReconstructJob(settings, [], [], 0)
    ((small, _),) = job.miniature(0, 1)[0]
    assert small.measured.maps_BCYX.shape[1] == 12
    estimated = kept(job, *job.miniature(0, 1))
    needed = [kept(job, [(draw(items(most.sampling, 6_000), seed), 2)], 1.0) for seed in range(4)]
    assert max(needed) < 1.5 * estimated  # both are 1.5 times what is kept
    one_coil = ReconstructJob(replace(settings, sampling=replace(TINY)), [], [], 0)
    assert estimated > 1.05 * kept(one_coil, *one_coil.miniature(0, 1))


def test_two_steps_change_the_weights_and_make_a_bundle(tmp_path):
    request = TrainingRequest(tmp_path / "mine", CPU, fold=None, seed=1, workers=1, licence="CC0-1.0")
    bundle = train_reconstruction([], SMALL, request, lambda report: None)
    network = load_reconstruction(find_bundle(str(bundle.folder)), CPU)
    torch.manual_seed(1)
    before = ReconstructJob(SMALL, [], [], 1).network(0, None).state_dict()
    assert all(not torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    item = draw_item(items(SEVERAL), 0)
    assert torch.isfinite(torch.view_as_real(network(item.initial_BTYX, item.consistency))).all()
    card = (bundle.folder / "README.md").read_text()
    assert "several_coils, reconstructed_db" in card
    assert "coils: 100% of the items with 3 to 5 coils" in card
    assert "maps_error = 0.05" in card
    assert (tmp_path / "mine.run" / "validation.png").exists()


def test_the_deviation_of_the_noise_is_told_to_all_of_several_coils_and_to_a_share_of_the_others():
    noisy = replace(TINY, noisy=1.0, noise=0.05, most_noise=0.05, told=0.5)
    for several, shares in ((0.0, (0.3, 0.7)), (1.0, (1.0, 1.0))):
        told = []
        for seed in range(40):
            item = draw_item(items(replace(noisy, several=several, coils=2, most_coils=2)), seed)
            deviation = float(item.consistency._deviation._value)
            error, _ = residual_energies(item.consistency, item.truth_BTYX)
            told.append(deviation > 0)
            if deviation and not several:  # the truth misses the data by the noise: its deviation, 20 to 25 % off
                samples = item.consistency.at_samples(item.truth_BTYX)[0].numel()
                assert 0.75 < deviation / (error / samples) ** 0.5 < 1.3
        assert shares[0] <= np.mean(told) <= shares[1]
    assert float(draw_item(items(replace(noisy, noisy=0.0, told=1.0)), 0).consistency._deviation._value) == 0
