"""Curves, events and the card say what the log and the run say."""

import math
import sys

import numpy as np
import PIL.Image
import pytest

from crnn_cli.training.card import model_card
from crnn_cli.training.curves import draw_curves
from crnn_cli.training.events import scalars, with_events
from crnn_cli.training.job import TrainingReport

LINES = [
    {"step": 10, "stage": "CNN", "minutes": 1.0, "loss": 0.9},
    {"step": 20, "stage": "CNN", "minutes": 2.0, "loss": 0.4},
    {"step": 20, "stage": "CNN", "validation": {"score": 0.5, "dice": {"core": 0.6, "rim": None}}},
]
VALIDATED = TrainingReport("CNN", 20, 40, math.nan, 9.0, 3.0, LINES[2]["validation"])


def test_curves_are_drawn_and_nothing_else_is_left(tmp_path):
    assert draw_curves(LINES, tmp_path / "curves.png")
    assert [f.name for f in tmp_path.iterdir()] == ["curves.png"]
    picture = np.asarray(PIL.Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    coloured = np.ptp(picture, axis=2) > 60  # the validation curves; the loss is grey
    assert 50 < coloured.sum() < 0.05 * coloured.size
    assert draw_curves(LINES[:2], tmp_path / "curves.png")
    picture = np.asarray(PIL.Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    assert (np.ptp(picture, axis=2) > 60).sum() == 0


def test_without_losses_or_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    assert not draw_curves(LINES[2:], tmp_path / "curves.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(LINES, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_what_is_not_defined_is_no_number():
    assert scalars(VALIDATED) == {"score": 0.5, "dice, core": 0.6}
    assert scalars(TrainingReport("CNN", 10, 40, 0.9, 9.0, 3.0)) == {"loss": 0.9, "items per second": 3.0}


def test_events_are_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    told = []
    assert with_events(told.append, tmp_path, 0)(VALIDATED) is None
    assert told == [VALIDATED]
    assert not list(tmp_path.iterdir())


def test_events_are_read_back_by_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = []
    tell = with_events(told.append, tmp_path, 0)
    for report in (TrainingReport("CNN", 10, 40, 0.9, 9.0, 3.0), VALIDATED):
        tell(report)
    assert len(told) == 2
    read = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, round(e.value, 4)) for e in read.Scalars("dice, core")] == [(20, 0.6)]
    assert [(e.step, round(e.value, 4)) for e in read.Scalars("loss")] == [(10, 0.9)]


def test_the_card_says_what_the_run_says():
    described = {
        "command": ["train", "segment", "a folder", "-o", "m"], "versions": {"crnn": "1", "torch": "2"},
        "device": "cpu", "precision": "fp32", "seed": 4, "settings_toml": "epochs = 3\n",
        "data": {"training_volumes": [f"v{k}" for k in range(60)], "sha256": "abc"},
        "stages": [{"name": "CNN", "steps": 40, "batch": 2}],
    }  # fmt: skip
    config = {"summary": "core, rim", "licence": "CC0-1.0", "network": "slice-clstm", "settings": {"width": 2}}
    text = model_card("m", config, described, {"step": 20, "score": 0.5, "dice": {"core": 0.6}}, LINES)
    for words in (
        "# m\n", "crnn train segment 'a folder' -o m", "training volumes: 60: v0, v1", "v49 ...", "sha256: abc",
        "40 steps in 2 minutes on cpu, fp32, seed 4", "* CNN: 40 steps of 2", "at step 20", "| dice, core | 0.6 |",
        "CC0-1.0", "width 2", "epochs = 3", "Not for diagnostic use",
    ):  # fmt: skip
        assert words in text
    assert "v50" not in text
    assert "nothing was held out" in model_card("m", config, described, {}, LINES)
