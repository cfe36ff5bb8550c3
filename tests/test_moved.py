"""Channels come from the neighbour frames, and gradients go back to where they came from."""

import pytest
import torch

from crnn_cli.networks.moved import moved


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_channels_come_from_the_frames_before_and_after(frames, batch):
    features = torch.arange(frames * batch * 5.0).view(frames, batch, 5, 1, 1)
    found = moved(features.flatten(0, 1), 2, batch).view_as(features)
    for t in range(frames):
        assert torch.equal(found[t, :, :2], features[max(t - 1, 0), :, :2])
        assert torch.equal(found[t, :, 2:4], features[min(t + 1, frames - 1), :, 2:4])
        assert torch.equal(found[t, :, 4:], features[t, :, 4:])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_gradients_are_those_of_the_moved_channels(frames, batch):
    features = torch.randn(frames * batch, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: moved(values, 2, batch), (features,))


def test_features_and_gradients_stay_innermost_in_memory():
    features = torch.randn(4, 6, 5, 3).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    made = moved(features, 1, 1)
    made.backward(torch.ones_like(made))
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert features.grad.is_contiguous(memory_format=torch.channels_last)
