"""A slice at the base leaves a cine only where it is out in most of the frames around; other frames are as before."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.labels.doubtful_base import drop_doubtful_base
from crnn_cli.segmentation.base_slices import drop_over_frames
from crnn_cli.segmentation.frames import FrameWindow
from tests.labels.test_doubtful_base import ATRIUM, TAPERED, stack

RULE = BaseRule([0], [0.45])
KEPT, DOUBTFUL, EMPTY = "kept", "doubtful", "empty"
BASE = {KEPT: (0, 32), DOUBTFUL: ATRIUM[0], EMPTY: (0, 0)}


def frame(kind):
    """Labels and probabilities of a stack whose first slice is one of three kinds."""
    return stack([BASE[kind], *TAPERED])


def windows(frames):
    return st.builds(FrameWindow, st.just(2), st.just(frames), st.booleans())


CINES = st.lists(st.sampled_from([*BASE]), min_size=5, max_size=12).flatmap(
    lambda kinds: st.tuples(st.just(kinds), windows(len(kinds)), st.permutations(range(len(kinds))))
)


@settings(deadline=None, max_examples=60)
@given(CINES)
def test_a_doubtful_slice_leaves_where_most_frames_around_lack_it(case):
    kinds, window, order = case
    given_frames = [frame(kind) for kind in kinds]
    found = {t: labels for t, labels, _ in drop_over_frames(((t, *given_frames[t]) for t in order), 2, RULE, window)}
    assert sorted(found) == list(range(len(kinds)))
    for t, kind in enumerate(kinds):
        around = [kinds[one] for one in window.around(t)]
        leaves = kind == DOUBTFUL and around.count(KEPT) < len(around) / 2
        wanted = given_frames[t][0].copy()
        if leaves:
            wanted[..., 0] = 0
        np.testing.assert_array_equal(found[t], wanted)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([*BASE]), min_size=1, max_size=6))
def test_without_a_window_each_frame_is_judged_by_itself(kinds):
    given_frames = [(t, *frame(kind)) for t, kind in enumerate(kinds)]
    found = list(drop_over_frames(given_frames, 2, RULE, None))
    assert [t for t, *_ in found] == list(range(len(kinds)))
    for (_, labels, p), (_, kept, same) in zip(given_frames, found, strict=True):
        np.testing.assert_array_equal(kept, drop_doubtful_base(labels, p, 2, RULE))
        np.testing.assert_array_equal(same, p)


def test_frames_without_a_doubt_are_not_kept_waiting():
    asked = []

    def frames(kinds):
        for t, kind in enumerate(kinds):
            asked.append(t)
            yield t, *frame(kind)

    window = FrameWindow(2, 9, False)
    for t, *_ in drop_over_frames(frames([KEPT] * 9), 2, RULE, window):
        assert asked == list(range(t + 1))
    asked.clear()
    came = [
        (t, len(asked)) for t, *_ in drop_over_frames(frames([*[KEPT] * 4, DOUBTFUL, *[KEPT] * 4]), 2, RULE, window)
    ]
    assert came == [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (6, 7), (4, 7), (7, 8), (8, 9)]
