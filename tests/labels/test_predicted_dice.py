"""The expected Dice is what drawing the truth from the probabilities gives; curves are monotone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.labels.predicted_dice import expected_dice
from crnn_cli.labels.quality_curves import QualityCurves
from crnn_cli.segmentation.segment import labels_from_probabilities


def probabilities(seed, classes=3, shape=(14, 12, 6), sharp=2.0):
    rng = np.random.default_rng(seed)
    logits = sharp * rng.standard_normal((classes, *shape))
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    return p.astype(np.float32), rng


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6))
def test_it_is_the_mean_dice_of_truths_drawn_from_the_probabilities(seed, sharp):
    p, rng = probabilities(seed, sharp=sharp)
    labels = labels_from_probabilities(p, 0.5)
    thresholds = p.cumsum(axis=0)
    found = np.zeros(2)
    for _ in range(60):
        truth = (rng.random(labels.shape) > thresholds[:-1]).sum(axis=0)
        for value in (1, 2):
            ours, theirs = labels == value, truth == value
            found[value - 1] += 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) / 60
    np.testing.assert_allclose(expected_dice(p, labels), found, atol=0.03)


def test_certain_labels_are_perfect_and_none_are_worth_nothing():
    p, _ = probabilities(0)
    labels = p.argmax(axis=0).astype(np.uint8)
    certain = np.stack([labels == k for k in range(3)]).astype(np.float32)
    assert expected_dice(certain, labels) == pytest.approx((1, 1))
    assert expected_dice(p, np.zeros_like(labels)) == (0, 0)


def test_what_was_removed_does_not_count():
    p, _ = probabilities(1)
    labels = p.argmax(axis=0).astype(np.uint8)
    far = np.zeros(labels.shape, bool)
    far[10:] = True
    kept = np.where(far, 0, labels).astype(np.uint8)
    near = expected_dice(p[:, :10], labels[:10])
    assert expected_dice(p, kept, far) == pytest.approx(near)
    assert all(a < b for a, b in zip(expected_dice(p, kept), near, strict=True))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_a_curve_rises_within_the_measured_range(knots, first, second):
    expected, dice = (tuple(sorted(values)) for values in zip(*knots, strict=True))
    curves = QualityCurves((expected,), (dice,), 0.7)
    low, high = (curves.predict(1, value) for value in sorted((first, second)))
    assert low <= high
    assert curves.predict(1, 0.0) == 0
    assert first == 0 or dice[0] <= curves.predict(1, first) <= dice[-1] + 1e-12
    if len(set(expected)) == len(expected) and first > 0:
        assert curves.predict(1, first) == pytest.approx(np.interp(first, expected, dice))
