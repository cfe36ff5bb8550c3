"""Where a network loses a part of a structure between two drawn slices, interpolated distances take its place."""

from dataclasses import replace

import numpy as np
import torch

from crnn_cli.segmentation.drawn.guard import LEAST_AREA, between_drawn, not_smaller
from crnn_cli.segmentation.drawn.methods import InterpolatedDistances, RecurrentNetwork
from crnn_cli.segmentation.drawn.settle import BoxedLogits
from crnn_cli.segmentation.drawn.stack import DrawnStack, FillSettings

BOX = slice(4, 28)


def cylinder(known=(1, 4), empty=(0, 7), slices=8):
    """Return a stack in which a square of 10 x 10 is drawn in some slices, and others are drawn empty."""
    drawn = np.zeros((slices, 32, 32), np.uint8)
    drawn[list(known), 10:20, 10:20] = 1
    is_known = np.isin(np.arange(slices), [*known, *empty])
    return DrawnStack(np.ones(drawn.shape, np.float32), drawn, is_known, (8.0, 1.5, 1.5))


def logits(stack, sides):
    """Return logits of squares with these sides, one a slice, in a box."""
    found = np.full((len(sides), 24, 24), -4, np.float16)
    for s, side in enumerate(sides):
        found[s, 6 : 6 + side, 6:16] = 4
    return BoxedLogits(1, BOX, BOX, found)


def test_a_slice_is_between_if_the_nearest_drawn_ones_on_both_sides_show_it():
    known = np.array([1, 0, 1, 0, 0, 1, 0], bool)
    for shows, expected in (([0, 2, 5], [1, 3, 4]), ([0, 5], []), ([2], []), ([2, 5], [3, 4])):
        assert np.flatnonzero(between_drawn(np.isin(np.arange(7), shows), known)).tolist() == expected


def test_only_slices_between_that_are_clearly_smaller_are_interpolated():
    stack, found = cylinder(), logits(cylinder(), [0, 10, 8, 9, 10, 0, 0, 0])
    made = not_smaller(stack, found)
    assert np.flatnonzero(made.interpolated_S).tolist() == [2], (
        "8 of 10 rows are too few, 9 are not; 5 is at the end, and may be empty"
    )
    assert 0.8 < LEAST_AREA < 0.9
    np.testing.assert_array_equal(np.delete(made.logits_SYX, 2, 0), np.delete(found.logits_SYX, 2, 0))
    np.testing.assert_array_equal(made.logits_SYX[2] > 0, stack.drawn_SYX[1, BOX, BOX] > 0)
    assert not_smaller(stack, logits(stack, [0, 10, 9, 12, 10, 0, 0, 0])).interpolated_S is None


class Loses:
    """Network that finds nothing."""

    def follow(self, image_SYX, distance_SYX, known_S, others_SYX=None, progress=lambda done, total: None):
        return torch.full_like(image_SYX, -5.0)


def test_a_network_that_finds_nothing_gives_the_interpolation_and_says_where():
    stack, settings = cylinder(), FillSettings(2)
    method = RecurrentNetwork(Loses(), torch.device("cpu"))
    made = method.fill(stack, settings, lambda done, total: None)
    interpolated = InterpolatedDistances().fill(stack, settings, lambda done, total: None)
    np.testing.assert_array_equal(made.labels_SYX[:5], interpolated.labels_SYX[:5])
    assert made.certainty.interpolated_SK.tolist() == [[s in (2, 3), False] for s in range(8)]
    assert interpolated.labels_SYX[5].any()
    assert not made.labels_SYX[5].any()


def test_frames_of_a_series_may_contract():
    made = RecurrentNetwork(Loses(), torch.device("cpu")).fill(
        replace(cylinder(), over_time=True), FillSettings(1), lambda done, total: None
    )
    assert not made.labels_SYX[2].any()
    assert not made.certainty.interpolated_SK.any()
