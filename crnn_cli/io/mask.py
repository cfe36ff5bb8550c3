"""Sampling masks of images from files: any image that is read, or a NumPy array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crnn_cli.data.image import Image
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.atomic_write import digest
from crnn_cli.io.axes import ordered_array
from crnn_cli.io.formats import NUMPY, identify
from crnn_cli.io.images import load_image


def load_mask(path: Path, axes: str | None = None) -> tuple[Image, str]:
    """Read a sampling mask, its axes x, y, z, t; of a NumPy array they have that order too, and no place.

    Parameters
    ----------
    axes : stored axes of the scan; they are those of the mask too if it has as many.

    Returns
    -------
    The mask, and the sha256 of its file.

    Raises
    ------
    UnsupportedDataError
        If it is of another format of raw k-space.
    CrnnError
        See `crnn_cli.io.images.load_image`.
    """
    row = identify(path)
    if row is NUMPY:
        return _from_numpy(path, axes)
    if row is not None and row.kind == "kspace":
        raise UnsupportedDataError(
            f"{path} is {row.name}, and no mask is read from that",
            remedy=("save the mask as NIfTI or .npy, x, y, z, t",),
        )
    loaded = load_image(path)
    same = axes is not None and loaded.stored_axes == axes.count(",") + 1
    return load_image(path, axes).image if same else loaded.image, loaded.source["sha256"]


def _from_numpy(path: Path, axes: str | None) -> tuple[Image, str]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableError(f"{path} is not a whole NumPy file") from error
    if array.dtype.kind not in "buifc":
        raise UnsupportedDataError(f"{path} holds {array.dtype}, not a mask of 0 and 1")
    same = axes is not None and array.ndim == axes.count(",") + 1
    return Image(ordered_array(array, axes if same else None, str(path)), np.eye(4)), digest(path)
