"""Latencies and pace."""

import numpy as np
import pytest

from crnn_cli.compute import clock
from crnn_cli.compute.clock import Latency, Pace


def test_quantiles_are_those_of_the_latencies_to_one_per_cent():
    values = np.random.default_rng(0).lognormal(-3, 1, 2000)
    latency = Latency()
    for value in values:
        latency.add(float(value))
    for share in (0.01, 0.5, 0.9, 0.99):
        assert latency.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=0.01)
    assert latency.worst == values.max() == pytest.approx(latency.quantile(1), rel=0.01)
    assert latency.total == pytest.approx(values.sum())


def test_latencies_beyond_the_histogram_count():
    latency = Latency()
    for seconds in (0.0, 5000.0, 5000.0):
        latency.add(seconds)
    assert latency.quantile(0.5) == pytest.approx(5000, rel=0.01)
    assert latency.quantile(0.3) <= 1e-5
    assert np.isnan(Latency().quantile(0.5))


def test_frames_are_waited_for_and_those_that_are_late_are_not(monkeypatch):
    time, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        time[0] += seconds

    monkeypatch.setattr(clock, "now", lambda: time[0])
    monkeypatch.setattr(clock.time, "sleep", sleep)
    pace = Pace()
    assert pace.wait(0.5) == 100.0
    time[0] += 0.01
    assert pace.wait(0.54) == pytest.approx(100.04)
    assert slept == [pytest.approx(0.03)]
    time[0] += 1.0
    assert pace.wait(0.58) == pytest.approx(100.08)  # due long ago
    assert len(slept) == 1
