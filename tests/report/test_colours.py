"""Colours of labels are told apart from each other and from grey, by the colour-blind too."""

import itertools

import numpy as np
import pytest

from crnn_cli.bundles.store import list_bundles
from crnn_cli.labels.names import COLOURS
from tests.support.colour_vision import distances

GREYS = np.repeat(np.arange(256)[:, None], 3, axis=1)
SEGMENTING = [bundle for bundle in list_bundles() if bundle.task == "segment"]


def closest(colours):
    pairs = distances(colours, colours)
    return min(pairs[i, j] for i, j in itertools.combinations(range(len(colours)), 2))


def test_red_and_green_of_the_same_lightness_would_be_found():
    assert closest([(80, 220, 110), (255, 80, 80)]) < 20


@pytest.mark.parametrize("bundle", SEGMENTING, ids=lambda bundle: bundle.name)
def test_labels_of_a_published_model_are_told_apart(bundle):
    colours = [label.colour for label in bundle.slices.labels]
    assert len(colours) < 2 or closest(colours) > 40
    assert distances(colours, GREYS).min() > 20


def test_labels_of_a_new_model_are_told_apart():
    for count, least in ((2, 80), (3, 40), (4, 40), (5, 24), (len(COLOURS), 15)):
        assert closest(COLOURS[:count]) > least, count
    assert distances(COLOURS, GREYS).min() > 15
