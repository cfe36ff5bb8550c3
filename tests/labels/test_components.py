"""Largest connected component of each label: laws, hand-made cases, and SciPy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crnn_cli.labels.components import component_sizes, keep_largest, keep_near_largest

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
MAPS = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 7])))


def canvas(*boxes, shape=(9, 9, 9)):
    """Return a label map with boxes of labels: (value, x, y, z), each place a slice or an index."""
    labels = np.zeros(shape, np.uint8)
    for value, *place in boxes:
        labels[tuple(place)] = value
    return labels


def test_only_the_largest_piece_of_each_label_stays():
    large = [(1, slice(0, 3), slice(0, 3), slice(0, 2)), (2, slice(5, 9), 5, 5)]
    small = [(1, slice(6, 8), 0, 0), (1, 8, 8, 8), (2, 0, 8, slice(0, 3))]
    kept, removed = keep_largest(canvas(*large, *small), [1, 2])
    np.testing.assert_array_equal(kept, canvas(*large))
    assert removed == {1: 3, 2: 3}


@pytest.mark.parametrize("step", list(itertools.product((0, 1), repeat=3)))
def test_voxels_hang_together_by_faces_edges_and_corners(step):
    labels = canvas((1, 3, 3, 3), (1, *(3 + s for s in step)), (1, 7, 7, 7))
    kept, _ = keep_largest(labels, [1])
    assert kept[7, 7, 7] == (step == (0, 0, 0))
    assert kept[3, 3, 3] == 1


def test_a_gap_of_one_voxel_separates_along_every_axis():
    for axis in range(3):
        labels = canvas((1, 4, 4, 4), (1, *(4 + 2 * (a == axis) for a in range(3))), (1, slice(0, 3), 0, 0))
        assert keep_largest(labels, [1])[1] == {1: 2}


def test_pieces_that_tie_for_the_largest_are_all_kept():
    tied = canvas((3, slice(0, 2), 0, 0), (3, 5, slice(5, 7), 0))
    kept, removed = keep_largest(tied + canvas((3, 8, 8, 8)), [3])
    np.testing.assert_array_equal(kept, tied)
    assert removed == {3: 1}


def test_labels_that_are_not_named_stay_and_the_input_is_not_touched():
    labels = canvas((1, slice(0, 2), 0, 0), (1, 5, 5, 5), (4, 0, 5, 0), (4, slice(2, 5), 8, 8))
    before = labels.copy()
    kept, removed = keep_largest(labels, [1, 2])
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(kept == 4, labels == 4)
    assert removed == {1: 1, 2: 0}
    assert kept.dtype == np.uint8


def test_a_piece_may_touch_another_label():
    labels = canvas((1, slice(0, 4), 0, 0), (2, slice(4, 6), 0, 0), (1, 6, 0, 0))
    kept, removed = keep_largest(labels, [1, 2])
    assert removed == {1: 1, 2: 0}
    assert kept[6, 0, 0] == 0


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_once_is_enough(labels):
    kept, _ = keep_largest(labels, [1, 2, 7])
    again, removed = keep_largest(kept, [1, 2, 7])
    np.testing.assert_array_equal(again, kept)
    assert not any(removed.values())


@settings(max_examples=60, deadline=None)
@given(MAPS, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_it_does_not_matter_how_the_array_is_stored(labels, order, flipped):
    def stored(array):
        return np.flip(array.transpose(order), sorted(flipped))

    kept, removed = keep_largest(labels, [1, 2, 7])
    turned, removed_turned = keep_largest(stored(labels), [7, 2, 1])
    np.testing.assert_array_equal(turned, stored(kept))
    assert removed_turned == removed


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_pieces_are_those_that_scipy_finds(labels):
    ndimage = pytest.importorskip("scipy.ndimage")
    expected = labels.copy()
    for value in (1, 2, 7):
        pieces, count = ndimage.label(labels == value, np.ones((3, 3, 3)))
        sizes = ndimage.sum_labels(labels == value, pieces, range(1, count + 1))
        for piece in range(count):
            if sizes[piece] < max(sizes):
                expected[pieces == piece + 1] = 0
    kept, removed = keep_largest(labels, [1, 2, 7])
    np.testing.assert_array_equal(kept, expected)
    assert sum(removed.values()) == np.count_nonzero(labels) - np.count_nonzero(expected)


def test_each_frame_is_on_its_own():
    labels = np.random.default_rng(0).choice([0, 0, 0, 1, 2], (7, 6, 5, 4)).astype(np.uint8)
    labels[..., 2] = 0
    kept, removed = keep_largest(labels, [1, 2])
    alone = [keep_largest(labels[..., frame], [1, 2]) for frame in range(4)]
    np.testing.assert_array_equal(kept, np.stack([frame for frame, _ in alone], -1))
    assert removed == {value: sum(counts[value] for _, counts in alone) for value in (1, 2)}
    assert sum(removed.values()) > 0


# Pieces far from the largest


def objects(distance, spacing, axis):
    """A large box, a box of the same label ``distance`` voxels beyond it along an axis, and the mm between them."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[:12, :12, :12] = 1
    place = [slice(2, 5)] * 3
    place[axis] = slice(11 + distance, 14 + distance)
    labels[tuple(place)] = 1
    return labels, distance * spacing[axis]


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 20), st.tuples(*[st.floats(0.5, 10)] * 3), st.integers(0, 2), st.floats(1, 60))
def test_a_piece_stays_exactly_if_it_lies_within_the_distance(voxels, spacing, axis, distance):
    labels, away = objects(voxels, spacing, axis)
    if abs(away - distance) < 1e-3:
        return
    kept, removed = keep_near_largest(labels, spacing, distance)
    assert removed == ({} if away <= distance else {1: 27})
    np.testing.assert_array_equal(kept, labels if away <= distance else np.where(np.arange(40).reshape(
        [-1 if a == axis else 1 for a in range(3)]) < 12, labels, 0))  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(MAPS, st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3), st.floats(0, 4))
def test_far_pieces_do_not_depend_on_how_the_axes_are_stored(labels, order, directions, distance):
    spacing = (1.0, 1.5, 2.0)
    kept, removed = keep_near_largest(labels, spacing, distance)
    flips = tuple(slice(None, None, d) for d in directions)
    turned = np.ascontiguousarray(labels.transpose(order)[flips])
    again, same = keep_near_largest(turned, [spacing[axis] for axis in order], distance)
    np.testing.assert_array_equal(again, kept.transpose(order)[flips])
    assert removed == same
    assert removed == {int(v): int(((labels == v) & (kept == 0)).sum()) for v in np.unique(labels[kept != labels])}


def test_all_structures_together_are_one_object():
    """A small label beside a large one of another value is near; one far from both goes."""
    labels = np.zeros((30, 10, 10), np.uint8)
    labels[:10], labels[10:12, :3, :3], labels[28:, :4, :4] = 1, 2, 2
    kept, removed = keep_near_largest(labels, (1.0, 1.0, 1.0), 5.0)
    assert removed == {2: 32}
    assert (kept == 2).sum() == 18


def test_frames_are_cleaned_each_by_itself():
    labels = np.zeros((30, 6, 6, 2), np.uint8)
    labels[:8, ..., 0], labels[20:28, ..., 1] = 1, 1
    labels[25, 0, 0, 0] = labels[2, 0, 0, 1] = 1
    kept, removed = keep_near_largest(labels, (1.0, 1.0, 1.0), 5.0)
    assert removed == {1: 2}
    assert [component_sizes(kept[..., t] > 0) for t in range(2)] == [[288], [288]]
