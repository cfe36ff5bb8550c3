"""Conformal intervals: they hold as many new patients as they say, and are wider where the labels look worse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.cardiac.intervals import conformal_limit, doubt_of, phases_of, score, structure_of, with_interval
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.labels.interval_limits import IntervalLimits

LIMITS = IntervalLimits(0.9, 25, 0.04, {"left.ejection_fraction": 100.0, "left.edv": 2.0, "left.stroke_volume": 3.0})


def test_new_patients_lie_within_as_often_as_said():
    """Errors that grow with the doubt, of a heavy-tailed kind: 25 patients calibrate, others are held."""
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        doubt = rng.uniform(0.04, 0.2, 75)
        manual = rng.uniform(80, 250, 75)
        made = manual * (1 + doubt * rng.standard_t(3, 75) / 4).clip(0.2, None)
        name = "left.edv"
        seen = zip(made[:25], manual[:25], doubt[:25], strict=True)
        limit = conformal_limit([score(name, *each) for each in seen], 0.9)
        limits = IntervalLimits(0.9, 25, 0.04, {name: limit})
        for value, truth, each in zip(made[25:], manual[25:], doubt[25:], strict=True):
            found = with_interval(limits, name, Quantity(value, "ml"), each)
            held.append(found.low <= truth <= found.high)
    assert 0.9 <= np.mean(held) < 0.95


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=9, max_size=60), st.floats(0.5, 0.9))
def test_the_limit_leaves_out_no_more_than_the_level_allows(scores, level):
    limit = conformal_limit(scores, level)
    assert limit in scores
    assert sum(each <= limit for each in scores) >= level * (len(scores) + 1) - 1e-6
    assert sum(each < limit for each in scores) < level * (len(scores) + 1)


def test_too_few_patients_have_no_limit():
    with pytest.raises(ValueError, match="8 patients are too few"):
        conformal_limit([1.0] * 8, 0.9)


@given(st.floats(20, 300), st.floats(0.04, 0.5), st.floats(0.04, 0.5))
def test_worse_labels_have_wider_intervals(value, doubt, other):
    quantity = Quantity(value, "ml")
    one, two = (with_interval(LIMITS, "left.edv", quantity, each) for each in sorted((doubt, other)))
    assert two.low <= one.low <= value <= one.high <= two.high


def test_indexed_numbers_and_output_have_the_limits_of_what_they_are_made_of():
    edv = with_interval(LIMITS, "left.edv", Quantity(150.0, "ml"), 0.1)
    index = with_interval(LIMITS, "left.edv_index", Quantity(75.0, "ml/m2"), 0.1)
    assert (index.low, index.high) == (edv.low / 2, edv.high / 2)
    output = with_interval(LIMITS, "left.cardiac_output", Quantity(5.0, "l/min"), 0.1)
    assert (output.low, output.high, output.level) == (3.5, 6.5, 0.9)


def test_ends_stay_where_numbers_can_be():
    assert with_interval(LIMITS, "left.ejection_fraction", Quantity(70.0, "%"), 0.5).high == 100
    assert with_interval(LIMITS, "left.ejection_fraction", Quantity(10.0, "%"), 0.5).low == 0
    assert with_interval(LIMITS, "left.ejection_fraction", Quantity(-20.0, "%"), 0.1).low == -20  # phases exchanged
    assert with_interval(LIMITS, "left.edv", Quantity(100.0, "ml"), 0.9).low == 0
    assert with_interval(LIMITS, "right.edv", Quantity(100.0, "ml"), 0.1).low is None
    assert with_interval(LIMITS, "left.edv", Quantity.refused("ml", "one slice"), 0.1).low is None


def test_numbers_stand_on_structures_and_phases():
    assert [structure_of(each) for each in ("left.edv", "left.mass_ed", "right.esv")] == [
        "left ventricle", "myocardium", "right ventricle",
    ]  # fmt: skip
    assert [phases_of(each, 0, 9) for each in ("left.edv_index", "left.mass_es", "right.ejection_fraction")] == [
        (0,), (9,), (0, 9),
    ]  # fmt: skip
    assert doubt_of(LIMITS, [0.99, 0.97]) == 0.04
    assert doubt_of(LIMITS, [0.9, 0.8]) == pytest.approx(0.15)
