"""A bundle that forecasts is loaded as it was published, or refused."""

import json

import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_forecaster, read_bundle
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from tests.support.beats import small_bundle, small_network
from tests.support.data import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return small_bundle(tmp_path / "tiny-forecast")


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_round_trip_keeps_every_weight(folder):
    bundle = read_bundle(folder)
    assert (bundle.task, bundle.frames_ahead) == ("forecast", 4)
    loaded, made = load_forecaster(bundle, CPU).state_dict(), small_network().state_dict()
    assert loaded.keys() == made.keys()
    for name, weight in made.items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [{"frames_ahead": 0}, {"frames_ahead": "4"}, {"frames_ahead": None}, {"bfloat16": True},
     {"settings": {"gru": 2}}, {"settings": {"patch": 3}}, {"network": "slice-clstm", "settings": {}}],
)  # fmt: skip
def test_what_does_not_fit_is_refused(folder, changes):
    edit(folder, **changes)
    with pytest.raises(UnreadableError):
        load_forecaster(read_bundle(folder), CPU)


def test_it_is_for_forecasts_alone(folder):
    with pytest.raises(UnsupportedDataError, match="to forecast, not to segment"):
        find_bundle(str(folder), "segment")


def test_the_published_one_is_small_and_free():
    bundle = find_bundle(None, "forecast")
    assert bundle.licence == "CC0-1.0"
    assert (ROOT / "models/cine-forecast/weights.safetensors").stat().st_size <= 1e6
    assert sum(p.numel() for p in load_forecaster(bundle, CPU).parameters()) <= 1_000_000
