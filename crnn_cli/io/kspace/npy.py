"""k-space in NumPy's .npy files: mapped, never loaded whole, never unpickled."""

from __future__ import annotations

import math
import tokenize
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.stored_array import StoredArray, axes_in_doubt, mapped_part, parse_axes, require_complex

_SIMULATED = ("slice", "coil", "t", "ky", "kx")


def read_numpy(place: Path, axes: str | None = None) -> RawScan:
    """Return the scan in a .npy file of centred, orthonormal k-space.

    Without ``axes`` only the files of `crnn simulate` are taken, OUT_kspace.npy with OUT_coils.npy beside it.

    Raises
    ------
    UnreadableError
        If the header is damaged or claims more than the file holds.
    UnsupportedDataError
        If it is not complex, or nothing says what its axes are.
    """
    stored = stored_numpy(place)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored))
    if not _is_simulated(place, stored.shape):
        raise axes_in_doubt(stored)
    return scan_from_array(stored, _SIMULATED)


def stored_numpy(place: Path) -> StoredArray:
    """Return the array of a .npy file, still on disk."""
    try:
        with place.open("rb") as stream:
            shape, fortran, kind = _header(stream)
            start = stream.tell()
        size = place.stat().st_size
    except (OSError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise UnreadableError(f"{place} is damaged: its .npy header cannot be read: {error}") from error
    require_complex(kind, shape, str(place))
    claimed = math.prod(shape) * kind.itemsize
    if start + claimed > size:
        raise UnreadableError(
            f"{place} breaks off: its header claims {shape} {kind}, {claimed} bytes, and {size - start} are there"
        )
    order: Any = "F" if fortran else "C"
    return StoredArray("NumPy", place, "", shape, lambda index: mapped_part(place, kind, start, shape, order, index))


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format is not known")
    shape, fortran, kind = readers[version](stream)
    if min(shape, default=0) < 0:
        raise ValueError(f"it claims a shape of {shape}")
    return shape, fortran, kind


def _is_simulated(place: Path, shape: tuple[int, ...]) -> bool:
    """Return whether `crnn simulate` wrote the file: its sensitivities (coil, y, x) lie beside it."""
    beside = place.with_name(place.name.removesuffix("_kspace.npy") + "_coils.npy")
    if len(shape) != 5 or beside.name == place.name + "_coils.npy" or not beside.is_file():
        return False
    try:
        return stored_numpy(beside).shape == (shape[1], shape[3], shape[4])
    except (UnreadableError, UnsupportedDataError):
        return False
