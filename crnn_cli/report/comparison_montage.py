"""Picture of several methods: a row for each with its difference from the best that is known, or a movie of all.

Legend: T frame, Y row and X column of a slice as displayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from crnn_cli.io.atomic_write import Output
from crnn_cli.report.crop import WHOLE, moving_region
from crnn_cli.report.lettering import Grey, captioned, titled_row
from crnn_cli.report.montage import (
    encoded,
    frame_line,
    grey,
    is_still,
    liveliest_column,
    profile,
    require_preview_name,
    resized,
    tile_size,
)

_TALLEST, _WIDEST = 1200, 1400  # pixels of all tiles together, beyond which they become smaller
_USUAL = 220
GAIN = 5
"""Factor on the brightness of differences."""


@dataclass(frozen=True)
class MethodFrames:
    """Frames of one method.

    Attributes
    ----------
    label : name of the method.
    frames_TYX : magnitudes, turned as they are displayed.
    against : name of what it is compared with; empty for that itself, which has no difference.
    difference_TYX : magnitude of the difference; None where there is none.
    """

    label: str
    frames_TYX: NDArray[np.floating]
    against: str = ""
    difference_TYX: NDArray[np.floating] | None = None

    @property
    def difference_label(self) -> str:
        """Title of the difference."""
        return f"{self.label} - {self.against}, x {GAIN}" if self.against else ""


def comparison_output(
    methods: Sequence[MethodFrames],
    spacing: tuple[float, float],
    frame_time: float | None,
    target: Path,
    caption: str = "",
) -> Output:
    """Draw a montage (.png) or a movie (.gif), cropped to what moves where that is a small part of the slice.

    The montage shows the first frame and the one that differs most from it, the column that varies most over time, and
    the difference beside each. The movie has the differences below.

    Parameters
    ----------
    methods : the first sets the grey scale, the crop and the frames.
    spacing : row and column spacing in mm.
    frame_time : s.
    caption : on top of every picture.

    Raises
    ------
    UsageError
        If the name ends neither in .png nor in .gif.
    """
    require_preview_name(target)
    region = moving_region(methods[0].frames_TYX, spacing)
    rows, columns = region or WHOLE
    white = float(np.percentile(methods[0].frames_TYX[:, rows, columns], 99.7)) or 1.0
    images = [grey(each.frames_TYX[:, rows, columns], white) for each in methods]
    differences = [
        np.zeros_like(image)
        if each.difference_TYX is None
        else grey(GAIN * each.difference_TYX[:, rows, columns], white)
        for each, image in zip(methods, images, strict=True)
    ]
    caption += "; cropped to what moves" if region else ""
    room = (_TALLEST if is_still(target) else _WIDEST) / len(methods)
    size = tile_size(images[0].shape[1:], spacing, min(1.0, room / _USUAL))
    if is_still(target):
        pictures = [captioned(_montage(methods, images, differences, size), caption)]
    else:
        movie = _movie(methods, images, differences, size)
        lines = [frame_line(frame, len(movie), frame_time) for frame in range(len(movie))]
        pictures = [captioned(captioned(each, line), caption) for each, line in zip(movie, lines, strict=True)]
    return Output(target, encoded([PIL.Image.fromarray(picture) for picture in pictures], target, frame_time))


def _montage(
    methods: Sequence[MethodFrames], images: Sequence[Grey], differences: Sequence[Grey], size: tuple[int, int]
) -> Grey:
    first = images[0].astype(np.float32)
    other = int(np.argmax(np.abs(first - first[0]).sum(axis=(1, 2))))
    column = liveliest_column(images[0])
    pointer = int((column + 0.5) * size[1] / first.shape[2])
    rows = []
    for method, image, difference in zip(methods, images, differences, strict=True):
        tiles, titles, pointers = [], [], []
        for frame in dict.fromkeys((0, other)):
            tiles += [resized(image[frame], size), resized(difference[frame], size)]
            titles += [f"{method.label}, frame {frame + 1}", method.difference_label]
            pointers += [pointer, None]
        if len(image) > 1:
            tiles += [profile(image, column, size), profile(difference, column, size)]
            titles += ["column over time", "difference" if method.against else ""]
            pointers += [None, None]
        rows.append(titled_row(tiles, titles, pointers if len(image) > 1 else ()))
    return np.vstack(rows)


def _movie(
    methods: Sequence[MethodFrames], images: Sequence[Grey], differences: Sequence[Grey], size: tuple[int, int]
) -> list[Grey]:
    names = [[method.label for method in methods], [method.difference_label for method in methods]]
    return [
        np.vstack(
            [
                titled_row([resized(each[frame], size) for each in layer], titles)
                for layer, titles in zip((images, differences), names, strict=True)
            ]
        )
        for frame in range(len(images[0]))
    ]
