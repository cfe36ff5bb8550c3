"""A slice that is followed: nothing is read ahead, errors are those of the forecasts, scale does not matter."""

import numpy as np
import pytest
import torch

from crnn_cli.forecasting.check import ForecastCheck
from crnn_cli.forecasting.forecast import forecast_slice
from crnn_cli.forecasting.stream import SliceStream
from tests.support.beats import beating, small_network

CPU = torch.device("cpu")


def frames_of(series):
    return torch.from_numpy(series).movedim(-1, 0)


def test_a_forecast_follows_from_the_frames_before_it_alone():
    series = frames_of(beating(frames=30))
    other = series.clone()
    other[20:] = torch.rand_like(other[20:])
    forecasts = []
    for each in (series, other):
        stream = SliceStream(small_network(), CPU)
        for frame in each[:20]:
            stream.add(frame)
        forecasts.append(stream.forecast(3))
    torch.testing.assert_close(*forecasts, rtol=0, atol=0)


def test_in_a_still_series_the_forecast_is_the_last_frame():
    still = frames_of(beating(frames=6, phases=[0.2] * 6, noise=0))
    found = forecast_slice(still, 6, 4, small_network(), CPU)
    torch.testing.assert_close(found.frames_KYX, still[:4], rtol=0, atol=1e-3)
    assert found.recalled_KYX is None
    assert [error.rms for error in found.check.expected()] == pytest.approx([0] * 4, abs=1e-4)


def test_brightness_passes_through():
    series = frames_of(beating(frames=25))
    one, ten = (forecast_slice(factor * series, 25, 2, small_network(), CPU) for factor in (1, 10))
    torch.testing.assert_close(ten.frames_KYX, 10 * one.frames_KYX, rtol=1e-4, atol=1e-2)
    assert ten.check.expected()[0].rms == pytest.approx(10 * one.check.expected()[0].rms, rel=1e-3)


def test_expected_errors_are_those_of_the_forecasts_that_could_be_compared():
    series = frames_of(beating(frames=14))
    network = small_network()
    squares = [[] for _ in range(3)]
    for t in range(13):
        stream = SliceStream(network, CPU)
        for frame in series[: t + 1]:
            stream.add(frame)
        for k, made in enumerate(stream.forecast(3)):
            if t + 1 + k < 14:
                squares[k].append(float((made - series[t + 1 + k]).square().mean()))
    found = forecast_slice(series, 14, 3, network, CPU).check.expected()
    assert [each.forecasts for each in found] == [13, 12, 11]
    np.testing.assert_allclose([each.rms for each in found], [np.sqrt(np.mean(s)) for s in squares], rtol=1e-4)
    assert all(each.high >= each.rms * 0.5 for each in found)


@pytest.mark.parametrize("unit", [1e35, 1e-35])
def test_errors_of_very_large_and_small_values_are_stated(unit):
    check = ForecastCheck(1)
    check.keep(torch.zeros(1, 4, 4))
    check.compare(torch.full((4, 4), 3 * unit))
    assert check.expected()[0].rms == pytest.approx(3 * unit)


def test_of_few_forecasts_no_share_is_stated_and_of_none_nothing():
    check = ForecastCheck(2)
    check.keep(torch.zeros(2, 2, 2))
    check.compare(torch.ones(2, 2))
    first, second = check.expected()
    assert (first.rms, first.high, first.forecasts) == (1.0, None, 1)
    assert second is None


def test_nothing_is_forecast_from_nothing():
    with pytest.raises(ValueError, match="nothing to forecast from"):
        SliceStream(small_network(), CPU).forecast(1)
