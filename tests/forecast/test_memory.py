"""Memory recalls the frame of the beat before, in constant memory."""

import pytest
import torch

from crnn_cli.forecast.memory import MOST_FRAMES, FrameMemory
from tests.support.beats import beating


def filled(series):
    memory = FrameMemory()
    for frame in torch.from_numpy(series).movedim(-1, 0):
        memory.add(frame)
    return memory


@pytest.mark.parametrize("period", [7, 10, 16])
def test_in_a_later_beat_the_same_phase_is_recalled_and_what_followed(period):
    series = beating(frames=3 * period + 4, period=period, noise=0)
    memory = filled(series)
    assert memory.period == period
    assert memory.lag % period == 0
    for steps in range(3 * period):
        expected = beating(frames=1, noise=0, phases=[(3 * period + 3 + steps) / period])[..., 0]
        torch.testing.assert_close(memory.recalled(steps), torch.from_numpy(expected), atol=1e-2, rtol=0)


@pytest.mark.parametrize("series", [beating(frames=5, period=20), beating(frames=30, phases=[0] * 30), beating(1)])
def test_in_a_first_beat_and_where_nothing_moves_nothing_is_recalled(series):
    memory = filled(series)
    assert (memory.lag, memory.period) == (0, 0)
    torch.testing.assert_close(memory.recalled(3), torch.from_numpy(series[..., -1]))


def test_it_keeps_no_more_than_its_last_frames():
    memory = filled(beating(frames=3 * MOST_FRAMES))
    assert len(memory._frames) == len(memory._coarse) == MOST_FRAMES
    assert len(memory.distances) == MOST_FRAMES - 1


def test_what_the_network_reads_is_the_newest_and_the_recalled_frames():
    memory = filled(beating(frames=34))
    newest, recalled, following = memory.read()
    torch.testing.assert_close(newest, memory.newest)
    torch.testing.assert_close(recalled, memory.recalled(0))
    torch.testing.assert_close(following, memory.recalled(1))
    torch.testing.assert_close(memory.sources(3)[2:], torch.stack([memory.recalled(3), memory.recalled(4)]))
