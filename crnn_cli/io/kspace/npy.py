"""K-space in .npy files of NumPy, mapped and never loaded whole.

The format is a magic string, a header (dtype, order, shape) and the array. Arrays of Python objects are refused: they
would have to be unpickled, which can run code. Nothing in the file names the axes.
"""

from __future__ import annotations

import math
import tokenize
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.axis_order import axes_in_doubt
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.stored_array import (
    StoredArray,
    as_complex,
    parse_axes,
    read_part,
    require_complex,
)

_SIMULATED = ("slice", "coil", "t", "ky", "kx")


def read_numpy(path: Path, axes: str | None = None, *, kind: str | None = None, drop_empty: bool = False) -> RawScan:
    """Read the scan in a .npy file of centred, orthonormal k-space.

    Parameters
    ----------
    axes : names of the stored axes; needed unless `crnn simulate` wrote the file (OUT_kspace.npy with OUT_coils.npy
        beside it).
    kind, drop_empty : as of `crnn_cli.io.kspace.choices.RawChoices`.

    Raises
    ------
    UnreadableError
        If the header is damaged or claims more than the file holds.
    UnsupportedDataError
        If it is not complex, or nothing says what its axes are.
    """
    stored = stored_numpy(path)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored), choice=RawChoices(kind, drop_empty=drop_empty))
    if not _is_simulated(path, stored.shape):
        raise axes_in_doubt(stored)
    return scan_from_array(stored, _SIMULATED, choice=RawChoices(kind, drop_empty=drop_empty))


def stored_numpy(path: Path) -> StoredArray:
    """Open the array of a .npy file, left on disk.

    Raises
    ------
    UnreadableError
        If the header is damaged or claims more than the file holds.
    UnsupportedDataError
        If the array is not complex.
    """
    try:
        with path.open("rb") as stream:
            shape, fortran, dtype = read_npy_header(stream)
            start = stream.tell()
        size = path.stat().st_size
    except (OSError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise UnreadableError(f"{path} is damaged: its .npy header cannot be read: {error}") from error
    require_complex(dtype, shape, str(path))
    claimed = math.prod(shape) * dtype.itemsize
    if start + claimed > size:
        raise UnreadableError(
            f"{path} breaks off: its header claims {shape} {dtype}, {claimed} bytes, and {size - start} are there"
        )
    order: Literal["C", "F"] = "F" if fortran else "C"
    return StoredArray(
        "NumPy", path, "", shape, lambda index: as_complex(read_part(path, dtype, start, shape, order, index))
    )


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy file: shape, whether it is in Fortran's order, and type; the array follows.

    Raises
    ------
    ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError
        If it is damaged.
    """
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format is not known")
    shape, fortran, dtype = readers[version](stream)
    if min(shape, default=0) < 0:
        raise ValueError(f"it claims a shape of {shape}")
    return shape, fortran, dtype


def _is_simulated(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether `crnn simulate` wrote the file: its sensitivities (coil, y, x) lie beside it."""
    beside = path.with_name(path.name.removesuffix("_kspace.npy") + "_coils.npy")
    if len(shape) != 5 or beside.name == path.name + "_coils.npy" or not beside.is_file():
        return False
    try:
        return stored_numpy(beside).shape == (shape[1], shape[3], shape[4])
    except (UnreadableError, UnsupportedDataError):
        return False
