"""Events stand out of their own series: found where they are, none in a steady one, whatever brightness and noise."""

import numpy as np
import pytest
import torch

from crnn_cli.forecast.events import FollowedSlice, count_beats, follow_slice
from crnn_cli.forecast.surprise import error_db, surprise
from tests.support.beats import beating, small_network

CPU = torch.device("cpu")


def followed(series):
    return follow_slice(torch.from_numpy(series).movedim(-1, 0), small_network(), CPU)


def jumped(series, at):
    moved = series.copy()
    moved[..., at:] = np.roll(moved[..., at:], 4, axis=0)
    return moved


@pytest.mark.parametrize(("noise", "factor"), [(0.01, 1), (0.05, 1), (0.01, 1000)])
def test_a_jump_is_found_at_its_frame_and_a_steady_series_has_no_event(noise, factor):
    steady = factor * beating(frames=60, noise=noise)
    assert followed(steady).events() == []
    found = followed(jumped(steady, 44)).events()
    assert found[0].first == 44
    assert found[0].beats[0] == 5


def test_a_beat_that_comes_early_is_found():
    phases = np.concatenate([np.arange(35) / 10, 4 + np.arange(30) / 10])
    found = followed(beating(phases=phases)).events()
    assert found
    assert 33 <= found[0].first <= 37


def test_the_first_beat_is_not_judged():
    found = followed(beating(frames=40))
    assert not found.judged_T[:8].any()
    assert found.judged_T[12:].all()
    assert np.isnan(found.surprises[:8]).all()
    assert found.period == 10


def test_in_one_beat_nothing_is_judged():
    found = followed(beating(frames=9, period=20))
    assert not found.judged_T.any()
    assert found.period is None
    assert found.events() == []


def test_neighbours_are_one_event():
    errors = np.full(40, -40.0) + np.tile([0.0, 1.0], 20)
    errors[[20, 22, 23, 30]] = -10
    found = FollowedSlice(errors, np.ones(40, bool), np.arange(40) / 10, 10.0).events()
    assert [(each.first, each.last, each.beats) for each in found] == [(20, 23, (3,)), (30, 30, (4,))]


def test_the_worst_tenth_of_the_blocks_counts():
    frame, forecast = torch.zeros(40, 40), torch.zeros(40, 40)
    frame[:8, :8] = 1.0  # 4 of 100 blocks
    assert error_db(frame, forecast) == pytest.approx(10 * np.log10(0.4))
    assert error_db(forecast, forecast) == pytest.approx(-90)


def test_surprise_is_in_deviations_of_the_series_itself():
    rng = np.random.default_rng(0)
    errors, judged = rng.normal(-30, 2, 4000), np.ones(4000, bool)
    beats = np.arange(4000) / 20
    found = surprise(errors, judged, beats)
    assert np.std(found) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(surprise(errors + 7, judged, beats), found)
    usual_in_the_beat = 8 * np.sin(2 * np.pi * beats)
    assert np.std(surprise(errors + usual_in_the_beat, judged, beats)) == pytest.approx(1, abs=0.1)
    still = surprise(np.full(9, -30.0), np.ones(9, bool), np.arange(9) / 3)
    np.testing.assert_array_equal(still, 0)


def test_beats_are_counted_through_a_frame_that_recalls_nothing_and_over_two_beats():
    assert count_beats([0, 0, 0, 0, 4, 0, 4, 4, 8], 4.0).tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
