"""Forecaster, loaded once for all slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from crnn_cli.bundles.store import Bundle
    from crnn_cli.networks.forecaster import CineForecaster


@dataclass(frozen=True)
class ForecastEngine:
    """A forecaster on its device.

    Parameters
    ----------
    network : in evaluation mode, on ``device``.
    """

    bundle: Bundle
    network: CineForecaster
    device: torch.device


def prepare(model: str | None, device: str) -> ForecastEngine:
    """Load a forecaster.

    Parameters
    ----------
    model : published name or bundle folder; None for the default.
    device : see `crnn_cli.compute.device.choose_device`.

    Raises
    ------
    UsageError, UnreadableError, UnsupportedDataError
        If there is no such model, it is damaged, or it does not forecast.
    DeviceError
        If the device is not there.
    """
    from crnn_cli.bundles.store import find_bundle, load_forecaster
    from crnn_cli.compute.device import choose_device

    chosen = choose_device(device)
    bundle = find_bundle(model, "forecast")
    return ForecastEngine(bundle, load_forecaster(bundle, chosen), chosen)
