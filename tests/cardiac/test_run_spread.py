"""The reconstruction's part of an interval: nothing where runs agree, wider with their spread and for few runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.cardiac.function import Subject, assess_function
from crnn_cli.cardiac.intervals import BothPhases, Intervals, LabelDoubt, half_width
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.cardiac.run_spread import RunSpread
from crnn_cli.labels.interval_limits import IntervalLimits
from crnn_cli.report.function.table import record_of, ventricle_rows
from tests.cardiac.hearts import CHAMBERS, heart

EF = "left.ejection_fraction"
LABELS = LabelDoubt(IntervalLimits(0.9, 0.8, 25, 0.05, {EF: 5.0}), {"left ventricle": [0.96] * 20})


def spread(*numbers, left_out=0.25):
    return RunSpread({EF: numbers}, len(numbers), left_out)


def half(*numbers, value=57.0, level=0.9, left_out=0.25):
    return spread(*numbers, left_out=left_out).half_width(EF, value, level)


def test_runs_that_agree_with_the_images_leave_nothing_open():
    assert half(*[57.0] * 4) == 0


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=16), st.floats(1, 10))
def test_it_grows_with_the_spread_and_the_level_and_the_less_is_left_out(changes, factor):
    one, wider = (half(*(57 + f * change for change in changes)) for f in (1, factor))
    assert wider == pytest.approx(factor * one, abs=1e-9)
    assert half(*(57 + c for c in changes), level=0.8) <= one <= half(*(57 + c for c in changes), left_out=0.1)


def test_few_runs_widen_it():
    widths = [half(*([56.0, 58.0] * pairs)) for pairs in (2, 3, 4, 8)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.3 * widths[-1]


def test_all_runs_to_one_side_count():
    """Not the spread about the mean of the runs: what all of them change in one direction is open as well."""
    assert half(58.0, 58.0, 58.0, 58.0) == half(58.0, 56.0, 58.0, 56.0) > 3


@pytest.mark.parametrize("runs", [4, 8])
def test_it_holds_the_truth_as_often_as_said(runs):
    """The mean of independent lines, of which each run leaves out another quarter."""
    rng, held = np.random.default_rng(0), []
    for _ in range(4000):
        lines = rng.normal(57, 10, 16)
        numbers = []
        for _ in range(runs // 4):
            parts = rng.permutation(16).reshape(4, 4)
            numbers += [np.delete(lines, part).mean() for part in parts]
        held.append(abs(lines.mean() - 57) <= half(*numbers, value=lines.mean()))
    assert 0.88 <= np.mean(held) < 0.93


def function(intervals):
    found = assess_function(heart(), CHAMBERS, Subject(2.0, "mosteller"))
    return replace(found, intervals=intervals(found.numbers()))


def moved(numbers, points):
    """Four runs, in which every number is off by so many per cent up or down."""
    return {
        name: [None if value is None else value * (1 + sign * points / 100) for sign in (1, -1, 1, -1)]
        for name, value in numbers.items()
    }


def test_both_parts_are_told_and_make_one_interval():
    both = function(lambda numbers: Intervals(LABELS, RunSpread(moved(numbers, 1), 4, 0.25)))
    fraction = both.quantities()["left"]["ejection_fraction"]
    edv, esv = (both.quantities()["left"][word].value for word in ("edv", "esv"))
    labels = half_width(LABELS.limits, EF, fraction.value, BothPhases(edv, esv, 0.09, 0.09))
    assert fraction.parts["labels"] == pytest.approx(labels)
    assert fraction.parts["reconstruction"] == pytest.approx(2.353 * 3**0.5 * fraction.value / 100, rel=1e-3)
    assert fraction.high - fraction.value == pytest.approx(np.hypot(*fraction.parts.values()))
    text = next(row for row in ventricle_rows(both) if row[0] == "ejection fraction")[1]
    low, high, other = fraction.low, fraction.high, fraction.parts["reconstruction"]
    assert text == f"{fraction.value:.0f} % ({low:.0f} to {high:.0f}; labels {labels:.1f}, reconstruction {other:.1f})"
    report = both.as_json()
    assert report["intervals"] == {
        "level": 0.9, "group_level": 0.8, "parts": ["labels", "reconstruction"], "patients": 25, "runs": 4,
        "left_out": 0.25,
    }  # fmt: skip
    row = record_of(report)
    assert row["left_ejection_fraction_percent_labels"] == pytest.approx(labels, rel=1e-4)
    assert row["left_ejection_fraction_percent_reconstruction"] == pytest.approx(other, rel=1e-4)
    edv = both.quantities()["left"]["edv"]  # without a limit: of the reconstruction alone
    assert {*edv.parts} == {"reconstruction"}
    index = both.quantities()["left"]["edv_index"]
    assert (index.low, index.high) == (pytest.approx(edv.low / 2), pytest.approx(edv.high / 2))


def test_without_limits_the_interval_is_of_the_reconstruction_alone_and_says_so():
    found = function(lambda numbers: Intervals(None, RunSpread(moved(numbers, 1), 4, 0.25)))
    assert found.as_json()["intervals"]["parts"] == ["reconstruction"]
    assert "reconstruction alone" in found.intervals.text()
    assert {*found.quantities()["left"]["ejection_fraction"].parts} == {"reconstruction"}
    assert found.quantities()["heart"]["cardiac_output"].level == 0.9


def test_labels_alone_are_told_as_before():
    found = function(lambda _: Intervals(LABELS))
    fraction = found.quantities()["left"]["ejection_fraction"]
    assert "labels" not in fraction.text()
    assert "left_ejection_fraction_percent_labels" not in record_of(found.as_json())
    assert found.as_json()["intervals"]["parts"] == ["labels"]


def test_a_number_that_a_run_lacks_has_no_interval_and_what_no_image_shows_no_part():
    numbers = {EF: [57.0, 57.0, None, 57.0], "left.heart_rate": [60.0] * 4}
    with_runs = Intervals(LABELS, RunSpread(numbers, 4, 0.25))
    found = {"ejection_fraction": Quantity(57.0, "%"), "heart_rate": Quantity(60.0, "/min")}
    volumes = {"edv": Quantity(150.0, "ml"), "esv": Quantity(64.5, "ml")}
    made = with_runs.with_intervals("left", found, volumes, 0, 9)
    assert [(each.low, each.parts) for each in made.values()] == [(None, {})] * 2


def test_without_a_part_of_the_labels_that_belongs_to_a_number_it_has_none():
    """A model with a limit for it, and volumes that are not known: the spread of the runs would be too small."""
    with_runs = Intervals(LABELS, RunSpread({EF: [57.0, 58.0, 57.0, 56.0], "left.esv": [60.0] * 4}, 4, 0.25))
    found = {"ejection_fraction": Quantity(57.0, "%"), "esv": Quantity(60.0, "ml")}
    made = with_runs.with_intervals("left", found, {"edv": Quantity.refused("ml", "the voxel size is lost")}, 0, 9)
    assert made["ejection_fraction"].parts == {}
    assert {*made["esv"].parts} == {"reconstruction"}  # no limit
