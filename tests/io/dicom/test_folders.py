"""Folders of every kind and defect are read as their truth, or refused for a true reason."""

from dataclasses import replace

import numpy as np
import pytest

from crnn_cli.io.dicom.grid import timing
from crnn_cli.io.dicom.read import list_series
from tests.support.dicom_folders import BREAKS, draw_folder, verdict
from tests.support.dicom_kinds import KINDS, dynamic, plain
from tests.support.dicom_scans import Dice

SEEDS = range(5475, 5550)  # among them every kind, and every defect
PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_a_folder_is_read_as_its_truth_or_refused_for_a_true_reason(tmp_path, part):
    for seed in SEEDS[part::PARTS]:
        folder = draw_folder(tmp_path, seed)
        told = verdict(folder)
        assert not told.startswith("WRONG"), f"seed {seed}, {folder.kind}, {folder.broken}: {told}"


def test_all_kinds_and_defects_are_drawn_and_the_same_seed_is_the_same_folder(tmp_path):
    assert len({kind.__name__ for kind, _ in KINDS}) == len(KINDS) >= 20
    assert sum(defect is not None for defect, _ in BREAKS) == 9
    one, two = (draw_folder(tmp_path / name, 77) for name in "ab")
    files = [sorted(p for p in each.path.parent.rglob("*") if p.is_file()) for each in (one, two)]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def write(folder, drawn):
    """Write the files of a drawn kind."""
    files, truth = drawn
    for file in files:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.content())
    return truth


def test_the_judge_sees_an_order_in_time_that_is_wrong(tmp_path, monkeypatch):
    """The law above can fail: a reader that goes by trigger times alone is caught."""
    monkeypatch.setattr(timing, "_gating", lambda by_position, telling: (True, ()))
    monkeypatch.setattr(timing, "_NAMES", ("trigger time", "instance number"))
    told = [verdict(draw_folder(tmp_path, seed)) for seed in range(5000, 5024)]
    assert sum(each.startswith("WRONG") for each in told) >= 2


def test_the_judge_sees_places_values_and_times(tmp_path):
    folder = next(f for f in (draw_folder(tmp_path, s) for s in range(99)) if f.kind == "plain" and f.broken == "whole")
    assert verdict(folder) == "read"
    (image,) = folder.truth.images
    for changed in (
        replace(image, values=image.values * 2 + 1), replace(image, affine=image.affine + 0.01),
        replace(image, values=image.values[::-1]), replace(image, frame_time=12.0),
    ):  # fmt: skip
        folder.truth.images = [changed]
        assert verdict(folder).startswith("WRONG")
    folder.truth.images = [image]
    folder.truth.objects = ("RT Dose",)
    assert verdict(folder).startswith("WRONG")


@pytest.mark.parametrize("kind", [plain, lambda dice: (dynamic(dice).files(), None)])
def test_the_order_of_files_and_their_names_do_not_matter(tmp_path, kind):
    """The same images under other names are the same grid."""
    write(tmp_path / "a", kind(Dice(3)))
    names = np.random.default_rng(0).permutation(len(list((tmp_path / "a").iterdir())))
    (tmp_path / "b").mkdir()
    for number, file in zip(names, sorted((tmp_path / "a").iterdir()), strict=True):
        (tmp_path / "b" / f"{number}").write_bytes(file.read_bytes())
    uids = [[[frame.instance for frame in row] for row in list_series(tmp_path / each).series[0].grid] for each in "ab"]
    assert uids[0] == uids[1]
