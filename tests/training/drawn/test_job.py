"""Training for drawn slices: it begins at the interpolation, and ends in a bundle that labels a scan."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.networks.drawn_clstm import DrawnCLSTM, DrawnCLSTMConfig
from crnn_cli.training.drawn.items import DrawnItems, DrawnItemSettings
from crnn_cli.training.drawn.job import DrawnJob, drawn_dice
from crnn_cli.training.drawn.settings import DrawnSettings
from tests.training.drawn.test_items import volume

SMALL = """
steps = 2
stacks = 1
levels = ["0.3"]
[network]
width = 8
hidden = 4
keys = 4
[items]
slices = 4
side = 32
least = 10.0
most = 24.0
"""


def test_untrained_the_validation_is_about_that_of_the_interpolation():
    torch.manual_seed(0)
    network = DrawnCLSTM(DrawnCLSTMConfig(width=8, hidden=4)).eval()
    found = drawn_dice(network, volume(), torch.device("cpu"))
    assert len(found) == 2
    for by_network, interpolated in found:
        assert by_network == pytest.approx(interpolated, abs=0.02)
        assert 0.5 < interpolated < 1


def test_validation_gives_the_mean_of_both_and_nothing_where_nothing_is_held_out():
    network = DrawnCLSTM(DrawnCLSTMConfig(width=8, hidden=4))
    torch.nn.init.constant_(network.correct.bias, 20.0)  # everything is labelled
    settings = DrawnSettings(items=DrawnItemSettings(slices=4, side=32, least=10, most=24))
    job = DrawnJob(settings, DrawnItems([volume()]), [volume()], 0)
    figures = job.validate(network, torch.device("cpu"))
    assert figures["score"] == figures["dice"]["network"] < figures["dice"]["interpolated distances"] - 0.1
    assert set(figures["dice"]) == {"network", "interpolated distances"}
    assert DrawnJob(settings, DrawnItems([volume()]), [], 0).validate(network, torch.device("cpu")) == {}


def test_a_trained_bundle_labels_a_scan_from_drawn_slices_and_training_goes_on_from_it(crnn, tmp_path):
    for number in range(2):
        stack = volume(number)
        affine = np.diag([1.0, 1.0, 5.0, 1.0])
        for name, array in (("", stack.image_SYX), ("_gt", stack.labels_SYX.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), tmp_path / f"case{number}{name}.nii.gz")
    (tmp_path / "small.toml").write_text(SMALL)
    ended = crnn("train", "drawn", tmp_path, "-o", tmp_path / "mine", "--config", tmp_path / "small.toml",
                 "--fold", "0/2", "--licence", "CC0-1.0")  # fmt: skip
    assert ended.code == 0, ended.err
    log = (tmp_path / "mine.run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log if "validation" in line] == [2]  # a short run: at its end alone
    drawn = np.asarray(nib.load(tmp_path / "case0_gt.nii.gz").dataobj).copy()
    drawn[..., [1, 2, 3, 5]] = 0
    nib.save(nib.Nifti1Image(drawn, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "drawn.nii.gz")
    ended = crnn("segment", tmp_path / "case0.nii.gz", "--from", tmp_path / "drawn.nii.gz", "--model",
                 tmp_path / "mine", "-o", tmp_path / "all.nii.gz")  # fmt: skip
    assert ended.code == 0, ended.err
    made = np.asarray(nib.load(tmp_path / "all.nii.gz").dataobj)
    np.testing.assert_array_equal(made[..., [0, 4, 6]], drawn[..., [0, 4, 6]])
    assert (made[..., [1, 2, 3, 5]] > 0).any(axis=(0, 1)).all()
    for made_here in ("all", "drawn"):
        (tmp_path / f"{made_here}.nii.gz").unlink()
    again = ("train", "drawn", tmp_path, "--config", tmp_path / "small.toml", "--fold", "0/2")
    ended = crnn(*again, "-o", tmp_path / "second", "--init-from", tmp_path / "mine")
    assert ended.code == 0, ended.err
    assert "begun from: mine" in (tmp_path / "second" / "README.md").read_text()
    (tmp_path / "small.toml").write_text(SMALL.replace("hidden = 4", "hidden = 8"))
    ended = crnn(*again, "-o", tmp_path / "third", "--init-from", tmp_path / "mine")
    assert ended.code == 2
    assert "hidden=4" in ended.err
