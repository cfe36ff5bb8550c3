"""Coil sensitivity maps in files: NumPy, MATLAB and HDF5 arrays, or the pairs that ``bart ecalib`` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.input_files import require_file
from crnn_cli.errors import UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.formats import BART, HDF5, MATLAB, NUMPY, identify
from crnn_cli.io.kspace.bart import stored_bart
from crnn_cli.io.kspace.hdf5 import stored_only
from crnn_cli.io.kspace.matlab import stored_matlab
from crnn_cli.io.kspace.npy import stored_numpy
from crnn_cli.io.kspace.stored_array import StoredArray

_DIMENSIONS = (0, 1, 3, 4, 13)  # of BART: read, phase 1, coil, set of maps, slice


def require_maps_name(target: Path) -> None:
    """Raise UsageError unless the name ends in .npy or .png."""
    if target.suffix.lower() not in (*NUMPY.suffixes, ".png"):
        raise UsageError(f"cannot write {target}: sensitivities are an array, .npy, or a picture, .png")


def read_maps(path: Path) -> Complex:
    """Read sensitivities as complex64 (slice, coil, y, x), or (slice, set, coil, y, x) of several sets.

    Parameters
    ----------
    path : .npy or HDF5 of ([slice,] coil, y, x) or (slice, set, coil, y, x); MATLAB with these axes in reverse; or a
        BART pair of read, phase 1, coil and perhaps sets of maps and slices, as ``bart ecalib -m 2`` writes them.

    Raises
    ------
    UnreadableError
        If the file is none of these, or damaged.
    UnsupportedDataError
        If it has other axes, several arrays, values that are not finite, or is not complex.
    """
    require_file(path)
    stored = _stored(path)
    array = stored.part((slice(None),) * len(stored.shape))
    if stored.format == "BART":
        return _from_bart(array, path)
    if any(each.code == "matlab-order" for each in stored.remarks):
        array = array.T
    if array.ndim not in (3, 4, 5):
        raise UnsupportedDataError(
            f"{path} holds an array of {array.shape}; sensitivities are ([slice, [set,]] coil, y, x)"
        )
    maps: Complex = np.ascontiguousarray(array)
    return maps[None] if maps.ndim == 3 else maps


def _stored(path: Path) -> StoredArray:
    """The array of a file, left on disk."""
    row = identify(path, "kspace")
    if row is BART:
        return stored_bart(path)
    if row is NUMPY:
        return stored_numpy(path)
    if row is MATLAB:
        return stored_matlab(path, None)
    if row is HDF5:
        return stored_only(path)
    what = "does not exist" if not path.exists() else f"holds {row.name}" if row else "is of no known format"
    raise UnreadableError(
        f"{path} {what}", remedy=("give sensitivities as a complex array: .npy, .cfl with .hdr, MATLAB or HDF5",)
    )


def _from_bart(array: Complex, path: Path) -> Complex:
    """Sensitivities (slice, [set,] coil, y, x) of an array with the dimensions of BART."""
    sizes = dict(enumerate(array.shape))
    odd = [n for n, size in sizes.items() if size > 1 and n not in _DIMENSIONS]
    if odd:
        raise UnsupportedDataError(
            f"{path} has {sizes[odd[0]]} entries along dimension {odd[0]}; sensitivities are read, phase 1, coil, "
            "set of maps, slice"
        )
    whole = array.reshape([sizes.get(n, 1) for n in _DIMENSIONS], order="F").transpose(4, 3, 2, 1, 0)
    return np.ascontiguousarray(whole if whole.shape[1] > 1 else whole[:, 0])
