"""Thumbnail of a volume or a series: the middle slice as a small greyscale PNG, for notebooks."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.orientation import Affine, to_radiological

FRAMES = 4
"""Frames of a series shown side by side, evenly spaced in time."""
HEIGHT = 256
"""Height of the picture in pixels."""


def middle_slice_png(array: NDArray[np.generic], affine: Affine, spacing: tuple[float, float, float]) -> bytes:
    """Render the middle slice of the third axis as PNG: up to `FRAMES` frames side by side, radiological convention.

    Magnitudes are windowed from the 1st to the 99th percentile of what is shown. Pixels are stretched to their size in
    mm. NaN and infinite voxels are black.

    Parameters
    ----------
    array : (x, y, z) or (x, y, z, t), real or complex.
    spacing : voxel size in mm along x, y, z.
    """
    from PIL import Image as Picture  # noqa: PLC0415

    series = array if array.ndim == 4 else array[..., None]
    times = np.unique(np.linspace(0, series.shape[3] - 1, FRAMES).round().astype(int))
    magnitude = np.abs(np.asarray(series[:, :, series.shape[2] // 2][..., times])).transpose(2, 1, 0)
    finite = np.where(np.isfinite(magnitude), magnitude, 0).astype(np.float64)
    frames = to_radiological(finite, affine).astype(np.float64)
    low, high = np.percentile(frames, (1, 99))
    if high <= low:
        low, high = float(frames.min()), float(frames.max())
    grey = np.clip((frames - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
    pixels = np.rint(255 * np.concatenate(list(grey), axis=1)).astype(np.uint8)
    rows, columns = frames.shape[1:]
    width = HEIGHT * (columns * spacing[0]) / (rows * spacing[1])
    size = (max(1, min(8 * HEIGHT, round(len(frames) * width))), HEIGHT)
    buffer = io.BytesIO()
    Picture.fromarray(pixels).resize(size, Picture.Resampling.BILINEAR).save(buffer, "PNG")
    return buffer.getvalue()
