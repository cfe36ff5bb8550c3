"""The encoder-forecaster has the sizes of the paper and equals its formulas; that of cines joins known frames."""

import numpy as np
import pytest
import torch

from crnn_cli.networks.forecaster import READ, SOURCES, CineForecaster, ForecasterConfig, PatchForecaster, warp
from tests.networks.test_convlstm import named
from tests.reference import forecaster_loops


def randomised(network):
    """Return the network in double precision, its every weight random."""
    network = network.double().eval()
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 0.4)
    return network


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (ForecasterConfig(4, 1, 256, 256, 5, 5), 13_524_496),
        (ForecasterConfig(4, 2, 128, 128, 5, 5), 10_042_896),
        (ForecasterConfig(4, 3, 128, 64, 5, 5), 7_585_296),
        (ForecasterConfig(4, 2, 128, 128, 9, 1), 11_550_224),
        (ForecasterConfig(4, 3, 128, 64, 9, 1), 8_830_480),
    ],
)
def test_it_has_as_many_parameters_as_the_papers(config, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in PatchForecaster(config).parameters()) == count


def test_it_equals_the_loops():
    torch.manual_seed(0)
    network = randomised(PatchForecaster(ForecasterConfig(patch=2, layers=2, hidden=3, hidden_above=2)))
    frames = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        found = network(frames, ahead=2)[0].numpy()
    layers = [[(named(cell), cell.hidden) for cell in stack.cells] for stack in (network.encoder, network.forecaster)]
    readout = network.readout.weight[:, :, 0, 0].detach().numpy(), network.readout.bias.detach().numpy()
    expected = forecaster_loops.forecast(*layers, readout, frames[0].numpy(), 2, 2)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("gru", [0, 1])
def test_untrained_it_is_the_mean_of_what_it_knows(gru):
    """The last frame, the two that followed the recalled one, and the last frame changed as the recalled one did."""
    network = CineForecaster(ForecasterConfig(gru=gru, hidden=4, hidden_above=4, readout=4)).eval()
    torch.manual_seed(0)
    sources = torch.rand(2, SOURCES, 10, 13)
    with torch.no_grad():
        states = network.encode(torch.rand(2, READ, 10, 13), None)
        frame, _ = network.forecast(sources, states)
    last, recalled, k, following = sources.unbind(1)
    torch.testing.assert_close(frame, (last + k + following + (last + k - recalled)) / 4)


@pytest.mark.parametrize("gru", [0, 1])
def test_every_parameter_gets_a_gradient(gru):
    torch.manual_seed(0)
    network = randomised(CineForecaster(ForecasterConfig(gru=gru, hidden=3, hidden_above=2, readout=4)))
    states = None
    for read in torch.rand(3, 1, READ, 8, 8, dtype=torch.float64):
        states = network.encode(read, states)
    total = 0
    for sources in torch.rand(2, 1, SOURCES, 8, 8, dtype=torch.float64):
        frame, states = network.forecast(sources, states)
        total = total + frame.square().sum()
    total.backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_what_lies_beyond_the_edge_does_not_change_the_size():
    network = randomised(CineForecaster(ForecasterConfig(hidden=3, hidden_above=2, readout=4))).float()
    for size in ((1, 1), (5, 3), (16, 8)):
        with torch.no_grad():
            states = network.encode(torch.rand(1, READ, *size), None)
            assert network.forecast(torch.rand(1, SOURCES, *size), states)[0].shape == (1, *size)


def test_a_frame_is_moved_by_the_displacement_of_its_places():
    image = torch.rand(1, 1, 6, 7)
    flow = torch.zeros(1, 1, 2, 6, 7)
    flow[:, :, 0], flow[:, :, 1] = 1, -2
    moved = warp(image, flow)[0, 0]
    torch.testing.assert_close(moved[:-1, 2:], image[0, 0, 1:, :-2])


@pytest.mark.parametrize(
    "sizes", [{"patch": 0}, {"layers": 7}, {"hidden": 0}, {"readout": 513}, {"hidden_kernel": 4}, {"gru": 2}]
)
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        ForecasterConfig(**sizes)
