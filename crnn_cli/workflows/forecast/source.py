"""Series that are followed frame by frame: read, checked, and handed out one frame at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.notices import STREAM

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.data.image import Image


@dataclass(frozen=True)
class Series:
    """A series that was checked.

    Attributes
    ----------
    image : (x, y, z, t), finite; a large one lies in a file.
    name : of it, in messages.
    source : what a report says of the file; empty for an image from memory.
    """

    image: Image
    name: str
    source: dict[str, Any] = field(default_factory=dict)

    def frames(self, z: int, count: int) -> Iterator[Tensor]:
        """Yield the magnitudes (x, y) of the first frames of a slice, float32, each read when it is asked for.

        Parameters
        ----------
        z : number of the slice along the third axis.
        count : of the frames.
        """
        import numpy as np
        import torch

        from crnn_cli.data.image import magnitude_of
        from crnn_cli.data.mapped_arrays import drop_pages

        array = self.image.array
        for t in range(count):
            plane = array[:, :, z, t]
            values = magnitude_of(plane) if self.image.is_complex else plane
            frame = torch.from_numpy(np.array(values, np.float32, order="C"))
            drop_pages(array)
            yield frame


def with_progress(frames: Iterable[Tensor], done: int, total: int, progress: notices.Progress) -> Iterator[Tensor]:
    """Yield frames, and tell after each how many are done.

    Parameters
    ----------
    done, total : frames of earlier slices, and of all.
    """
    for number, frame in enumerate(frames, start=done + 1):
        yield frame
        progress(number, total)


def open_series(
    source: Path | Image, axes: str | None = None, series: str | None = None, slice_tolerance: float | None = None
) -> Series:
    """Open the series of a file, or take one in memory, and check it; as `read_series` and `check_series`."""
    if isinstance(source, Path):
        return read_series(source, axes, series, slice_tolerance)
    return check_series(source, "the image")


def read_series(path: Path, axes: str | None, series: str | None, slice_tolerance: float | None) -> Series:
    """Read a series from a file or folder, and check it.

    Parameters
    ----------
    axes, series, slice_tolerance : see `crnn_cli.io.images.load_image`.

    Raises
    ------
    UnsupportedDataError
        As `check_series`, and for a label map.
    CrnnError
        As `crnn_cli.io.images.load_image`.
    """
    from crnn_cli.io.images import load_image
    from crnn_cli.io.nifti.intent import LABELS

    name = "standard input" if path == STREAM else str(path)
    loaded = load_image(path, axes, series, slice_tolerance=slice_tolerance)
    if loaded.intent == LABELS:
        raise UnsupportedDataError(f"{name} is a label map", remedy=("give the images that were labelled",))
    checked = check_series(loaded.image, name)
    notices.tell(*loaded.remarks())
    return Series(checked.image, name, dict(loaded.source))


def check_series(image: Image, name: str) -> Series:
    """Check that an image is a series in which something is to be seen.

    Raises
    ------
    UnsupportedDataError
        If it has no time axis or one frame, voxels are NaN or infinite, or all have one value.
    """
    if image.array.ndim < 4 or image.frames < 2:
        what = "has no time axis" if image.array.ndim < 4 else "has one frame"
        raise UnsupportedDataError(
            f"{name} {what}: a forecast needs a series of 2 frames or more",
            remedy=("if time is stored as the third axis, say so with ", Param("axes", "x,y,t")),
        )
    image.require_finite(name)
    low, high = _range(image)
    if low == high:
        raise UnsupportedDataError(f"all voxels of {name} are {low:g}: there is nothing to forecast")
    if image.is_complex:
        notices.note("magnitude-taken", f"{name} is complex: its magnitude is forecast")
    elif low < 0:
        notices.warn("negative-values", f"{name} has negative values; a forecast has none")
    return Series(image, name)


def _range(image: Image) -> tuple[float, float]:
    """Least and largest value, of complex ones by magnitude."""
    import numpy as np

    from crnn_cli.data.mapped_arrays import chunk_indices, drop_pages

    ranges = []
    for chunk in chunk_indices(image.shape, image.array.itemsize):
        values = np.abs(image.array[chunk]) if image.is_complex else image.array[chunk]
        ranges.append((float(values.min()), float(values.max())))
        drop_pages(image.array)
    return min(low for low, _ in ranges), max(high for _, high in ranges)
