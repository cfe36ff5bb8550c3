"""Forecast of a series: the next frames of each slice, their expected errors, and those measured."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError
from crnn_cli.workflows.forecast.engine import ForecastEngine, prepare
from crnn_cli.workflows.forecast.options import ForecastOptions, check_options
from crnn_cli.workflows.forecast.source import Series, open_series, with_progress

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.data.image import Image
    from crnn_cli.forecasting.check import ExpectedError
    from crnn_cli.forecasting.forecast import SliceForecast


@dataclass(frozen=True)
class ForecastRun:
    """A forecast and what is known about it.

    Attributes
    ----------
    images : (x, y, z, t), float32: the frames that were forecast.
    series : that it was made from.
    read : frames that were read, from the first.
    report : as written beside the images.
    """

    images: Image
    series: Series
    read: int
    report: dict[str, Any]


def forecast_source(source: Path | Image, options: ForecastOptions, progress: notices.Progress) -> ForecastRun:
    """Forecast the series of a file or in memory; errors as of `forecast_series`, `open_series` and `prepare`."""
    check_options(options)
    engine = prepare(options.model, options.device)
    series = open_series(source, options.axes, options.series, options.slice_tolerance)
    return forecast_series(series, options, engine, progress)


def forecast_series(
    series: Series, options: ForecastOptions, engine: ForecastEngine, progress: notices.Progress
) -> ForecastRun:
    """Forecast the next frames of a series, each slice on its own.

    Raises
    ------
    UsageError
        If the series has no such frame, or too few to compare with.
    """
    import numpy as np

    from crnn_cli.forecasting.check import ForecastCheck
    from crnn_cli.forecasting.forecast import forecast_slice
    from crnn_cli.report.provenance import grid_facts, model_facts, tool_facts

    read, slices = _frames_read(series, options), series.image.shape[2]
    began, check = time.perf_counter(), ForecastCheck(options.frames)
    made = np.empty((*series.image.shape[:3], options.frames), np.float32)
    lags: list[int] = []
    references: list[_Comparison] = []
    for z in range(slices):
        frames = with_progress(series.frames(z, read), z * read, slices * read, progress)
        found = forecast_slice(frames, read, options.frames, engine.network, engine.device)
        made[:, :, z] = found.frames_KYX.permute(1, 2, 0).numpy()
        check.add(found.check)
        lags.append(found.lag)
        if options.reference:
            references.append(_compare(series, z, read, found))
    _tell_doubts(lags, options.frames, engine)
    images = replace(series.image, array=made)
    report = tool_facts() | model_facts(engine.bundle) | {
        "input": series.source, "device": str(engine.device), "seconds": round(time.perf_counter() - began, 2),
        "frames_read": read, "frames_forecast": options.frames,
        "recalled_frames_before": [lag or None for lag in lags],
        "frames": _frame_facts(check.expected(), references, read, images.frame_time),
    } | grid_facts(images) | notices.recorded()  # fmt: skip
    return ForecastRun(images, series, read, report)


def _frames_read(series: Series, options: ForecastOptions) -> int:
    total = series.image.frames
    read = total if options.from_frame is None else options.from_frame
    if read > total:
        raise UsageError(Param("from_frame", read), f" is beyond the end: {series.name} has {total} frames")
    if options.reference and read + options.frames > total:
        raise UsageError(
            f"after frame {read} {series.name} has {total - read} frames, fewer than the {options.frames} to compare",
            remedy=("take an earlier ", Param("from_frame"), " or fewer ", Param("frames")),
        )
    return read


@dataclass(frozen=True)
class _Comparison:
    """Squared errors by frame ahead of one slice, on the mean over pixels; and the largest value of the truth."""

    forecast: list[float]
    last: list[float]
    recalled: list[float] | None
    largest: float


def _compare(series: Series, z: int, read: int, found: SliceForecast) -> _Comparison:
    import torch

    ahead = len(found.frames_KYX)
    truth = torch.stack(list(series.frames(z, read + ahead))[read:])

    def squares(other: Tensor) -> list[float]:
        apart = (other - truth).double()  # in single precision squares of large units overflow
        return [float(v) for v in apart.square().mean((1, 2))]

    recalled = None if found.recalled_KYX is None else squares(found.recalled_KYX)
    return _Comparison(squares(found.frames_KYX), squares(found.last_YX), recalled, float(truth.max()))


def _frame_facts(
    expected: list[ExpectedError | None], references: list[_Comparison], read: int, frame_time: float | None
) -> list[dict[str, Any]]:
    """What the report says of each frame ahead."""
    facts = []
    for k, error in enumerate(expected):
        fact: dict[str, Any] = {
            "frame": read + k, "seconds_ahead": None if frame_time is None else round((k + 1) * frame_time, 6),
            "expected_rms": None if error is None else error.rms,
            "expected_rms_90": None if error is None else error.high,
            "measured_on": 0 if error is None else error.forecasts,
        }  # fmt: skip
        if references:
            fact |= {
                "psnr_db": _psnr(references, [each.forecast[k] for each in references]),
                "psnr_last_frame_db": _psnr(references, [each.last[k] for each in references]),
                "psnr_recalled_db": _psnr(references, [each.recalled[k] for each in references if each.recalled]),
            }
        facts.append(fact)
    return facts


def _psnr(references: list[_Comparison], squares: list[float]) -> float | None:
    """PSNR over all slices; the data range is the largest value of the truth. None where it is not defined."""
    largest = max(each.largest for each in references)
    if len(squares) < len(references) or not largest > 0 or not sum(squares) > 0:
        return None
    return round(10 * math.log10(largest**2 * len(squares) / sum(squares)), 3)


def _tell_doubts(lags: list[int], ahead: int, engine: ForecastEngine) -> None:
    alone = [z + 1 for z, lag in enumerate(lags) if not lag]
    if alone:
        which = "" if len(lags) == 1 else f" of slice {', '.join(map(str, alone))}"
        notices.warn(
            "nothing-recalled",
            f"no earlier frame{which} looks like the last one, as in a first beat: the forecast rests on the last "
            "frames alone",
        )
    if ahead > engine.bundle.frames_ahead:
        text = f"{engine.bundle.name} was trained to look {engine.bundle.frames_ahead} frames ahead, not {ahead}"
        notices.warn("beyond-training", text)
