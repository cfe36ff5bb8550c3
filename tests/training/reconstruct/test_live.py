"""A causal network is trained from simulation to a bundle that reconstructs a stream, and further from there."""

from dataclasses import replace

import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.errors import UsageError
from crnn_cli.networks.live_crnn import LiveCRNN
from crnn_cli.training.reconstruct.cine import SamplingSettings
from crnn_cli.training.reconstruct.job import ReconstructJob
from crnn_cli.training.reconstruct.run import train_reconstruction
from crnn_cli.training.reconstruct.settings import (
    ReconstructionLoss,
    ReconstructionNetworkSettings,
    ReconstructSettings,
)
from crnn_cli.training.session import TrainingRequest

CPU = torch.device("cpu")
SMALL = ReconstructSettings(
    epochs=1, items=2, pixels=2_000, initial_image="running", loss=ReconstructionLoss(log=0.0, log_frames=1.0),
    network=ReconstructionNetworkSettings(live=1, features=6, iterations=2, weight_sets=2),
    sampling=SamplingSettings(lines=32, most_lines=32, frames=4, most_frames=5, cycle=6, most_cycle=8, several=0.3),
)  # fmt: skip


def test_a_small_network_learns_an_item():
    torch.manual_seed(0)
    job = ReconstructJob(replace(SMALL, sampling=replace(SMALL.sampling, several=0.0)), [], [], 1)
    network, item, losses = job.network(0, None), job.item(0, 0), []
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        (loss,) = job.losses(0, network, [item], CPU)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.2
    assert all(weight.grad is not None and weight.grad.any() for name, weight in network.named_parameters()
               if not name.endswith("error"))  # fmt: skip


def test_a_network_that_starts_from_total_variation_goes_on_from_one_that_does_not(tmp_path):
    before = train_reconstruction([], SMALL, TrainingRequest(tmp_path / "one", CPU), lambda report: None)
    by_tv = replace(
        SMALL, initial_image="causal-total-variation", network=replace(SMALL.network, given_start=1),
        optimiser=replace(SMALL.optimiser, learning_rate=1e-9),
    )  # fmt: skip
    bundle = train_reconstruction([], by_tv, TrainingRequest(tmp_path / "two", CPU, start=before), lambda report: None)
    assert bundle is not None
    assert (bundle.initial_image, bundle.settings["given_start"]) == ("causal-total-variation", 1)
    networks = [load_reconstruction(find_bundle(str(tmp_path / name)), CPU) for name in ("one", "two")]
    for one, two in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_a_run_makes_a_bundle_and_another_begins_from_it(tmp_path):
    bundle = train_reconstruction([], SMALL, TrainingRequest(tmp_path / "one", CPU), lambda report: None)
    assert bundle is not None
    assert (bundle.network, bundle.initial_image) == ("live-crnn", "running")
    network = load_reconstruction(find_bundle(str(tmp_path / "one")), CPU)
    assert isinstance(network, LiveCRNN)
    assert network.config == SMALL.network.config()
    again = TrainingRequest(tmp_path / "two", CPU, start=bundle)
    assert train_reconstruction([], SMALL, again, lambda report: None) is not None
    larger = replace(SMALL, network=replace(SMALL.network, features=8))
    with pytest.raises(UsageError, match="same sizes"):
        train_reconstruction([], larger, replace(again, out=tmp_path / "three"), lambda report: None)


def test_all_iterations_run_from_the_first_step():
    assert {SMALL.iterations(share, number) for share in (0.0, 0.3, 0.9) for number in (0, 1)} == {2}


@pytest.mark.parametrize(
    "changes",
    [
        {"tsm_channels": 2},
        {"temporal_context": 1},
        {"noise_aware": 1},
        {"pixel_unshuffle": 2},
        {"checkpoint": 1},
        {"live": 2},
        {"live": 0, "given_start": 1},
        {"given_start": 2},
    ],
)
def test_settings_of_the_other_network_are_refused(changes):
    with pytest.raises(ValueError, match=r"live|given_start"):
        replace(SMALL.network, **changes)


def test_the_initial_image_goes_with_the_network():
    with pytest.raises(ValueError, match="running"):
        replace(SMALL, initial_image="time-wiener")
    for causal in ("running", "causal-total-variation"):
        assert replace(SMALL, initial_image=causal).initial_image == causal
        with pytest.raises(ValueError, match="running"):
            ReconstructSettings(initial_image=causal)
