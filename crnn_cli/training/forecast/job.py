"""Training of a forecaster on random beating series."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crnn_cli.io.atomic_write import Output
from crnn_cli.networks.forecaster import CineForecaster, States
from crnn_cli.report.montage import Panel, preview_output
from crnn_cli.training.forecast.items import ITEMS_OF_SERIES, ForecastItem, draw_items
from crnn_cli.training.forecast.settings import ForecastSettings

_VALIDATION_SEED = 1_000_000_000
_VALIDATION_ITEMS = 12
_SERIES_AT_ONCE = 8
_BLOCK = _SERIES_AT_ONCE * ITEMS_OF_SERIES
_LEAST_ERROR = 2e-5  # mean squared error, in units of bright parts, below which nothing more is asked


class ForecastJob:
    """Job of `crnn_cli.training.loop.TrainingLoop`; see `crnn_cli.training.job.TrainingJob`.

    Parameters
    ----------
    settings : of the task.
    cines, held_out : magnitudes (T, Y, X) of one beat each, to train on and to validate with; may be empty.
    seed : of the items.
    start : network of the same sizes whose weights training starts with; None for random ones.
    """

    def __init__(
        self, settings: ForecastSettings, cines: Sequence[Tensor], held_out: Sequence[Tensor], seed: int,
        start: CineForecaster | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.cines, self.held_out = settings, list(cines), list(held_out)
        self.seed, self.start = seed, start
        self._block, self._series = -1, dict[int, list[ForecastItem]]()
        self._held: dict[float, list[ForecastItem]] = {}

    def network(self, stage: int, before: nn.Module | None) -> CineForecaster:
        """Build the network; there is one stage."""
        del stage, before
        network = CineForecaster(self.settings.network.config())
        if self.start is not None:
            network.load_state_dict(self.start.state_dict())
        for weight in network.parameters():
            if weight.dim() == 4:  # features innermost: faster on a CPU
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        return network

    def item(self, stage: int, number: int) -> ForecastItem:
        """Draw an item: neighbours are of different series, and what was drawn of a series is kept for the next."""
        del stage
        first, (place, which) = number - number % _BLOCK, divmod(number % _BLOCK, _SERIES_AT_ONCE)
        if self._block != first:
            self._block, self._series = first, {}
        if which not in self._series:
            self._series[which] = draw_items(self.cines, self.settings, self._seed(number))
        return self._series[which][place]

    def describe(self, stage: int, number: int) -> str:
        """Seed of an item: with the same settings and cines it can be drawn again."""
        del stage
        return f"seed {self._seed(number)}"

    def losses(self, stage: int, network: nn.Module, items: list[Any], device: torch.device) -> Iterator[Tensor]:
        """Yield the mean logarithm of the squared error: all items and frames ahead count alike."""
        del stage
        made, truth = forecast_items(network, items, device)
        yield (made - truth).square().mean((-2, -1)).add(_LEAST_ERROR).log().mean()

    def set_mode(self, stage: int, network: nn.Module) -> None:
        """Set training mode."""
        del stage
        network.train()

    def miniature(self, stage: int, count: int) -> tuple[list[Any], float]:
        """Make simulated items of 16 x 16 pixels, and the ratio of the area of real ones."""
        del stage
        small = replace(self.settings, side=16)
        return [draw_items((), small, number)[0] for number in range(count)], (self.settings.side / 16) ** 2

    def memory_multipliers(self, stage: int, network: nn.Module) -> Iterator[float]:
        """Yield 1: there are no checkpoints."""
        del stage, network
        yield 1.0

    def suggest_smaller(self, stage: int, share: float) -> str:
        """Name the setting that saves memory."""
        del stage
        return f"set batch = {max(1, int(self.settings.batch * share))}"

    def validate(self, network: nn.Module, device: torch.device) -> dict[str, Any]:
        """Compute the mean PSNR of forecasts, of the last frame and of what followed the recalled one, in dB.

        The score is the gain over the better of both, on the mean over the groups that there are: simulated items, and
        items of the held-out cines.
        """
        figures, gains = {}, []
        for kind, share in (("simulated", 0.0), ("held_out", 1.0)):
            if kind == "simulated" or self.held_out:
                found = _figures(network, self._validation_items(share), device)
                figures[kind] = found
                gains += [found[f"forecast_{at}"] - max(found[f"last_{at}"], found[f"recalled_{at}"]) for at in _PARTS]
        return {"score": round(float(np.mean(gains)), 4), **figures}

    def pictures(self, network: nn.Module, device: torch.device, folder: Path) -> list[Output]:
        """Picture of a validation item: truth, forecast, last frame, and the errors of these two."""
        item = self._validation_items(1.0 if self.held_out else 0.0)[0]
        with torch.no_grad():
            made, truth = (each[0, -1].cpu().numpy() for each in forecast_items(network, [item], device))
        last = item.sources_WKSYX[-1, :, 0].numpy()
        panels = [
            Panel("truth", truth), Panel("forecast", made), Panel("last frame", last),
            Panel("error of forecast x 5", np.abs(made - truth), 5),
            Panel("error of last x 5", np.abs(last - truth), 5),
        ]  # fmt: skip
        kind = "a cine held out" if self.held_out else "simulated"
        return [preview_output(panels, (1, 1), None, folder / "validation.png", f"{kind}, played with variation")]

    def _validation_items(self, share: float) -> list[ForecastItem]:
        """Items of the held-out cines (share 1) or of scenes (0), drawn once."""
        if share not in self._held:
            settings, cines = replace(self.settings, real_share=share), self.held_out if share else []
            seeds = range(_VALIDATION_SEED, _VALIDATION_SEED + _VALIDATION_ITEMS)
            self._held[share] = [draw_items(cines, settings, seed)[0] for seed in seeds]
        return self._held[share]

    def _seed(self, number: int) -> int:
        series = number // _BLOCK * _SERIES_AT_ONCE + number % _SERIES_AT_ONCE
        return int(np.random.SeedSequence([self.seed, series]).generate_state(1, np.uint64)[0] >> 1)


_PARTS = ("first", "later")


def forecast_items(network: nn.Module, items: Sequence[ForecastItem], device: torch.device) -> tuple[Tensor, Tensor]:
    """Forecast items of one size.

    Returns
    -------
    Forecasts and truth, (B, W, K, Y, X).
    """
    assert isinstance(network, CineForecaster)
    read_BTRYX = torch.stack([item.read_TRYX for item in items]).to(device)
    sources_BWKSYX = torch.stack([item.sources_WKSYX for item in items]).to(device)
    states: States | None = None
    after: list[States] = []
    for read_BRYX in read_BTRYX.unbind(1):
        states = network.encode(read_BRYX, states)
        after.append(states)
    starting: States = [
        tuple(
            torch.cat([after[start][layer][part][b, None] for b, item in enumerate(items) for start in item.starts])
            for part in range(len(state))
        )
        for layer, state in enumerate(after[0])
    ]
    made = []
    for sources_NSYX in sources_BWKSYX.flatten(0, 1).unbind(1):
        frame_NYX, starting = network.forecast(sources_NSYX, starting)
        made.append(frame_NYX)
    forecast = torch.stack(made, dim=1).unflatten(0, sources_BWKSYX.shape[:2])
    return forecast, torch.stack([item.truth_WKYX for item in items]).to(device)


def _figures(network: nn.Module, items: Sequence[ForecastItem], device: torch.device) -> dict[str, float]:
    """Mean PSNR over items and starts, of the first frame ahead and of the later ones."""
    found: dict[str, list[float]] = {}
    with torch.no_grad():
        for item in items:
            made, truth = (each[0].cpu() for each in forecast_items(network, [item], device))
            images = {"forecast": made, "last": item.sources_WKSYX[:, :, 0], "recalled": item.sources_WKSYX[:, :, 2]}
            for name, image in images.items():
                error_WK = (image - truth).square().mean((-2, -1))
                psnr_WK = 10 * torch.log10(float(truth.max()) ** 2 / error_WK.clamp_min(1e-12))
                found.setdefault(f"{name}_first", []).append(float(psnr_WK[:, 0].mean()))
                found.setdefault(f"{name}_later", []).append(float(psnr_WK[:, 1:].mean()))
    return {name: round(float(np.mean(values)), 3) for name, values in found.items() if not math.isnan(values[0])}
