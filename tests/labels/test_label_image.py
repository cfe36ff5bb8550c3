"""Label maps that know their names: an image in every respect, with checks of its own."""

from dataclasses import replace

import numpy as np
import pytest

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.names import Label

NAMES = (Label(1, "Cavity", (255, 0, 0)), Label(3, "wall", (0, 255, 0)))
GRID = Image(np.zeros((4, 5, 2, 3), np.float32), np.diag([2.0, 2, 8, 1]), 0.04, (1, 0), pixdim=(2, 2, 8))


def test_a_label_map_lies_on_its_grid():
    array = np.zeros(GRID.shape, np.uint8)
    array[1, 2], array[2, 2, 0] = 1, 3
    labels = LabelImage.on_grid(GRID, array, NAMES)
    assert (labels.spacing, labels.frame_time, labels.codes) == (GRID.spacing, GRID.frame_time, GRID.codes)
    assert labels.names == {1: "Cavity", 3: "wall"}
    assert (labels.mask("cavity").sum(), labels.mask(3).sum(), labels.mask(2).sum()) == (6, 3, 0)
    assert repr(labels) == "LabelImage(4 x 5 x 2 x 3, 2 x 2 x 8 mm, 1 Cavity, 3 wall)"
    first = labels.select_slice(0)
    assert (first.labels, first.shape) == (NAMES, (4, 5, 1, 3))
    assert labels._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(KeyError):
        labels.mask("atrium")


@pytest.mark.parametrize("array", [np.zeros((4, 5, 2)), np.zeros((4, 5, 2), np.int16), np.zeros((4, 5), np.uint8)])
def test_what_is_no_label_map_is_refused(array):
    with pytest.raises(UnsupportedDataError):
        LabelImage(array, np.eye(4))


def test_a_label_map_has_the_checks_of_an_image():
    labels = LabelImage(np.ones((2, 2, 2), np.uint8), np.eye(4), labels=NAMES)
    for affine in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(UnsupportedDataError, match="affine"):
            replace(labels, affine=affine)
