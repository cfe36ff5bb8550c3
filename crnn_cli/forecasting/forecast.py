"""Forecast of the next frames of a slice, and of their error.

Legend: K frame ahead, Y, X pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.forecasting.check import ForecastCheck
from crnn_cli.forecasting.memory import MOST_FRAMES
from crnn_cli.forecasting.stream import SliceStream
from crnn_cli.networks.forecaster import CineForecaster


@dataclass(frozen=True)
class SliceForecast:
    """Next frames of a slice.

    Attributes
    ----------
    frames_KYX : float32, in the intensities of the series.
    recalled_KYX : what followed the recalled frame, the frames of one beat before; None where nothing is recalled.
    last_YX : the last frame.
    check : errors of earlier forecasts.
    lag : frames from the recalled frame to the last one; 0 where nothing is recalled.
    """

    frames_KYX: Tensor
    recalled_KYX: Tensor | None
    last_YX: Tensor
    check: ForecastCheck
    lag: int


def forecast_slice(
    frames: Iterable[Tensor], count: int, ahead: int, network: CineForecaster, device: torch.device,
    bfloat16: bool = False,
) -> SliceForecast:  # fmt: skip
    """Follow a slice to its end, and look ahead.

    Forecasts from its last 64 frames at most are compared with what came: that is the error to expect.

    Parameters
    ----------
    frames : (Y, X) magnitudes, one after the other; each is let go when the next is asked for.
    count : how many there are.
    ahead : frames to forecast.
    network, device, bfloat16 : see `SliceStream`.
    """
    stream, check = SliceStream(network, device, bfloat16), ForecastCheck(ahead)
    first_checked = count - ahead - MOST_FRAMES
    for t, frame_YX in enumerate(frames):
        check.compare(frame_YX)
        stream.add(frame_YX)
        if t >= first_checked and t + 1 < count:
            check.keep(stream.forecast(min(ahead, count - 1 - t)))
    recalled = None
    if stream.memory.lag:
        recalled = torch.stack([stream.memory.recalled(k) for k in range(1, ahead + 1)]) * stream.scale
    last = stream.memory.newest * stream.scale
    return SliceForecast(stream.forecast(ahead), recalled, last, check, stream.memory.lag)
