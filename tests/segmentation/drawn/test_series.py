"""Drawn slices stay as they are; frames are completed, then followed in both directions, round a closed cycle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.geometry import slice_order
from crnn_cli.segmentation.drawn.baselines import copy_nearest, interpolate_shapes
from crnn_cli.segmentation.drawn.methods import InterpolatedDistances, NearestSlice, RecurrentNetwork
from crnn_cli.segmentation.drawn.series import DrawnSeries, label_series
from crnn_cli.segmentation.drawn.stack import FillSettings
from tests.support.drawn import beating, image_of, small_network, truth

NUMBERS = np.array([0, 0, 1, 0, 0, 2], np.uint8)
SETTINGS = FillSettings(2)


def network():
    return RecurrentNetwork(small_network(), torch.device("cpu"))


METHODS = {"network": network, "distances": InterpolatedDistances, "nearest": NearestSlice}


def series_of(labels, known_TS, axis=2):
    image = image_of(labels)
    order = slice_order(image, axis)
    frames = labels if labels.ndim == 4 else labels[..., None]
    numbers = np.stack([order.to_slices(NUMBERS[frames[..., t]]) for t in range(frames.shape[3])])
    known = np.array(known_TS)
    return DrawnSeries(image, order, np.where(known[..., None, None], numbers, 0).astype(np.uint8), known, 2), numbers


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=6, deadline=None)
@given(known=st.lists(st.booleans(), min_size=9, max_size=9).filter(lambda k: any(k[1:8])))
def test_drawn_slices_stay_as_they_are(method, known):
    series, numbers = series_of(truth(), [known])
    made = label_series(series, METHODS[method](), SETTINGS)
    np.testing.assert_array_equal(made.numbers_TSYX[0][known], numbers[0][known])
    assert made.numbers_TSYX.max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_drawn_frames_are_completed_and_followed(method):
    known = np.zeros((4, 5), bool)
    known[2, [1, 3]] = True
    series, numbers = series_of(beating(4, 5), known)
    made = label_series(series, METHODS[method](), SETTINGS)
    np.testing.assert_array_equal(made.numbers_TSYX[2][known[2]], numbers[2][known[2]])
    alone, _ = series_of(beating(4, 5)[..., 2], known[2:3])
    np.testing.assert_array_equal(
        made.numbers_TSYX[2], label_series(alone, METHODS[method](), SETTINGS).numbers_TSYX[0]
    )
    assert made.numbers_TSYX[3].any()


def test_frames_between_two_drawn_ones_lie_between_them():
    known = np.zeros((8, 9), bool)
    known[[0, 4]] = True
    series, numbers = series_of(beating(), known)
    sizes = (label_series(series, InterpolatedDistances(), SETTINGS).numbers_TSYX > 0).sum(axis=(1, 2, 3))
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] > sizes[4]
    assert sizes[5] == sizes[4], "beyond the last drawn frame nothing is known"
    closed = label_series(series, InterpolatedDistances(), SETTINGS, closed=True).numbers_TSYX
    sizes = (closed > 0).sum(axis=(1, 2, 3))
    assert sizes[4] < sizes[5] < sizes[6] < sizes[7] < sizes[0], "the first frame follows the last"
    np.testing.assert_array_equal(closed[[0, 4]], numbers[[0, 4]])


def test_a_closed_cycle_does_not_depend_on_where_it_begins():
    known, labels = np.zeros((6, 4), bool), beating(6, slices=4)
    known[[0, 3]] = True
    first = label_series(series_of(labels, known)[0], network(), SETTINGS, closed=True).numbers_TSYX
    turned, _ = series_of(np.roll(labels, 2, axis=-1), np.roll(known, 2, axis=0))
    turned = DrawnSeries(
        type(turned.image)(np.roll(image_of(labels).array, 2, axis=-1), turned.image.affine), turned.order,
        turned.numbers_TSYX, turned.known_TS, 2,
    )  # fmt: skip
    second = label_series(turned, network(), SETTINGS, closed=True).numbers_TSYX
    np.testing.assert_array_equal(np.roll(first, 2, axis=0), second)


def test_progress_reaches_its_end_and_never_falls():
    known = np.zeros((3, 4), bool)
    known[0, [1, 2]] = True
    told = []
    label_series(
        series_of(beating(3, slices=4), known)[0], network(), SETTINGS, progress=lambda *each: told.append(each)
    )
    shares = [done / total for done, total in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_baselines_do_what_they_are_called():
    drawn = np.zeros((5, 9, 9), np.uint8)
    drawn[0, 3:6, 3:6], drawn[4, 1:8, 1:8] = 1, 1
    known = np.array([True, False, False, False, True])
    nearest = copy_nearest(drawn, known)
    np.testing.assert_array_equal(nearest[[1, 2, 3]], drawn[[0, 0, 4]])
    between = interpolate_shapes(drawn, known, (1.0, 1.0, 1.0))
    assert [int((each > 0).sum()) for each in between] == sorted(int((each > 0).sum()) for each in between)
    np.testing.assert_array_equal(between[[0, 4]], drawn[[0, 4]])
    np.testing.assert_array_equal(between[2, 2:7, 2:7], 1)
