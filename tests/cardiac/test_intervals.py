"""Conformal intervals: they hold as many new patients as they say, and are wider where the labels look worse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.cardiac.intervals import (
    BothPhases,
    Intervals,
    LabelDoubt,
    conformal_limit,
    half_width,
    limit_of_groups,
    score,
    structure_of,
    with_parts,
)
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.labels.interval_limits import IntervalLimits

LIMITS = IntervalLimits(
    0.9, 0.8, 25, 0.05,
    {"left.ejection_fraction": 5.0, "left.edv": 6.0, "left.esv": 6.0, "left.stroke_volume": 8.0, "left.mass_es": 4.0},
)  # fmt: skip
DOUBT = LabelDoubt(LIMITS, {"left ventricle": [0.96, 0.9], "myocardium": [0.9, 0.8]})
MEASURED = {
    "edv": Quantity(150.0, "ml"), "esv": Quantity(60.0, "ml"), "stroke_volume": Quantity(90.0, "ml"),
    "ejection_fraction": Quantity(60.0, "%"), "mass_ed": Quantity(100.0, "g"), "mass_es": Quantity(110.0, "g"),
    "edv_index": Quantity(75.0, "ml/m2"),
}  # fmt: skip


def with_intervals(**changes):
    return Intervals(DOUBT).with_intervals("left", MEASURED | changes, MEASURED | changes, 0, 1)


def test_new_patients_lie_within_as_often_as_said():
    """Errors that grow with the doubt, of a heavy-tailed kind: 25 patients calibrate, others are held."""
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        doubt = rng.uniform(0.05, 0.2, 75)
        made = rng.uniform(80, 250, 75)
        manual = made + doubt * np.sqrt(made) * rng.standard_t(3, 75)
        seen = [BothPhases(volume, 0, each, each) for volume, each in zip(made, doubt, strict=True)]
        scores = [score("left.edv", *each) for each in zip(made, manual, seen, strict=True)]
        limits = IntervalLimits(0.9, 0, 25, 0.05, {"left.edv": conformal_limit(scores[:25], 0.9)})
        for value, truth, each in list(zip(made, manual, seen, strict=True))[25:]:
            held.append(abs(truth - value) <= half_width(limits, "left.edv", value, each))
    assert 0.9 <= np.mean(held) < 0.95


def test_a_group_that_errs_more_is_held_as_well():
    """One of five groups has twice the errors of the others: by one limit for all it is held too seldom."""
    rng, spread, held = np.random.default_rng(0), (1, 1, 1, 1, 2.5), []
    for _ in range(2000):
        scores = {str(k): list(np.abs(rng.normal(0, size, 5))) for k, size in enumerate(spread)}
        new = abs(rng.normal(0, spread[-1]))
        limits = [limit_of_groups(scores, 0.9, level) for level in (0, 0.8)]
        held.append([new <= limit for limit in limits])
    plain, by_group = np.mean(held, axis=0)
    assert plain < 0.78
    assert by_group >= 0.8


@given(st.lists(st.floats(0, 10), min_size=9, max_size=40), st.lists(st.floats(0, 10), min_size=9, max_size=40))
def test_the_limit_of_groups_is_no_less_than_any_of_theirs(one, other):
    limit = limit_of_groups({"one": one, "other": other}, 0.9, 0.8)
    assert limit == max(conformal_limit(one + other, 0.9), conformal_limit(one, 0.8), conformal_limit(other, 0.8))
    assert limit_of_groups({"one": one, "other": other}, 0.9, 0) == conformal_limit(one + other, 0.9)


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


@given(st.floats(20, 300), st.floats(5, 100), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_worse_labels_have_wider_intervals(edv, esv, doubt, other):
    one, two = (BothPhases(edv, esv, each, 0.1) for each in sorted((doubt, other)))
    for word in ("edv", "stroke_volume", "ejection_fraction"):
        assert one.expected_error(word) <= two.expected_error(word)
    assert one.expected_error("esv") == two.expected_error("esv")


@given(st.floats(60, 300), st.floats(0.1, 0.9), st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_errors_of_what_is_made_of_two_volumes_follow_from_theirs(edv, part, doubt_ed, doubt_es):
    """Independent: small random errors of both volumes, of which the numbers are computed."""
    both = BothPhases(edv, part * edv, doubt_ed, doubt_es)
    rng, tiny = np.random.default_rng(0), 1e-3
    ed = edv + tiny * both.expected_error("edv") * rng.standard_normal(20000)
    es = part * edv + tiny * both.expected_error("esv") * rng.standard_normal(20000)
    assert np.std(ed - es) == pytest.approx(tiny * both.expected_error("stroke_volume"), rel=0.03)
    assert np.std(100 * (ed - es) / ed) == pytest.approx(tiny * both.expected_error("ejection_fraction"), rel=0.03)


def test_doubts_are_those_of_the_frames_and_the_structure():
    made = with_intervals()
    assert made["edv"].parts["labels"] == pytest.approx(6 * 0.09 * math.sqrt(150))
    assert made["esv"].parts["labels"] == pytest.approx(6 * 0.15 * math.sqrt(60))
    assert made["mass_es"].parts["labels"] == pytest.approx(4 * 0.25 * math.sqrt(110))
    assert made["mass_ed"].low is None  # the model has no limit for it


def test_indexed_numbers_and_output_have_the_limits_of_what_they_are_made_of():
    made = with_intervals()
    edv, index = made["edv"], made["edv_index"]
    assert (index.low, index.high) == (pytest.approx(edv.low / 2), pytest.approx(edv.high / 2))
    found = {"cardiac_output": Quantity(5.0, "l/min"), "heart_rate": Quantity(60.0, "/min")}
    output = Intervals(DOUBT).with_intervals("left", found, MEASURED, 0, 1)
    relative = made["stroke_volume"].parts["labels"] / 90
    assert output["cardiac_output"].parts["labels"] == pytest.approx(5 * relative)
    assert output["cardiac_output"].level == 0.9
    assert output["heart_rate"].low is None


def test_without_millilitres_nothing_has_an_interval():
    """Errors do not grow in proportion to volumes: without these, that of a ratio is not known either."""
    none = Quantity.refused("ml", "the voxel size is lost")
    made = with_intervals(edv=none, esv=none, stroke_volume=none)
    assert made["ejection_fraction"].value == 60
    assert made["ejection_fraction"].low is None
    assert made["mass_es"].low is not None


def test_one_frame_has_intervals_of_what_it_has():
    none = Quantity.refused("ml", "one frame")
    made = with_intervals(esv=none, stroke_volume=none, ejection_fraction=none)
    assert made["edv"].parts == with_intervals()["edv"].parts
    assert made["ejection_fraction"].low is None


def test_ends_stay_where_numbers_can_be():
    def ends(name, value, half):
        found = with_parts(name, Quantity(value, ""), {"labels": half}, 0.9)
        return found.low, found.high

    assert ends("left.ejection_fraction", 70.0, 40.0) == (30, 100)
    assert ends("left.ejection_fraction", 10.0, 40.0) == (0, 50)
    assert ends("left.ejection_fraction", -20.0, 10.0) == (-20, -10)  # phases exchanged
    assert ends("left.edv", 100.0, 120.0) == (0, 220)
    assert with_parts("left.edv", Quantity.refused("ml", "one slice"), {"labels": 1.0}, 0.9).low is None


def test_numbers_stand_on_structures():
    assert [structure_of(each) for each in ("left.edv", "left.mass_ed", "right.esv")] == [
        "left ventricle", "myocardium", "right ventricle",
    ]  # fmt: skip
