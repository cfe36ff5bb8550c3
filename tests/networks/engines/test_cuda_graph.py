"""What is replayed gives what running it gives: on its own data, never on old ones; the recorder is a stand-in."""

import copy
import pickle

import pytest
import torch

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from crnn_cli.networks.engines import cuda_graph as module
from crnn_cli.networks.engines.cuda_graph import CapturedGraph, CudaGraphRunner


def problem(seed, coils=1, frames=3, noise=0.0, two_axes=False, deviation=0.0, device="cpu"):
    """Return an image and an operator on a device."""
    g = torch.Generator().manual_seed(seed)
    drawn = torch.rand(1, frames, 8 * (6 if two_axes else 1), generator=g).argsort(-1).argsort(-1)
    mask = (drawn < drawn.shape[-1] // 2).view(1, frames, 8, -1)  # as many samples in each
    kspace = torch.randn(1, coils, frames, 8, 6, dtype=torch.complex64, generator=g)
    image = torch.randn(1, frames, 8, 6, dtype=torch.complex64, generator=g)
    scale = torch.full((1, 1, 1, 1), 0.5 + seed, device=device)
    image, kspace, mask = image.to(device), kspace.to(device), mask.to(device)
    if coils == 1:
        return image, SingleCoilConsistency(kspace[:, 0], mask, noise, deviation).scaled(scale)
    maps = torch.randn(1, coils, 8, 6, dtype=torch.complex64, generator=g).to(device)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    return image, MultiCoilConsistency(kspace, mask, maps, noise, deviation=deviation).scaled(scale)


@pytest.fixture
def recorder(monkeypatch):
    """Let any device be captured: a stand-in that runs the function on the memory it was given. Yield its calls."""
    calls = []

    def capture(run, image, consistency):
        calls.append(run)
        image, operator = image.clone(), module._clone_tensors(consistency)
        return CapturedGraph(image, module._split_tensors(operator)[0], lambda: run(image, operator))

    monkeypatch.setattr(module, "_can_capture", lambda image: True)
    monkeypatch.setattr(module, "capture", capture)
    return calls


def run(image, consistency):
    return consistency(2 * image, torch.tensor(0.7))


@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_every_call_is_of_its_own_data_and_one_recording_serves_all(recorder, coils, two_axes, deviation):
    replay, results = CudaGraphRunner(), []
    problems = [problem(seed, coils, two_axes=two_axes, deviation=deviation * seed) for seed in range(5)]
    for image, operator in problems:
        given = image.clone()
        results.append(replay(run, image, operator, "dtype"))
        assert torch.equal(image, given)
    for (image, operator), made in zip(problems, results, strict=True):
        assert torch.equal(made, run(image, operator))
    assert (len(recorder), replay.captured) == (1, True)


def test_calls_of_another_kind_are_recorded_anew(recorder):
    replay = CudaGraphRunner()
    calls = [
        (problem(0), "a"), (problem(1), "a"), (problem(2, noise=0.1), "a"), (problem(3, noise=0.1), "a"),
        (problem(4, frames=4), "a"), (problem(5, frames=4), "a"), (problem(6, frames=4), "b"),
        (problem(7, frames=4), "b"), (problem(8, coils=2, frames=4), "b"), (problem(9, two_axes=True), "b"),
    ]  # fmt: skip
    for (image, operator), dtype in calls:
        assert torch.equal(replay(run, image, operator, dtype), run(image, operator))
    assert len(recorder) == 4


def test_what_cannot_be_recorded_is_run(monkeypatch):
    def refuse(run, image, consistency):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(module, "_can_capture", lambda image: True)
    monkeypatch.setattr(module, "capture", refuse)
    replay = CudaGraphRunner()
    for seed in range(4):
        image, operator = problem(seed)
        assert torch.equal(replay(run, image, operator, 0), run(image, operator))
    assert (replay.enabled, replay.failure) == (False, "operation not permitted when stream is capturing")


def test_a_cpu_is_never_recorded():
    replay = CudaGraphRunner()
    for seed in range(3):
        image, operator = problem(seed)
        with torch.no_grad():
            assert torch.equal(replay(run, image, operator, 0), run(image, operator))
    assert (replay.enabled, replay.captured) == (True, False)


def test_copies_of_a_network_do_not_have_its_recording(recorder):
    network = CRNNMRI(CRNNMRIConfig(features=2, iterations=1))
    for seed in range(2):
        network.cuda_graph(run, *problem(seed), 0)
    assert network.cuda_graph.captured
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert (twin.cuda_graph.captured, twin.cuda_graph is network.cuda_graph) == (False, False)
    network.cuda_graph.release()
    assert not network.cuda_graph.captured


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
@pytest.mark.parametrize("coils", [1, 3])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {}, {"tsm_channels": 2, "temporal_context": 1, "weight_sets": 2, "noise_aware": 1},
        {"tsm_channels": 2, "temporal_context": 1, "pixel_unshuffle": 2},
    ],
)  # fmt: skip
def test_a_cuda_graph_gives_what_launching_gives(coils, half, more):
    torch.manual_seed(0)
    network = CRNNMRI(CRNNMRIConfig(features=8, iterations=3, **more)).cuda().eval()
    launched = copy.deepcopy(network)
    launched.cuda_graph.enabled = False
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=half):
        for seed in range(4):
            image, operator = problem(seed, coils, device="cuda")
            made, wanted = (net(image, operator) for net in (network, launched))
            torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)
    assert network.cuda_graph.captured, network.cuda_graph.failure
