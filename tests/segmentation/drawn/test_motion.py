"""Shapes are carried through frames by their motion, from the drawn frames on either side, and told to a network."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.segmentation.drawn.frames import LONGEST_GAP, dealt_frames
from crnn_cli.segmentation.drawn.methods import RecurrentNetwork
from crnn_cli.segmentation.drawn.motion import moved_shapes
from crnn_cli.segmentation.drawn.stack import DrawnStack, FillSettings

FRAMES, CLOSED = 9, [0, 8]


def contracting(known, factors, shift=0.0):
    """Return a stack over time of two rings that contract by a factor, move along the rows, and its truth."""
    y, x = np.mgrid[:44, :48].astype(np.float32)
    truth = []
    for t, factor in enumerate(factors):
        r = np.hypot(1.2 * (y - 21 - shift * t), x - 24) / factor
        truth.append(np.where(r < 8, 1, np.where(r < 14, 2, 0)))
    truth = np.array(truth, np.uint8)
    texture = 8 * np.sin(x / 3) * np.cos(y / 4)
    image = np.array([200, 300, 90], np.float32)[truth] + texture
    is_known = np.isin(np.arange(len(factors)), known)
    drawn = truth * is_known[:, None, None]
    return DrawnStack(image.astype(np.float32), drawn, is_known, (1.0, 1.2, 1.0), over_time=True), truth


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def beat(least):
    return 1 - (1 - least) * np.sin(np.pi * np.arange(FRAMES) / (FRAMES - 1)) ** 2


@pytest.mark.parametrize("known", [CLOSED, [0], [8]])
def test_shapes_follow_what_contracts(known):
    stack, truth = contracting(known, beat(0.65))
    moved = moved_shapes(stack)
    assert [*moved] == [1, 2]
    for t in range(FRAMES):
        for number, least in ((1, 0.9), (2, 0.85)):
            assert dice(moved[number][t] > 0, truth[t] == number) > least, (t, number)
    assert dice(truth[0] == 1, truth[4] == 1) < 0.75, "the shape as it was drawn would not do"


def test_shapes_follow_a_long_way():
    stack, truth = contracting([0], np.ones(FRAMES), shift=1.2)
    moved = moved_shapes(stack)
    assert dice(moved[1][8] > 0, truth[8] == 1) > 0.85
    assert dice(truth[0] == 1, truth[8] == 1) < 0.5


@pytest.mark.parametrize("known", [[0], [3], [0, 4]])
def test_what_does_not_move_stays_and_drawn_frames_are_as_drawn(known):
    stack, truth = contracting(known, np.ones(5))
    for number, found in moved_shapes(stack).items():
        np.testing.assert_array_equal(found > 0, truth == number)


def test_a_structure_that_ends_fades_between_the_drawn_frames():
    stack, _ = contracting(CLOSED, np.ones(FRAMES))
    stack.drawn_SYX[8][stack.drawn_SYX[8] == 1] = 0
    found = moved_shapes(stack)[1] > 0
    assert found[:4].any(axis=(1, 2)).all()
    assert not found[5:].any()


def test_progress_reaches_its_end():
    told = []
    moved_shapes(contracting([0, 3], np.ones(4))[0], lambda *each: told.append(each))
    assert told == [(done, 4) for done in range(1, 5)], "both ways through two frames"


@given(st.lists(st.booleans(), min_size=1, max_size=70).filter(any))
def test_every_open_frame_is_dealt_once_and_drawn_ones_always(known):
    known = np.array(known)
    dealt = dealt_frames(known)
    counts = np.bincount(np.concatenate(dealt), minlength=len(known))
    assert (counts[~known] == 1).all()
    assert (counts[known] == len(dealt)).all()
    for frames in dealt:
        assert (np.diff(frames) > 0).all()
        places = np.flatnonzero(known[frames])
        assert (np.diff(places) <= LONGEST_GAP).all()
        assert places[0] <= LONGEST_GAP
        assert len(frames) - 1 - places[-1] <= LONGEST_GAP


class Told:
    """A network that finds what it is told."""

    def follow(self, image_SYX, distance_SYX, known_S, others_SYX=None, progress=lambda done, total: None):
        assert others_SYX is not None
        assert len(image_SYX) == len(distance_SYX) == len(known_S) == len(others_SYX)
        assert bool(((distance_SYX > 1) & (others_SYX > 1)).any()) is False
        progress(1, 1)
        return torch.where(known_S[:, None, None], 0, distance_SYX)


def test_a_network_is_told_where_the_motion_leads():
    stack, truth = contracting([0], beat(0.65)[[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4]])
    made = RecurrentNetwork(Told(), torch.device("cpu")).fill(stack, FillSettings(2), lambda done, total: None)
    np.testing.assert_array_equal(made.labels_SYX[0], truth[0])
    moved = moved_shapes(stack)
    for number in (1, 2):
        assert dice(made.labels_SYX[10] == number, moved[number][10] > 0) > 0.95
        assert dice(made.labels_SYX[10] == number, truth[10] == number) > 0.85
