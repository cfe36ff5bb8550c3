"""Items of a forecaster follow from their numbers; training lowers the loss and ends in a bundle that forecasts."""

from dataclasses import replace

import pytest
import torch

from crnn_cli.training.forecast.items import ITEMS_OF_SERIES, cut_item, draw_items
from crnn_cli.training.forecast.job import ForecastJob, forecast_items
from crnn_cli.training.forecast.settings import ForecasterNetworkSettings, ForecastSettings
from crnn_cli.training.job import OptimiserSettings
from crnn_cli.training.reconstruct.scenes import SceneRandom
from tests.support.beats import beating

CPU = torch.device("cpu")
SMALL = ForecastSettings(
    epochs=1, items=8, batch=2, side=16, history=6, frames=3, ahead=2, starts=2,
    network=ForecasterNetworkSettings(hidden=4, hidden_above=4, readout=4),
    optimiser=OptimiserSettings(learning_rate=1e-2, warm_up=0.0),
)  # fmt: skip
CINE = torch.from_numpy(beating(frames=12, size=(40, 44))).movedim(-1, 0)


@pytest.mark.parametrize("cines", [[], [CINE]])
def test_an_item_follows_from_its_number_whatever_was_drawn_before(cines):
    settings = replace(SMALL, real_share=1.0)
    one, other = (ForecastJob(settings, cines, [], seed=1) for _ in range(2))
    for number in (0, 9, 200):
        one.item(0, number)
    for number in (200, 0):
        for field in ("read_TRYX", "sources_WKSYX", "truth_WKYX"):
            torch.testing.assert_close(getattr(one.item(0, number), field), getattr(other.item(0, number), field))
    assert not torch.equal(one.item(0, 0).truth_WKYX, one.item(0, 1).truth_WKYX)


def test_items_have_the_sizes_of_the_settings():
    items = draw_items([], SMALL, 0)
    assert len(items) == ITEMS_OF_SERIES
    for item in items:
        assert item.read_TRYX.shape == (3, 3, 16, 16)
        assert item.sources_WKSYX.shape == (2, 2, 4, 16, 16)
        assert item.truth_WKYX.shape == (2, 2, 16, 16)
        assert item.starts[-1] == 2


def test_the_truth_is_what_follows_each_start():
    series = torch.arange(11.0)[:, None, None].expand(11, 4, 4)
    item = cut_item(series, 100 + series, 6, SMALL, SceneRandom(0))
    assert item.read_TRYX[:, 0, 0, 0].tolist() == [6, 7, 8]
    for start, truth in zip(item.starts, item.truth_WKYX[:, :, 0, 0].tolist(), strict=True):
        assert truth == [107 + start, 108 + start]


def test_forecasts_of_a_batch_are_those_of_its_items():
    job = ForecastJob(SMALL, [], [], seed=0)
    network = job.network(0, None).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(0, 0.2)
        items = [job.item(0, number) for number in range(2)]
        together, truth = forecast_items(network, items, CPU)
        for b, item in enumerate(items):
            torch.testing.assert_close(forecast_items(network, [item], CPU)[0][0], together[b], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(truth[b], item.truth_WKYX)


def test_training_lowers_the_loss():
    job = ForecastJob(SMALL, [], [], seed=0)
    network, items = job.network(0, None), [job.item(0, number) for number in range(4)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        (loss,) = job.losses(0, network, items, CPU)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_what_cannot_be_is_refused():
    for wrong in ({"starts": 9}, {"real_share": 2.0}, {"side": 8}, {"batch": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(SMALL, **wrong)
