"""Training items are what they claim, follow from their seed, and a network learns from them."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crnn_cli.bundles import load_network
from crnn_cli.mri.consistency import energy_weighted_rms
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.training.cine import CineItems, draw_item
from crnn_cli.training.publish import publish
from crnn_cli.training.reconstruction import (
    Schedule,
    Trainer,
    learning_rate_factor,
    load_cines,
    reconstruction_loss,
    relative_error_db,
)
from crnn_cli.training.scenes import Dice, SceneSize, from_cine, random_scene, with_phase
from tests.conftest import moving_cine, save

CINES = [torch.from_numpy(np.abs(moving_cine(60, 64, 1, 8))[:, :, 0].T.copy())]


@pytest.mark.parametrize("cines", [[], CINES])
@pytest.mark.parametrize("seed", range(6))
def test_items_are_consistent_with_their_truth(cines, seed):
    item = draw_item(CineItems(cines, real_share=1.0), seed)
    assert item.start_BTYX.shape == item.truth_BTYX.shape
    assert torch.isfinite(torch.view_as_real(item.start_BTYX)).all()
    assert 0.3 < float(energy_weighted_rms(item.truth_BTYX)) < 3
    error, energy = item.consistency.misfit(item.truth_BTYX)
    assert error < 0.1 * energy  # the noise that was added, nothing else
    assert item.consistency.misfit(item.start_BTYX)[0] < 1e-9 * energy
    assert relative_error_db(item.start_BTYX, item) < -3
    assert relative_error_db(0.9 * item.truth_BTYX, item) == pytest.approx(-20, abs=1e-3)
    filled_in = item.start_BTYX - item.consistency.zero_filled()  # from frames before and after
    assert filled_in.norm() > 0.02 * item.start_BTYX.norm()
    assert item.truth_BTYX.numel() < 1.2 * CineItems(()).pixels


def test_items_are_as_varied_as_they_say():
    """Sizes, accelerations, starts and truths of many small items; the noise is what separates truth and data."""
    found = []
    for seed in range(24):
        item = draw_item(CineItems((), pixels=4_000), seed)
        frames, lines, columns = item.truth_BTYX.shape[1:]
        mask = item.consistency._mask
        error, energy = item.consistency.misfit(item.truth_BTYX)
        deviation = (error / float(mask.sum()) / columns) ** 0.5 / float(energy_weighted_rms(item.truth_BTYX))
        found.append((frames, lines, columns, lines * frames / float(mask.sum()), deviation))
        assert 0.4 < float(energy_weighted_rms(item.start_BTYX)) < 2.5
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
    assert torch.equal(first.start_BTYX, again.start_BTYX)
    assert first.start_BTYX.shape != other.start_BTYX.shape or not torch.equal(first.start_BTYX, other.start_BTYX)


def test_scenes_move_and_are_not_negative():
    for seed in range(4):
        scene = random_scene(SceneSize(10, 48, 40), Dice(seed))
        assert scene.shape == (10, 48, 40)
        assert scene.min() >= -1e-6
        assert (scene - scene.mean(0)).abs().max() > 0.02


def test_a_real_cine_gives_views_of_the_size_asked_for():
    view = from_cine(CINES[0], SceneSize(12, 40, 24), Dice(1))
    assert view.shape == (12, 40, 24)
    assert view.max() == pytest.approx(1)
    assert torch.equal(with_phase(view, Dice(2)).abs().argmax(), with_phase(view, Dice(2)).abs().argmax())


def test_loss_counts_decibels():
    truth = torch.randn(1, 3, 8, 8, dtype=torch.complex64)
    error = torch.randn(1, 3, 8, 8, dtype=torch.complex64)
    near, far = (reconstruction_loss(truth + size * error, truth) for size in (0.1, 1.0))
    assert float(far - near) == pytest.approx(np.log(10), abs=1e-2)


def test_learning_rate_warms_up_and_cools_down():
    factors = [learning_rate_factor(share) for share in np.linspace(0, 1, 101)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[-1] == pytest.approx(0.01)
    assert np.argmax(factors) <= 3


def test_a_small_network_learns_and_a_stopped_run_goes_on(tmp_path):
    config = CRNNMRIConfig(features=8, kernel=3, iterations=2)
    schedule = Schedule(minutes=0.0, stages=((1.0, 2, 2),), seed=1, steps=90, bf16=False)
    items = CineItems((), pixels=6_000)
    trainer = Trainer(config, schedule, items, tmp_path)
    trainer.run()
    assert trainer.step == 90
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    last = lines[-1]["validation"]
    assert last["reconstructed_db"] < last["start_db"] - 0.05
    again = Trainer(config, schedule, items, tmp_path)
    assert again.step == trainer.step
    for name, value in again.network.state_dict().items():
        assert torch.equal(value, trainer.network.state_dict()[name])
    averaged = CRNNMRI(config)
    averaged.load_state_dict(again.averaged.state_dict())
    assert not list(tmp_path.glob("*.tmp"))


def test_one_step_keeps_an_average_of_the_weights(tmp_path):
    trainer = Trainer(
        CRNNMRIConfig(2, 3, 1), Schedule(1.0, stages=((1.0, 1, 1),)), CineItems((), pixels=4_000), tmp_path
    )
    before = [p.detach().clone() for p in trainer.network.parameters()]
    for old, mean in zip(before, trainer.averaged.parameters(), strict=True):
        assert torch.equal(old, mean)
    trainer._train_step(0.02)
    moved = 0.0
    for old, new, mean in zip(before, trainer.network.parameters(), trainer.averaged.parameters(), strict=True):
        torch.testing.assert_close(mean.data, old + 0.9 * (new.data - old))  # the first step counts 1 - 1/10
        moved = max(moved, float((new.data - old).abs().max()))
    assert 1e-4 < moved < 2e-3


def test_a_run_is_published_as_it_was(tmp_path):
    torch.manual_seed(0)
    config = CRNNMRIConfig(features=3, kernel=5, iterations=2)
    network = CRNNMRI(config)
    (tmp_path / "run.json").write_text(json.dumps({"network": asdict(config), "schedule": {}}))
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    found = publish(tmp_path, tmp_path / "bundle", "# a card\n", "CC0-1.0", "one line")
    assert (found.licence, found.summary, found.start, found.amplitude) == ("CC0-1.0", "one line", "view-shared", 1.0)
    assert (tmp_path / "bundle" / "README.md").read_text() == "# a card\n"
    loaded = load_network(found, torch.device("cpu"))
    assert loaded.config == config
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_cines_are_read_slice_by_slice(tmp_path):
    array = np.abs(moving_cine(10, 12, 3, 4))
    cines = load_cines([save(tmp_path / "a.nii.gz", array)])
    assert len(cines) == 3
    np.testing.assert_allclose(cines[1].numpy(), array[:, :, 1].T)
