"""The record of a result tells which slices were changed; a damaged one, or one of another scan, tells nothing."""

import json

import numpy as np
import pytest

from crnn_cli.data.geometry import slice_order
from crnn_cli.workflows.segment.drawn.record import earlier_result, slice_hashes
from tests.support.drawn import image_of, truth

VALUES = truth()[..., None].astype(np.uint16)


def write(path, **more):
    drawn = [[k in (1, 2) for k in range(9)]]
    record = {"drawn": drawn, "sha256": slice_hashes(VALUES, 2)} | more
    report = {"format": 2, "slices": {"array_axis": "z"}, "drawn": {"record": record}}
    path.with_suffix(".json").write_text(json.dumps(report))
    return path


@pytest.mark.parametrize("flip", [False, True])
def test_changed_slices_count_as_drawn_with_those_of_before(tmp_path, flip):
    image = image_of(truth())
    affine = image.affine.copy()
    affine[2, 2] *= -1 if flip else 1
    order = slice_order(type(image)(image.array, affine), 2)
    assert order.flips[0] is flip
    earlier = earlier_result(write(tmp_path / "all.nii"), VALUES.shape)
    changed = VALUES.copy()
    changed[3, 3, 4] += 1
    known = earlier.drawn_or_changed(changed, order)[0]
    stored = [k in (1, 2, 4) for k in range(9)]
    assert known.tolist() == (stored[::-1] if flip else stored)


def test_hashes_do_not_depend_on_the_type():
    assert slice_hashes(VALUES, 2) == slice_hashes(VALUES.astype(np.uint8), 2)
    assert slice_hashes(VALUES, 2)[0][0] == slice_hashes(VALUES, 2)[0][8], "both are empty"
    assert len(slice_hashes(VALUES, 0)[0]) == 28


@pytest.mark.parametrize("damage", [{"sha256": [["00"] * 8]}, {"sha256": 3}, {"drawn": None}, {"drawn": [[], []]}])
def test_a_damaged_record_tells_nothing(tmp_path, damage):
    assert earlier_result(write(tmp_path / "all.nii", **damage), VALUES.shape) is None


def test_no_record_tells_nothing(tmp_path):
    assert earlier_result(tmp_path / "all.nii", VALUES.shape) is None
    (tmp_path / "all.json").write_text("{}")
    assert earlier_result(tmp_path / "all.nii", VALUES.shape) is None
    assert earlier_result(write(tmp_path / "all.nii"), (28, 32, 8, 1)) is None
    assert earlier_result(None, VALUES.shape) is None
