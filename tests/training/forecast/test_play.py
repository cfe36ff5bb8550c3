"""A cine played for many beats: what does not vary stays, what varies does so as it was asked for."""

import pytest
import torch

from crnn_cli.training.forecast.play import Variation, beat_places, displace, play, resample_time, with_noise
from crnn_cli.training.reconstruct.scenes import SceneRandom
from tests.support.beats import beating

CINE = torch.from_numpy(beating(frames=10, noise=0)).movedim(-1, 0)
NONE = Variation(rate=0, sway=0, turn=0, brightness=0, noise=0)


def test_without_variation_the_beats_repeat_the_cine():
    places = torch.arange(25.0)
    noisy, clean = play(CINE, places, NONE, SceneRandom(0))
    torch.testing.assert_close(clean, CINE[places.long() % 10], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(noisy, clean)


def test_each_beat_has_a_rate_of_its_own_and_time_goes_on():
    places = beat_places(100, 10, 0.8, 0.1, SceneRandom(0))
    steps, beats = places.diff(), (places[:-1] // 10).int()
    assert (steps > 0).all()
    for beat in beats.unique():
        within = steps[beats == beat]
        torch.testing.assert_close(within, within[:1].expand_as(within), rtol=1e-3, atol=1e-4)
    assert steps.std() > 0.01
    assert beat_places(100, 10, 0.8, 0.0, SceneRandom(0)).diff().std() < 1e-4


def test_between_frames_a_smooth_motion_is_read_well():
    t = torch.arange(20.0)
    wave = (2 + torch.sin(2 * torch.pi * t / 20))[:, None, None].expand(20, 2, 2)
    found = resample_time(wave, t + 0.5)[:, 0, 0]
    torch.testing.assert_close(found, 2 + torch.sin(2 * torch.pi * (t + 0.5) / 20), atol=1e-3, rtol=0)


def test_whole_pixels_and_half_turns_are_exact():
    series = torch.rand(2, 9, 9)
    moved = displace(series, torch.tensor([[2.0, -1.0]] * 2), torch.zeros(2))
    torch.testing.assert_close(moved[:, 2:, :-1], series[:, :-2, 1:])
    turned = displace(series, torch.zeros(2, 2), torch.full((2,), torch.pi))
    torch.testing.assert_close(turned, series.flip(1, 2), atol=1e-5, rtol=0)


def test_noise_is_that_of_a_magnitude():
    noisy = with_noise(torch.full((1, 100, 100), 5.0), 0.1, SceneRandom(0))
    assert noisy.std() == pytest.approx(0.1, rel=0.05)
    dark = with_noise(torch.zeros(1, 100, 100), 0.1, SceneRandom(0))
    assert dark.mean() == pytest.approx(0.1253, rel=0.05)  # Rayleigh
