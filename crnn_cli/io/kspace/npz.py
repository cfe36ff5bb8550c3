"""K-space in .npz archives of NumPy: a zip of .npy files, compressed or not, of which one is read whole."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.axis_order import axes_in_doubt
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.npy import read_npy_header
from crnn_cli.io.kspace.stored_array import (
    StoredArray,
    as_complex,
    is_complex,
    parse_axes,
    require_complex,
)
from crnn_cli.io.limits import zip_member
from crnn_cli.notices import Fact

_DAMAGE = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, RuntimeError, NotImplementedError, OSError, EOFError,
           ValueError, SyntaxError, TypeError, RecursionError, MemoryError)  # fmt: skip


def read_npz(
    path: Path, axes: str | None = None, variable: str | None = None, *, kind: str | None = None,
    drop_empty: bool = False,
) -> RawScan:  # fmt: skip
    """Read the scan in an .npz archive of NumPy.

    Parameters
    ----------
    axes : names of the stored axes.
    variable : name of the array; needed where there are several complex ones.
    kind, drop_empty : as of `crnn_cli.io.kspace.choices.RawChoices`.

    Raises
    ------
    UnreadableError
        If the archive is damaged, or claims more than measured values can be compressed.
    UsageError
        If there is no such array.
    UnsupportedDataError
        If there is no complex array, there are several, or nothing says what the axes are.
    DeviceError
        If the array does not fit into memory.
    """
    stored = stored_npz(path, variable)
    if axes is None:
        raise axes_in_doubt(stored)
    return scan_from_array(stored, parse_axes(axes, stored), choice=RawChoices(kind, drop_empty=drop_empty))


def stored_npz(path: Path, variable: str | None) -> StoredArray:
    """Read the named, or the only complex, array of an archive into memory; raises as `read_npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {info.filename.removesuffix(".npy"): info for info in archive.infolist()
                      if info.filename.endswith(".npy")}  # fmt: skip
            headers = {}
            for name, info in arrays.items():
                with archive.open(info) as stream:
                    headers[name] = read_npy_header(stream)
            name = _chosen(path, variable, {name: (shape, dtype) for name, (shape, _, dtype) in headers.items()})
            array = np.lib.format.read_array(io.BytesIO(zip_member(archive, arrays[name])), allow_pickle=False)
    except _DAMAGE as error:
        raise UnreadableError(f"{path} is a damaged archive of NumPy: {error}. Copy it again") from error
    whole = Fact("read-whole", "an archive of NumPy cannot be read in parts: the array was read whole")
    return StoredArray("NumPy", path, name, array.shape, as_complex(array).__getitem__, (whole,))


def _chosen(path: Path, variable: str | None, held: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]) -> str:
    """Name of the array to read; that it is complex is checked before it is unpacked."""
    contents = "; ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in held.items()) or "nothing"
    if variable is not None and variable not in held:
        raise UsageError(f"{path} has no array {variable!r}. It holds {contents}")
    wanted = [name for name, (shape, dtype) in held.items() if is_complex(dtype) and len(shape) > 1]
    names = wanted if variable is None else [variable]
    if len(names) != 1:
        problem = "several complex arrays" if names else "no complex array, so no k-space"
        remedy = ("choose one with ", Param("variable")) if names else ()
        raise UnsupportedDataError(f"{path} has {problem}. It holds {contents}", remedy=remedy)
    shape, dtype = held[names[0]]
    require_complex(dtype, shape, f"{path}, {names[0]}")
    return names[0]
