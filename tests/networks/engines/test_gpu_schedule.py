"""The way over the frames for a GPU computes what the others do, in however many parts; here on the CPU."""

import pytest
import torch

from crnn_cli.networks.crnn_mri import RecurrentCell
from crnn_cli.networks.engines import gpu as module
from crnn_cli.networks.engines.gpu import ChunkedGpuSchedule
from crnn_cli.networks.engines.schedule import BatchedSchedule
from tests.networks.engines.test_schedule import FEATURES, convolution, features

DOUBLE = torch.float64


@pytest.fixture(params=["fused", "one after the other"])
def fused(request, monkeypatch):
    """Let a stand-in be cuDNN's convolution into a sum, by its documented formula."""

    def stand_in(x, weight, z, alpha, bias, stride, padding, dilation, groups):
        assert z.is_contiguous(memory_format=torch.channels_last)
        return (torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups) + alpha * z).relu()

    monkeypatch.setattr(module, "_has_fused", lambda device, dtype: request.param == "fused")
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", stand_in)
    torch.manual_seed(0)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("first", [False, True])
def test_every_number_of_frames_at_once_gives_the_same(batch, frames, first):
    cell, one, two = RecurrentCell(2, FEATURES, 3).double(), convolution(dtype=DOUBLE), convolution(dtype=DOUBLE)
    out = convolution(outputs=2, dtype=DOUBLE)
    x = features(frames, batch, channels=2, dtype=DOUBLE)
    old = [features(frames, batch, dtype=DOUBLE, seed=seed) for seed in (1, 2)]
    with torch.no_grad():
        for shift in (0, 2):
            whole = BatchedSchedule(batch, DOUBLE)
            before = [None if first else whole.to_layout(sequence) for sequence in old]
            state = whole.recurrent(cell, whole.to_layout(x), before[0])
            above = whole.layer(one, two, state, before[1], shift)
            wanted = [whole.from_layout(made) for made in (state, above, whole.output(out, above))]
            for at_once in range(1, frames + 1):
                way = ChunkedGpuSchedule(frames, batch, DOUBLE, at_once)
                before = [None if first else way.to_layout(sequence) for sequence in old]
                state = way.recurrent(cell, way.to_layout(x), before[0])
                above = way.layer(one, two, state, before[1], shift)
                for made, expected in zip((state, above, way.output(out, above)), wanted, strict=True):
                    torch.testing.assert_close(way.from_layout(made), expected)


@pytest.mark.parametrize("first", [False, True])
def test_channels_of_zeros_change_nothing(first):
    """As they are added on a GPU, where tensor cores take eight."""
    cell = RecurrentCell(2, FEATURES, 3).double()
    way, old = ChunkedGpuSchedule(5, 1, DOUBLE, 3), features(5, 1, dtype=DOUBLE)
    x = way.to_layout(features(5, 1, channels=2, dtype=DOUBLE))
    before = [None if first else way.to_layout(old) for _ in range(2)]
    with torch.no_grad():
        wanted = way.recurrent(cell, x, before[0])
        filled = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 6))
        torch.testing.assert_close(way.recurrent(cell, filled, before[1]), wanted)


def test_where_all_frames_are_computed_at_once_a_layer_needs_no_copy():
    way = ChunkedGpuSchedule(4, 1, torch.float32, 4)
    below, before = (way.to_layout(features(4, 1, seed=seed)) for seed in (0, 1))
    kept = before.clone()
    with torch.no_grad():
        made = way.layer(convolution(), convolution(), below, before, 0)
    assert made.data_ptr() != before.data_ptr()
    assert torch.equal(before, kept)


def test_states_take_the_memory_of_those_before_and_features_lie_innermost():
    way, cell = ChunkedGpuSchedule(5, 1, torch.float32, 2), RecurrentCell(2, FEATURES, 3)
    x = way.to_layout(features(5, 1, channels=2))
    with torch.no_grad():
        state = way.recurrent(cell, x, None)
        again = way.recurrent(cell, x, state)
        above = way.layer(convolution(), convolution(), again, None, 1)
        over = way.layer(convolution(), convolution(), again, above, 1)
    assert again.data_ptr() == state.data_ptr()
    assert over.data_ptr() == above.data_ptr() != again.data_ptr()
    assert all(made.is_contiguous(memory_format=torch.channels_last) for made in (state, over))


def test_a_cpu_has_no_convolution_of_cudnn():
    assert not module._has_fused(torch.device("cpu"), torch.float32)
