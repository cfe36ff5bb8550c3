"""Images without labels for the viewer of a page, as grey levels: one byte a pixel, however large the scan is."""

from __future__ import annotations

import numpy as np

from crnn_cli.data.geometry import displayed_directions, displayed_slice
from crnn_cli.data.image import Image, magnitude_of
from crnn_cli.data.mapped_arrays import drop_pages
from crnn_cli.report.label_montage import LabelledSlices
from crnn_cli.report.montage import Panel, grey, white_of

MOST = 40_000_000
"""Pixels that a page holds at most; of a larger scan it has the slices in the middle."""


def image_slices(image: Image, first: int = 1) -> LabelledSlices:
    """Slices of a series across its third axis, in the grey scale of the middle one; of complex images the magnitude.

    Parameters
    ----------
    first : number of the first slice.
    """
    columns, rows, slices = image.shape[:3]
    count = max(1, min(slices, MOST // (columns * rows * image.frames)))
    start = (slices - count) // 2
    middle = magnitude_of(displayed_slice(image, slices // 2)).astype(np.float32)
    white = white_of(Panel("", middle))
    levels = np.empty((middle.shape[0], count, *middle.shape[1:]), np.uint8)
    for z in range(count):
        levels[:, z] = grey(magnitude_of(displayed_slice(image, start + z)).astype(np.float32), white)
        drop_pages(image.array)
    none = np.broadcast_to(np.uint8(0), levels.shape)
    numbers = [first + start + z for z in range(count)]
    spacing = (image.spacing[1], image.spacing[0])
    return LabelledSlices(levels, none, numbers, spacing, image.frame_time, displayed_directions(image))
