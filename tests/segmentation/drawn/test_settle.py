"""Structures are settled to one label a voxel; probabilities add up to one; drawn slices stay as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.labels.predicted_dice import expected_dice
from crnn_cli.segmentation.drawn.settle import BoxedLogits, settle
from crnn_cli.segmentation.drawn.stack import DrawnStack, FillSettings


def stack_of(shape=(4, 6, 5), known=(0,)):
    drawn = np.zeros(shape, np.uint8)
    known_S = np.isin(np.arange(shape[0]), known)
    drawn[known_S, 1:4, 1:3] = 2
    drawn[known_S, 4, 1:3] = 1
    return DrawnStack(np.zeros(shape, np.float32), drawn, known_S, (8.0, 1.0, 1.0))


def logits_of(stack, seed, count=3):
    rng = np.random.default_rng(seed)
    found = [BoxedLogits(1, slice(0, 4), slice(1, 5), rng.normal(0, 3, (4, 4, 4)))]
    found += [BoxedLogits(k, slice(None), slice(None), rng.normal(0, 3, stack.drawn_SYX.shape)) for k in (2, 3)]
    return found[:count]


def reference(stack, logits, threshold):
    """Labels and probabilities with no box, all at once."""
    whole = np.full((4, *stack.drawn_SYX.shape), -np.inf)
    whole[0] = 0
    for each in logits:
        whole[each.number][:, each.rows, each.columns] = each.logits_SYX
    odds = np.exp(whole)
    p = odds / odds.sum(axis=0)
    labels = np.where(p[1:].sum(axis=0) >= threshold, p[1:].argmax(axis=0) + 1, 0)
    return np.where(stack.known_S[:, None, None], stack.drawn_SYX, labels), p


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.9]))
def test_boxes_slice_by_slice_are_what_all_at_once_gives(seed, threshold):
    stack = stack_of()
    logits = logits_of(stack, seed)
    made = settle(stack, logits, FillSettings(3, threshold, keep_probabilities=True))
    labels, p = reference(stack, logits, threshold)
    np.testing.assert_array_equal(made.labels_SYX, labels)
    open_S = ~stack.known_S
    np.testing.assert_allclose(made.probability_KSYX[:, open_S], p[:, open_S], atol=1e-5)
    np.testing.assert_allclose(made.probability_KSYX.sum(axis=0), 1, atol=1e-5)
    found = made.certainty.expected_dice(open_S)
    wanted = expected_dice(p[:, open_S].astype(np.float32), labels[open_S].astype(np.uint8))
    assert found == pytest.approx(wanted, abs=1e-4)
    right = np.take_along_axis(p, labels[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(made.certainty.doubtful_S[open_S], (1 - right).sum(axis=(1, 2))[open_S], rtol=1e-4)


def test_drawn_slices_are_certain():
    stack = stack_of(known=(1, 3))
    made = settle(stack, logits_of(stack, 0), FillSettings(3))
    assert (made.certainty.doubtful_S[[1, 3]] == 0).all()
    assert (made.certainty.doubtful_S[[0, 2]] > 0).all()
    assert made.certainty.expected_dice(stack.known_S) == [1.0, 1.0, None]


def test_labels_made_otherwise_are_kept_and_judged():
    stack = stack_of()
    given_SYX = np.full(stack.drawn_SYX.shape, 3, np.uint8)
    made = settle(stack, logits_of(stack, 1), FillSettings(3), given_SYX)
    assert (made.labels_SYX[1:] == 3).all()
    assert (made.labels_SYX[0] == stack.drawn_SYX[0]).all()
