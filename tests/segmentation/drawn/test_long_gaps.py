"""In long gaps between drawn slices a few slices are labelled first; what is drawn stays as it is."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.segmentation.drawn.methods import RecurrentNetwork, coarse_slices
from crnn_cli.segmentation.drawn.stack import DrawnStack, FillSettings
from tests.support.drawn import small_network


@given(st.lists(st.booleans(), min_size=1, max_size=90).filter(any))
def test_every_gap_is_cut_and_drawn_slices_are_among_the_first(known):
    known = np.array(known)
    drawn = np.flatnonzero(known)
    first = coarse_slices(known)
    edges = np.unique([0, *drawn, len(known) - 1])
    if first is None:
        assert (np.diff(edges) <= 8).all()
        return
    assert {*drawn} <= {*first}
    assert len(first) < len(known)
    again = known.copy()
    again[first] = True
    longest = [np.diff(np.unique([0, *np.flatnonzero(each), len(known) - 1])).max() for each in (known, again)]
    assert longest[1] <= max(8, -(-longest[0] // 8))


def test_a_long_stack_is_labelled_in_two_steps():
    rng = np.random.default_rng(0)
    drawn = np.zeros((20, 24, 24), np.uint8)
    drawn[[0, 19], 6:16, 6:16] = 1
    drawn[19, 14:20, 8:14] = 2
    known = np.isin(np.arange(20), [0, 19])
    stack = DrawnStack(rng.random(drawn.shape, np.float32), drawn, known, (2.0, 1.0, 1.0))
    told = []
    method = RecurrentNetwork(small_network(), torch.device("cpu"))
    made = method.fill(stack, FillSettings(2, keep_probabilities=True), lambda *each: told.append(each))
    np.testing.assert_array_equal(made.labels_SYX[known], drawn[known])
    first = coarse_slices(known)
    few = DrawnStack(stack.image_SYX[first], drawn[first], known[first], stack.spacing)
    alone = method.fill(few, FillSettings(2, keep_probabilities=True), lambda done, total: None)
    np.testing.assert_array_equal(made.labels_SYX[first], alone.labels_SYX)
    np.testing.assert_array_equal(made.certainty.doubtful_S[first], alone.certainty.doubtful_S)
    np.testing.assert_array_equal(made.probability_KSYX[:, first], alone.probability_KSYX)
    assert (made.certainty.doubtful_S[~known] > 0).all()
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
