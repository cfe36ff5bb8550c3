"""Coil sensitivity maps in files: NumPy arrays, or the .cfl files that ``bart ecalib`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.input_files import require_file
from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.io.formats import BART, NUMPY
from crnn_cli.io.kspace.bart import stored_bart
from crnn_cli.io.kspace.npy import stored_numpy

_DIMENSIONS = (0, 1, 3, 4, 13)  # of BART: read, phase 1, coil, set of maps, slice


def require_maps_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .npy or .png."""
    if target.suffix.lower() not in (*NUMPY.suffixes, ".png"):
        raise UsageError(f"cannot write {target}: sensitivities are an array, .npy, or a picture, .png")


def read_maps(path: Path) -> Complex:
    """Read sensitivities as complex64 (slice, coil, y, x), or (slice, set, coil, y, x) of several sets.

    Parameters
    ----------
    path : .npy of ([slice,] coil, y, x) or (slice, set, coil, y, x), or .cfl of read, phase 1, coil and perhaps sets of
        maps and slices, as ``bart ecalib -m 2`` writes them.

    Raises
    ------
    UnreadableError
        If the file is neither.
    UnsupportedDataError
        If it has other axes, or is not complex.
    """
    if path.suffix in BART.suffixes:
        stored = stored_bart(path)
        array = stored.part((slice(None),) * len(stored.shape))
        sizes = dict(enumerate(array.shape))
        odd = [n for n, size in sizes.items() if size > 1 and n not in _DIMENSIONS]
        if odd:
            raise UnsupportedDataError(
                f"{path} has {sizes[odd[0]]} entries along dimension {odd[0]}; sensitivities are read, phase 1, coil, "
                "set of maps, slice"
            )
        whole = array.reshape([sizes.get(n, 1) for n in _DIMENSIONS], order="F").transpose(4, 3, 2, 1, 0)
        return np.ascontiguousarray(whole if whole.shape[1] > 1 else whole[:, 0])
    require_file(path)
    stored = stored_numpy(path)
    if len(stored.shape) not in (3, 4, 5):
        raise UnsupportedDataError(f"{path} is {stored.shape}; sensitivities are complex, ([slice, [set,]] coil, y, x)")
    maps: Complex = stored.part((slice(None),) * len(stored.shape))
    return maps[None] if maps.ndim == 3 else maps
