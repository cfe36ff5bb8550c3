"""A bundle for drawn slices has no labels, may say how good it is, and is refused where it is malformed."""

import json

import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_drawn, load_segmentation, read_bundle
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from tests.support.drawn import small_bundle, small_network

CPU = torch.device("cpu")
CURVE = {"doubt_below": 0.7, "curves": [{"expected": [0.1, 0.9], "dice": [0.2, 0.8]}]}
MEASURED = {"cases": 20, "dice": 0.88, "nearest": 0.7, "distances": 0.75}


def test_what_a_bundle_says_is_read_and_its_network_loaded(tmp_path):
    folder = small_bundle(tmp_path / "small", quality=CURVE, measured=MEASURED)
    bundle = find_bundle(str(folder), "segment-drawn")
    assert bundle.slices is None
    assert bundle.drawn.quality.predict(1, 0.5) == pytest.approx(0.5)
    assert bundle.drawn.measured == MEASURED
    network = load_drawn(bundle, CPU)
    assert not network.training
    for name, value in small_network().state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)
    plain = read_bundle(small_bundle(tmp_path / "plain")).drawn
    assert (plain.quality, plain.measured) == (None, None)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"measured": 3}, "must be an object"),
        ({"measured": MEASURED | {"dice": 1.2}}, "each Dice from 0 to 1"),
        ({"measured": MEASURED | {"cases": 0}}, "cases must be above 0"),
        ({"measured": {"cases": 3}}, "lacks the key 'dice'"),
        ({"quality": CURVE | {"curves": CURVE["curves"] * 2}}, "one for each label"),
        ({"labels": []}, "unknown key 'labels'"),
        ({"network": "drawn"}, "unknown network"),
        ({"network": "slice-clstm", "settings": {"classes": 2}}, "unknown weight|lacks the weight"),
        ({"settings": {"width": 7}}, "width is 7"),
    ],
)
def test_a_malformed_bundle_is_refused(tmp_path, change, text):
    folder = small_bundle(tmp_path / "small")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UnreadableError, match=text):
        load_drawn(read_bundle(folder), CPU)


def test_a_bundle_is_for_its_own_task(tmp_path):
    folder = small_bundle(tmp_path / "small")
    with pytest.raises(UnsupportedDataError, match="to label a scan from drawn slices, not to segment"):
        find_bundle(str(folder), "segment")
    with pytest.raises(UnreadableError, match="no network that segments"):
        load_segmentation(read_bundle(folder), CPU)
