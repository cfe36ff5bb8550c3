"""k-space in HDF5: fastMRI, CMRxRecon and MATLAB 7.3, and any file with a complex array. Read slice by slice.

MATLAB writes its arrays so that others see the axes reversed; here they are in MATLAB's order, as in the same array
saved as version 7: (kx, ky, coil, slice, t) for CMRxRecon.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.cmrxrecon import boolean, cmrxrecon_axes, cmrxrecon_mask, is_cmrxrecon
from crnn_cli.io.kspace.fastmri import extent_of
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.stored_array import (
    MOST_COMPRESSED,
    Index,
    StoredArray,
    Values,
    as_complex,
    axes_in_doubt,
    is_complex,
    parse_axes,
    require_complex,
)


@contextmanager
def opened(place: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; what is damaged in it is an UnreadableError."""
    try:
        with h5py.File(place, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise UnreadableError(f"{place} is a damaged HDF5 file: {error}. Copy it again") from error


def kind_of(place: Path) -> str:
    """Return what an HDF5 file holds: ISMRMRD, fastMRI, CMRxRecon, MATLAB or HDF5 (anything else).

    Raises
    ------
    UnreadableError
        If it is truncated or damaged.
    """
    with opened(place) as file:
        names = set(file)
        nodes = [file.get(name) for name in names]
        if any(isinstance(node, h5py.Group) and {"data", "xml"} <= set(node) for node in nodes):
            return "ISMRMRD"
        beside = {"ismrmrd_header", "mask"} & names or {n for n in names if n.startswith("reconstruction_")}
        if beside and isinstance(file.get("kspace"), h5py.Dataset) and len(file["kspace"].shape) in (3, 4):
            return "fastMRI"
        if any(is_cmrxrecon(name) for name in names):
            return "CMRxRecon"
        return "MATLAB" if _is_matlab(place) else "HDF5"


def read_hdf5(place: Path, axes: str | None = None, variable: str | None = None) -> RawScan:
    """Return the scan in an HDF5 file that is not ISMRMRD.

    Parameters
    ----------
    axes : names of the stored axes; needed where the format does not say them.
    variable : path of the data set; needed where there are several.

    Raises
    ------
    UnreadableError
        If the file is truncated or damaged, or claims more than it can hold.
    UnsupportedDataError
        If it has no complex data set, several, or nothing says what the axes are.
    """
    kind = kind_of(place)
    name = variable or _the_one(place, kind)
    stored = stored_hdf5(place, name, kind)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored))
    if kind == "fastMRI" and name == "kspace":
        return _fastmri(stored)
    if kind == "CMRxRecon" and is_cmrxrecon(name):
        names = cmrxrecon_axes(stored)
        with opened(place) as file:
            masks = [n for n in file if n.startswith("mask") and isinstance(file[n], h5py.Dataset)]
            mask = np.asarray(file[masks[0]][()]).T if len(masks) == 1 else None
        return scan_from_array(stored, names, mask_TYX=None if mask is None else cmrxrecon_mask(mask, stored, names))
    raise axes_in_doubt(stored)


def _fastmri(stored: StoredArray) -> RawScan:
    """Return a fastMRI scan: (slice, coil, h, w) or (slice, h, w), h the readout, w the phase encoding, one frame."""
    names = ("slice", "coil", "kx", "ky") if len(stored.shape) == 4 else ("slice", "kx", "ky")
    with opened(stored.place) as file:
        header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
        mask = np.asarray(file["mask"][()]).reshape(1, -1, 1) if "mask" in file else None
    if mask is not None and mask.size != stored.shape[-1]:
        raise UnsupportedDataError(f"{stored.title}: its mask has {mask.size} lines, the k-space {stored.shape[-1]}")
    extent = None if header is None else extent_of(header, stored.shape[-2:], stored.place)
    return scan_from_array(stored, names, extent, None if mask is None else boolean(mask, stored.title))


def _the_one(place: Path, kind: str) -> str:
    """Return the path of the data set to read: that of the format, or the only complex one."""
    if kind == "fastMRI":
        return "kspace"
    found: dict[str, h5py.Dataset] = {}
    with opened(place) as file:
        file.visititems(lambda name, node: found.update({name: node}) if isinstance(node, h5py.Dataset) else None)
        listed = "; ".join(f"{name} {node.shape} {_kind_told(node)}" for name, node in found.items()) or "nothing"
        names = [name for name in found if is_cmrxrecon(name)] if kind == "CMRxRecon" else []
        names = names or [name for name, node in found.items() if is_complex(node.dtype) and len(node.shape or ()) > 1]
    if len(names) == 1:
        return names[0]
    if names:
        raise UnsupportedDataError(f"{place} has several complex arrays: choose one with --variable. It holds {listed}")
    raise UnsupportedDataError(
        f"{place} has no complex array, so no k-space. It holds {listed}. Real and imaginary part stored as two arrays "
        "or along an axis must be made one complex array first"
    )


def stored_hdf5(place: Path, name: str, kind: str = "HDF5") -> StoredArray:
    """Return a data set, still on disk.

    Raises
    ------
    UsageError
        If there is no such data set.
    UnsupportedDataError
        If it is not complex or is empty.
    """
    with opened(place) as file:
        node: Any = file.get(name)
        if not isinstance(node, h5py.Dataset):
            raise UsageError(f"{place} has no array {name!r}; at its top it has {', '.join(file) or 'nothing'}")
        shape, dtype = tuple(node.shape or ()), node.dtype
        matlab = "MATLAB_class" in node.attrs or kind == "CMRxRecon" or _is_matlab(place)
    require_complex(dtype, shape, f"{place}, {name}")
    claimed, size = int(np.prod([dtype.itemsize, *shape], dtype=object)), place.stat().st_size
    if claimed > MOST_COMPRESSED * size:
        raise UnreadableError(f"{place}, {name}: {shape} would be {claimed} bytes, the whole file is {size}: damaged")

    def fetch(index: Index) -> Values:
        with h5py.File(place, "r") as file:
            values = as_complex(file[name][tuple(index[::-1]) if matlab else index])
        return values.T if matlab else values

    notes = ("the axes are in MATLAB's order",) if matlab else ()
    return StoredArray(kind, place, name, shape[::-1] if matlab else shape, fetch, notes)


def _is_matlab(place: Path) -> bool:
    with place.open("rb") as stream:
        return stream.read(10) == b"MATLAB 7.3"


def _kind_told(node: h5py.Dataset) -> str:
    return "complex" if is_complex(node.dtype) else str(node.dtype)[:40]
