"""A segmentation bundle says how it is fed, is used for its own task only, and is refused where it is malformed."""

import copy
import json

import pytest
import torch

from crnn_cli.bundles.store import (
    find_bundle,
    load_network,
    load_reconstruction,
    load_segmentation,
    read_bundle,
    write_bundle,
)
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.labels.base_rule import BaseRule
from crnn_cli.labels.interval_limits import IntervalLimits
from crnn_cli.labels.names import Label
from crnn_cli.labels.quality_curves import QualityCurves
from tests.cli.test_segment import CONFIG, weights

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "tiny", CONFIG, weights(), "# tiny\n").folder


def rewrite(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def quality(*curves, doubt_below=0.7):
    return {"doubt_below": doubt_below, "curves": [{"expected": x, "dice": y} for x, y in curves]}


CURVES = quality([[0.5, 0.9], [0.2, 0.8]], [[0.4], [0.6]])


BASE = {"certainty": [0, 0.9], "cover": [0.45, 0]}


def intervals(limits=None, level=0.9, patients=25, group_level=0.8):
    levels = {"level": level, "group_level": group_level}
    return levels | {"patients": patients, "least_doubt": 0.05, "limits": limits or {"left.edv": 2}}


def test_what_a_bundle_may_say_besides_is_read(folder):
    plain = read_bundle(folder).slices
    assert plain is not None
    assert (plain.modality, plain.keep_within, plain.smooth_frames) == (None, None, None)
    assert (plain.class_weights, plain.base_rule) == ((), None)
    assert (plain.quality, plain.intervals) == (None, None)
    more = {"keep_within_mm": 22, "smooth_frames_ms": 80, "quality": CURVES, "intervals": intervals()}
    base = {"class_weights": [0.5, 1], "base_rule": BASE}
    rewrite(folder, lambda c: c.update(modality="MR", **more, **base))
    use = read_bundle(folder).slices
    assert use is not None
    assert (use.modality, use.keep_within, use.smooth_frames) == ("MR", 22.0, 80.0)
    assert (use.class_weights, use.base_rule) == ((0.5, 1.0), BaseRule((0.0, 0.9), (0.45, 0.0)))
    assert use.quality == QualityCurves(((0.5, 0.9), (0.4,)), ((0.2, 0.8), (0.6,)), 0.7)
    assert use.intervals == IntervalLimits(0.9, 0.8, 25, 0.05, {"left.edv": 2.0})
    rewrite(folder, lambda c: c["intervals"].pop("group_level"))  # of an earlier rule
    use = read_bundle(folder).slices
    assert use is not None
    assert use.intervals is None


def test_what_a_bundle_says_is_read(folder):
    use = read_bundle(folder).slices
    assert use is not None
    assert (use.plane, use.spacing, use.rule, use.low, use.high) == (None, 1.5, "percentiles", 1.0, 99.0)
    assert use.labels == (Label(1, "left ventricle", (255, 0, 0)), Label(2, "wall", (0, 255, 0)))
    assert (use.in_slice, use.between_slices) == ((0.5, 3.0), (4.0, 15.0))
    rewrite(folder, lambda c: c.update(plane="coronal"))
    use = read_bundle(folder).slices
    assert use is not None
    assert use.plane == "coronal"


def test_half_precision_weights_become_single_precision_networks(folder, tmp_path):
    halved = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    bundle = write_bundle(tmp_path / "half", CONFIG, halved, "# half\n")
    network = load_segmentation(bundle, CPU)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not network.training
    whole = load_segmentation(read_bundle(folder), CPU)
    for ours, theirs in zip(network.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4)


def test_a_bundle_is_for_its_own_task(folder, bundle):
    with pytest.raises(UnsupportedDataError, match="not to reconstruct"):
        find_bundle(str(folder), "reconstruct")
    with pytest.raises(UnsupportedDataError, match="not to segment"):
        find_bundle(str(bundle), "segment")
    with pytest.raises(UnreadableError, match="no network that reconstructs"):
        load_reconstruction(read_bundle(folder), CPU)
    assert type(load_network(read_bundle(folder), CPU)).__name__ == "SliceCLSTM"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(plane="oblique"), "plane"),
        (lambda c: c.update(spacing=0), "spacing"),
        (lambda c: c.update(spacing=float("nan")), "spacing"),
        (lambda c: c["intensity"].update(low=99), "low below high"),
        (lambda c: c.update(modality=3), "modality"),
        (lambda c: c.update(keep_within_mm=-1), "keep_within_mm"),
        (lambda c: c.update(keep_within_mm=True), "keep_within_mm"),
        (lambda c: c.update(smooth_frames_ms="80"), "smooth_frames_ms"),
        (lambda c: c.update(class_weights=0.5), "class_weights"),
        (lambda c: c.update(class_weights=[0.5, 1, 1]), "2 numbers"),
        (lambda c: c.update(class_weights=[0.5, 0]), "never be given"),
        (lambda c: c.update(base_rule=0.9), "certainty and cover"),
        (lambda c: c.update(base_rule={"cover": [0, 0]}), "lacks the key 'certainty'"),
        (lambda c: c.update(base_rule=BASE | {"cover": [0.5]}), "cover"),
        (lambda c: c.update(base_rule=BASE | {"cover": [0.5, 2]}), "from 0 to 1"),
        (lambda c: c.update(quality=CURVES, intervals=intervals(level=1)), "level"),
        (lambda c: c.update(quality=CURVES, intervals=intervals(patients=0)), "patients"),
        (lambda c: c.update(quality=CURVES, intervals=intervals({"left.mood": 1})), "left.mood"),
        (lambda c: c.update(quality=CURVES, intervals=intervals({"left.edv": -1})), "left.edv"),
        (lambda c: c.update(quality=CURVES, intervals=3), "intervals"),
        (lambda c: c.update(intervals=intervals()), "beside quality"),
        (lambda c: c.update(quality=[]), "quality"),
        (lambda c: c.update(quality=quality(doubt_below=2)), "doubt_below"),
        (lambda c: c.update(quality=quality([[0.5], [0.5]])), "one for each label"),
        (lambda c: c.update(quality=quality([[0.5, 0.4], [0.5, 0.6]], [[0.1], [0.2]])), "rise"),
        (lambda c: c.update(quality=quality([[0.5, 0.7], [0.5]], [[0.1], [0.2]])), "as many"),
        (lambda c: c.update(quality=quality([[], []], [[0.1], [0.2]])), "rise"),
        (lambda c: c.update(quality=quality([[0.1], [1.5]], [[0.1], [0.2]])), "from 0 to 1"),
        (lambda c: c["intensity"].update(high=101), "between 0 and 100"),
        (lambda c: c["intensity"].update(rule="guess"), "rule"),
        (lambda c: c["intensity"].pop("low"), "lacks the key 'low'"),
        (lambda c: c["labels"].clear(), "labels"),
        (lambda c: c["labels"][1].update(value=3), "in order"),
        (lambda c: c["labels"][1].update(name="left ventricle"), "differ"),
        (lambda c: c["labels"][0].update(colour=[0, 0, 256]), "colour"),
        (lambda c: c["labels"].append("aorta"), "no JSON object"),
        (lambda c: c["expected_spacing_mm"].update(in_slice=[3, 1]), "in_slice"),
        (lambda c: c["expected_spacing_mm"].update(in_slice=[1]), "in_slice"),
        (lambda c: c.update(initial_image="view-shared"), "unknown key 'initial_image'"),
        (lambda c: c.pop("task"), "lacks the key 'task'"),
    ],
)
def test_a_malformed_bundle_is_refused_by_name(folder, change, words):
    rewrite(folder, change)
    with pytest.raises(UnreadableError, match=words):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": 4}, "not .* a background|is .*, not"),
        ({"directions": 3}, "directions"),
        ({"kernel": 4}, "odd"),
        ({"width": 4.5}, "integer"),
        ({"depth": 2}, "unknown"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, settings, words):
    rewrite(folder, lambda c: c["settings"].update(settings))
    with pytest.raises(UnreadableError, match=words):
        load_segmentation(read_bundle(folder), CPU)


def test_labels_must_be_the_classes_of_the_network(folder):
    rewrite(folder, lambda c: c["labels"].append({"value": 3, "name": "more", "colour": [1, 2, 3]}))
    with pytest.raises(UnreadableError, match="classes"):
        load_segmentation(read_bundle(folder), CPU)


def test_a_bundle_that_would_be_refused_is_not_written(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["labels"] = []
    with pytest.raises(UnreadableError):
        write_bundle(tmp_path / "bad", config, weights(), "")
    assert list(tmp_path.iterdir()) == []
