"""The grid of a drawn structure: it holds what is drawn, with square pixels, and logits come back to their place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.segmentation.structure_grid import StructureGrid, StructureInput


class Interpolating:
    """A network that answers with the distances it is given."""

    def follow(self, image_SYX, distance_SYX, known_S, others_SYX=None, progress=None):
        return distance_SYX


def box(shape, rows, columns):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


@settings(deadline=None)
@given(
    st.integers(0, 60), st.integers(1, 40), st.integers(0, 50), st.integers(1, 40),
    st.floats(0.3, 3.0), st.floats(0.3, 3.0),
)  # fmt: skip
def test_the_window_holds_what_is_drawn_and_the_pixels_are_square(top, height, left, width, down, across):
    drawn = box((100, 90), slice(top, top + height), slice(left, left + width))
    grid = StructureGrid.around(drawn, (down, across))
    assert drawn[grid.rows, grid.columns].sum() == drawn.sum()
    rows, columns = grid.rows.stop - grid.rows.start, grid.columns.stop - grid.columns.start
    assert abs(grid.size[0] * grid.pixel - rows * down) <= grid.pixel / 2 + 1e-6
    assert abs(grid.size[1] * grid.pixel - columns * across) <= grid.pixel / 2 + 1e-6


@pytest.mark.parametrize(("side", "pixels"), [(10, 30), (20, 48), (64, 64), (150, 80)])
def test_structures_look_about_as_large_and_are_enlarged_three_times_at_most(side, pixels):
    grid = StructureGrid.around(box((400, 400), slice(100, 100 + side), slice(120, 120 + side)), (1.0, 1.0))
    assert side / grid.pixel == pytest.approx(pixels)


def test_logits_of_interpolated_distances_keep_a_drawn_disc():
    y, x = np.mgrid[:120, :100]
    own = np.stack([(y - 50) ** 2 + (x - 40) ** 2 < r**2 for r in (20, 17, 12)])
    known = np.array([True, False, True])
    image = np.random.default_rng(0).random(own.shape).astype(np.float32)
    given = StructureInput.of(image, own, np.zeros_like(own), known, (1.0, 1.0))
    made = np.zeros_like(own)
    made[:, given.grid.rows, given.grid.columns] = given.follow(Interpolating(), torch.device("cpu")) > 0
    assert given.others_SYX is None
    for s in (0, 2):
        assert 2 * (made[s] & own[s]).sum() / (made[s].sum() + own[s].sum()) > 0.99


def test_intensities_are_scaled_by_what_is_near_and_other_structures_are_measured_where_they_are_drawn():
    own = np.zeros((3, 60, 60), bool)
    own[1, 25:35, 25:35] = True
    others = np.zeros_like(own)
    others[1, 25:35, 35:40] = True
    known = np.array([False, True, False])
    image = np.full(own.shape, 5.0, np.float32)
    image[:, 20:40, 20:40] = 9.0
    image[:, :5] = 1e6
    given = StructureInput.of(image, own, others, known, (1.0, 1.0))
    assert float(given.image_SYX.max()) <= 1.5
    assert float(given.image_SYX.min()) == pytest.approx(0.0, abs=1e-5)
    assert given.others_SYX is not None
    assert bool((given.others_SYX[1] > 0).any())


def test_a_constant_image_is_no_reason_to_fail():
    own = np.zeros((3, 30, 30), bool)
    own[1, 10:20, 10:20] = True
    known = np.array([False, True, False])
    given = StructureInput.of(np.ones(own.shape, np.float32), own, own & False, known, (1.0, 2.0))
    assert bool(given.image_SYX.isfinite().all())
