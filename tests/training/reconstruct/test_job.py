"""Training items are what they claim, follow from their seed, and a network learns from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import find_bundle
from crnn_cli.errors import DeviceError
from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.training.job import TrainingPlan
from crnn_cli.training.loop import TrainingLoop
from crnn_cli.training.processes import Processes
from crnn_cli.training.reconstruct import run as reconstruct_run
from crnn_cli.training.reconstruct.cine import CineItem, CineItems, DrawnSampling, SamplingSettings, draw_item
from crnn_cli.training.reconstruct.job import ReconstructJob, load_cines, relative_error_db
from crnn_cli.training.reconstruct.losses import reconstruction_loss
from crnn_cli.training.reconstruct.scenes import SceneRandom, SceneSize, from_cine, random_scene, with_phase
from crnn_cli.training.reconstruct.settings import ReconstructionNetworkSettings, ReconstructSettings
from crnn_cli.training.run import RunFolder
from crnn_cli.training.session import TrainingRequest, TrainingRun, require_memory
from tests.support.cines import moving_cine, save
from tests.support.consistency import residual_energies

CINES = [torch.from_numpy(np.abs(moving_cine(60, 64, 1, 8))[:, :, 0].T.copy())]


@pytest.mark.parametrize("cines", [[], CINES])
@pytest.mark.parametrize("seed", range(6))
def test_items_are_consistent_with_their_truth(cines, seed):
    item = draw_item(CineItems(cines, real_share=1.0), seed)
    assert item.initial_BTYX.shape == item.truth_BTYX.shape
    assert torch.isfinite(torch.view_as_real(item.initial_BTYX)).all()
    assert 0.3 < float(energy_weighted_rms(item.truth_BTYX)) < 3
    error, energy = residual_energies(item.consistency, item.truth_BTYX)
    assert error < 0.1 * energy  # the noise that was added, nothing else
    assert residual_energies(item.consistency, item.initial_BTYX)[0] < 1e-9 * energy
    assert relative_error_db(item.initial_BTYX, item) < -3
    assert relative_error_db(0.9 * item.truth_BTYX, item) == pytest.approx(-20, abs=1e-3)
    filled_in = item.initial_BTYX - item.consistency.zero_filled()  # from frames before and after
    assert filled_in.norm() > 0.02 * item.initial_BTYX.norm()
    assert item.truth_BTYX.numel() < 1.2 * CineItems(()).pixels


def test_items_are_as_varied_as_they_say():
    """Sizes, accelerations, starts and truths of many small items; the noise is what separates truth and data."""
    found = []
    for seed in range(24):
        item = draw_item(CineItems((), pixels=4_000), seed)
        frames, lines, columns = item.truth_BTYX.shape[1:]
        mask = item.consistency._mask
        error, energy = residual_energies(item.consistency, item.truth_BTYX)
        deviation = (error / float(mask.sum()) / columns) ** 0.5 / float(energy_weighted_rms(item.truth_BTYX))
        found.append((frames, lines, columns, lines * frames / float(mask.sum()), deviation))
        assert 0.4 < float(energy_weighted_rms(item.initial_BTYX)) < 2.5
        assert energy > 0
    frames, lines, columns, acceleration, deviation = (np.array(v) for v in zip(*found, strict=True))
    assert (frames.min(), frames.max()) == (6, 12)
    assert lines.min() >= 72
    assert lines.max() <= 176
    assert np.ptp(lines) > 80
    assert columns.min() >= 16
    assert columns.max() <= 64
    assert acceleration.min() >= 2.9
    assert acceleration.max() > 9
    assert (deviation < 1e-5).mean() == pytest.approx(0.33, abs=0.2)
    assert 0.02 < deviation.max() < 0.12


def test_same_seed_same_item_other_seed_other_item():
    first, again, other = (draw_item(CineItems(()), seed) for seed in (5, 5, 6))
    assert torch.equal(first.initial_BTYX, again.initial_BTYX)
    assert first.initial_BTYX.shape != other.initial_BTYX.shape or not torch.equal(
        first.initial_BTYX, other.initial_BTYX
    )


def test_scenes_move_and_are_not_negative():
    for seed in range(4):
        scene = random_scene(SceneSize(10, 48, 40), SceneRandom(seed))
        assert scene.shape == (10, 48, 40)
        assert scene.min() >= -1e-6
        assert (scene - scene.mean(0)).abs().max() > 0.02


def test_a_real_cine_gives_views_of_the_size_asked_for():
    view = from_cine(CINES[0], SceneSize(12, 40, 24), SceneRandom(1))
    assert view.shape == (12, 40, 24)
    assert view.max() == pytest.approx(1)
    assert torch.equal(with_phase(view, SceneRandom(2)).abs().argmax(), with_phase(view, SceneRandom(2)).abs().argmax())


def test_loss_counts_decibels():
    truth = torch.randn(1, 3, 8, 8, dtype=torch.complex64)
    error = torch.randn(1, 3, 8, 8, dtype=torch.complex64)
    near, far = (reconstruction_loss(truth + size * error, truth) for size in (0.1, 1.0))
    assert float(far - near) == pytest.approx(np.log(10), abs=1e-2)


SMALL = ReconstructSettings(
    epochs=1,
    items=40,
    pixels=6_000,
    network=ReconstructionNetworkSettings(features=8, kernel=3, iterations=3),
    start_iterations=2,
)
CPU = torch.device("cpu")


def test_a_small_network_learns(tmp_path):
    settings = replace(SMALL, items=90)
    job = ReconstructJob(settings, [], [], 1)
    plan = TrainingPlan(settings.stages(), settings.optimiser, seed=1, validations=1)
    TrainingLoop(job, plan, RunFolder(tmp_path), Processes(CPU), lambda report: None).run()
    _, figures = RunFolder(tmp_path).best()
    found = figures["simulated"]
    assert figures["score"] == pytest.approx(found["start_db"] - found["reconstructed_db"], abs=1e-3)
    assert found["reconstructed_db"] < found["start_db"] - 0.05


def test_items_of_a_job_follow_from_seed_and_number():
    one, again, other = (ReconstructJob(SMALL, CINES, [], seed) for seed in (1, 1, 2))
    for number in (0, 17):
        again.item(0, 30)
        (a, n), (b, m), (c, _) = (job.item(0, number) for job in (one, again, other))
        assert torch.equal(a.initial_BTYX, b.initial_BTYX)
        assert n == m
        assert a.initial_BTYX.shape != c.initial_BTYX.shape or not torch.equal(a.initial_BTYX, c.initial_BTYX)
    assert one.describe(0, 3) == again.describe(0, 3) != one.describe(0, 4)


def test_whoever_draws_makes_the_start_image_unless_a_gpu_does():
    torch.manual_seed(0)
    made, drawn = (ReconstructJob(SMALL, [], [], 1, device=torch.device(kind)) for kind in ("cpu", "cuda"))
    items = [job.item(0, 3) for job in (made, drawn)]
    assert isinstance(items[0][0], CineItem)
    assert isinstance(items[1][0], DrawnSampling)
    network = made.network(0, None)
    losses = [list(job.losses(0, network, [item], CPU)) for job, item in zip((made, drawn), items, strict=True)]
    assert torch.equal(losses[0][0], losses[1][0])


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_run_tells_its_job_what_it_trains_on(monkeypatch, tmp_path, kind):
    runs = []
    monkeypatch.setattr(reconstruct_run, "run_training", lambda run, *rest: runs.append(run))
    reconstruct_run.train_reconstruction([], SMALL, TrainingRequest(tmp_path / "out", torch.device(kind)), print)
    assert [run.job.device.type for run in runs] == [kind]


def test_a_training_that_leaves_weights_idle_says_so(monkeypatch, tmp_path, caplog):
    bundle = find_bundle("cine-crnn-fast", "reconstruct")
    monkeypatch.setattr(reconstruct_run, "run_training", lambda *how: bundle)
    monkeypatch.setattr(ReconstructJob, "changes_by_set", lambda job, network: [0.1, 0.0])
    request = TrainingRequest(tmp_path / "out", torch.device("cpu"))
    assert reconstruct_run.train_reconstruction([], SMALL, request, print) is bundle
    assert "0.1%: 2;" in caplog.text


def test_few_iterations_come_first():
    settings = replace(SMALL, network=ReconstructionNetworkSettings(iterations=5))
    shares = np.linspace(0, 0.999, 1000)
    found = [settings.iterations(share, k) for k, share in enumerate(shares)]
    assert set(found[:250]) == {2}
    assert set(found[251:549]) == {3}
    assert set(found[551:]) == {4, 5}
    assert {SMALL.iterations(0.0, 0), SMALL.iterations(0.9, 0), SMALL.iterations(0.9, 1)} == {2, 3}
    single = replace(SMALL, network=ReconstructionNetworkSettings(iterations=1))
    assert {single.iterations(share, k) for k, share in enumerate(shares)} == {1}


def test_the_loss_of_a_batch_is_the_mean_over_its_items():
    torch.manual_seed(0)
    job = ReconstructJob(SMALL, [], [], 1)
    network = job.network(0, None)
    items = [job.item(0, k) for k in range(3)]
    together = torch.stack(list(job.losses(0, network, items, CPU))).sum()
    alone = [torch.stack(list(job.losses(0, network, [item], CPU))).sum() for item in items]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_cines_held_out_are_validated_on():
    torch.manual_seed(0)
    job = ReconstructJob(SMALL, [], CINES, 1)
    found = job.validate(job.network(0, None), CPU)
    assert set(found) == {"score", "simulated", "held_out"}
    assert found["held_out"]["start_db"] < -3
    assert set(ReconstructJob(SMALL, [], [], 1).validate(job.network(0, None), CPU)) == {"score", "simulated"}


def test_complex_cines_keep_their_phase():
    """A constant phase comes through whatever happens to the magnitude."""
    cine = torch.polar(CINES[0], torch.full_like(CINES[0], 1.1))
    how = CineItems([cine], real_share=1.0, pixels=4_000, sampling=SamplingSettings(noisy=0.0))
    for seed in range(3):
        truth = draw_item(how, seed).truth_BTYX
        bright = truth[truth.abs() > 0.4]  # near sharp edges, interpolation overshoots below zero
        torch.testing.assert_close(bright.angle(), torch.full_like(bright.real, 1.1), rtol=0, atol=1e-3)


def test_sampling_is_as_set():
    how = SamplingSettings(
        lines=40, most_lines=44, frames=3, most_frames=4, cycle=5, most_cycle=6, acceleration=2, most_acceleration=2.2,
        noisy=0.0,
    )  # fmt: skip
    for seed in range(6):
        item = draw_item(CineItems((), pixels=3_000, sampling=how), seed)
        frames, lines = item.truth_BTYX.shape[1:3]
        assert 3 <= frames <= 4
        assert 40 <= lines <= 44
        assert 1.8 < lines * frames / float(item.consistency._mask.sum()) < 2.7
        error, energy = residual_energies(item.consistency, item.truth_BTYX)
        assert error < 1e-9 * energy


def test_empty_slices_are_left_out_and_complex_ones_stay_complex(tmp_path):
    array = moving_cine(10, 12, 3, 4).astype(np.complex64)
    array[:, :, 1] = 0
    cines = load_cines([save(tmp_path / "a.nii.gz", array)])
    assert len(cines) == 2
    np.testing.assert_allclose(cines[1].numpy(), array[:, :, 2].T)


def test_cines_are_read_slice_by_slice(tmp_path):
    array = np.abs(moving_cine(10, 12, 3, 4))
    cines = load_cines([save(tmp_path / "a.nii.gz", array)])
    assert len(cines) == 3
    np.testing.assert_allclose(cines[1].numpy(), array[:, :, 1].T)


def test_the_estimate_of_memory_sees_what_checkpoints_compute_again(monkeypatch):
    """An iteration computed again counts twice, for its gradients; in a larger group, so do the states between."""

    def estimate(checkpoint):
        network = ReconstructionNetworkSettings(iterations=6, features=8, checkpoint=checkpoint)
        job = ReconstructJob(replace(ReconstructSettings(), network=network, pixels=90_000_000), [], [], 0)
        with pytest.raises(DeviceError, match="GiB") as refused:
            require_memory(
                TrainingRun(job, job.settings.stages(), job.settings, None, {}, {}), Processes(torch.device("cpu"))
            )
        return float(str(refused.value).split("about ")[1].split(" GiB")[0])

    monkeypatch.setattr("crnn_cli.training.session.free_bytes", lambda device: 0)
    kept, by_one, by_six = estimate(0), estimate(1), estimate(6)
    monkeypatch.setattr(ReconstructJob, "memory_multipliers", lambda *_: iter([1.0]))
    seen_by_one, seen_by_six = estimate(1), estimate(6)
    assert by_one == pytest.approx(seen_by_one + kept * 2 / 6, rel=0.01)
    assert by_six == pytest.approx(seen_by_six + seen_by_one + kept * 2 / 6, rel=0.01)
    assert seen_by_six < 0.5 * seen_by_one < by_one < kept
