"""Class weights, and the rule of the base, in the segmentation of a stack."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crnn_cli.data.geometry import slice_order
from crnn_cli.data.image import Image
from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.segmentation.segment import labels_from_probabilities, segment, weighted

WEIGHTS = st.tuples(st.floats(0.1, 1), st.floats(0.1, 1))


def classes(seed):
    p = np.random.default_rng(seed).random((3, 50)).astype(np.float32) + 0.01
    return p / p.sum(axis=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), WEIGHTS, WEIGHTS)
def test_weights_multiply_odds_and_are_undone_by_their_inverses(seed, first, second):
    p = classes(seed)
    made = weighted(p, first)
    np.testing.assert_allclose(made.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(made[1:] / made[0], p[1:] / p[0] * np.array(first)[:, None], rtol=1e-4)
    product = weighted(p, [a * b for a, b in zip(first, second, strict=True)])
    np.testing.assert_allclose(weighted(made, second), product, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(weighted(made, [1 / w for w in first]), p, rtol=1e-3, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 1), st.floats(0.1, 1))
def test_a_smaller_weight_never_labels_more_of_its_structure(seed, one, other):
    p, (low, high) = classes(seed), sorted((one, other))
    less, more = (labels_from_probabilities(weighted(p, [w, 1]), 0.5) == 1 for w in (low, high))
    assert not (less & ~more).any()


class Sigmoid:
    """Network that is as sure as the image is bright."""

    def label(self, image_SYX, progress=None):
        p = torch.sigmoid(4 * image_SYX)
        return torch.stack([1 - p, p], dim=1)


@given(arrays(np.float32, (6, 6, 4), elements=st.floats(-1, 1, width=32)))
@settings(max_examples=20, deadline=None)
def test_weights_of_one_change_no_label_and_the_report_sees_the_weighted_probabilities(values):
    image = Image(values, np.diag([1.0, 1, 8, 1]))
    order, recipe, cpu = slice_order(image, 2), SlicePreprocessing(1.0, "window", 0.0, 1.0), torch.device("cpu")
    plain, same, half = (
        segment(image, order, Sigmoid(), recipe, cpu, class_weights=weights, keep_probabilities=True)
        for weights in ((), (1.0,), (0.5,))
    )
    np.testing.assert_array_equal(plain.labels, same.labels)
    assert plain.probabilities is not None
    np.testing.assert_allclose(half.probabilities, weighted(plain.probabilities, [0.5]), atol=1e-6)
    np.testing.assert_array_equal(half.labels, labels_from_probabilities(half.probabilities, 0.5))


def test_each_frame_is_judged_by_its_own_base():
    values = np.full((8, 40, 5, 2), -1, np.float32)
    for s, stop in enumerate((30, 28, 24, 16, 8)):
        values[:, :stop, s] = 1
    values[:, 9:, 0, 1] = -1  # in the second frame the basal slice shows a part only
    image = Image(values, np.diag([1.0, 1, 8, 1]))
    order, recipe, cpu = slice_order(image, 2), SlicePreprocessing(1.0, "window", 0.0, 1.0), torch.device("cpu")
    rule = BaseRule([0], [0.6])
    made = segment(image, order, Sigmoid(), recipe, cpu, base_rule=rule).labels
    assert made.any((0, 1)).T.tolist() == [[True] * 5, [False, True, True, True, True]]
    for t in range(2):
        alone = segment(Image(values[..., t], image.affine), order, Sigmoid(), recipe, cpu, base_rule=rule)
        np.testing.assert_array_equal(alone.labels, made[..., t])
