"""K-space in HDF5: fastMRI, CMRxRecon, MATLAB 7.3, and any file with a complex array; read slice by slice.

* fastMRI: data set ``kspace`` (slice, [coil,] kx, ky), ``ismrmrd_header`` (XML), perhaps ``mask``.
* CMRxRecon: data set ``kspace_full``, ``kspace_sub04`` or alike, in a file of MATLAB 7.3.
* MATLAB 7.3 stores its column-major arrays so that others see the axes reversed. Here they are in MATLAB's order, as in
  the same array saved as version 7: (kx, ky, coil, slice, t) for CMRxRecon.

References
----------
Zbontar et al., arXiv:1811.08839 (fastMRI). Wang et al., Sci. Data 11, 687, 2024 (CMRxRecon).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import Param, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.axis_order import axes_in_doubt
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.cmrxrecon import boolean, cmrxrecon_axes, cmrxrecon_mask, is_cmrxrecon
from crnn_cli.io.kspace.fastmri import extent_of
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.hdf5_file import dataset, opened, require_sound, text_of
from crnn_cli.io.kspace.stored_array import (
    Index,
    StoredArray,
    Values,
    as_complex,
    is_complex,
    parse_axes,
    require_complex,
)
from crnn_cli.io.limits import require_measured
from crnn_cli.notices import Fact


def convention_of(path: Path) -> str:
    """Convention that an HDF5 file follows: ISMRMRD, fastMRI, CMRxRecon, MATLAB, or HDF5 for any other.

    Raises
    ------
    UnreadableError
        If it is truncated or damaged.
    """
    with opened(path) as file:
        names = set(file)
        nodes = [file.get(name) for name in names]
        if any(isinstance(node, h5py.Group) and {"data", "xml"} <= set(node) for node in nodes):
            return "ISMRMRD"
        beside = {"ismrmrd_header", "mask"} & names or {n for n in names if n.startswith("reconstruction_")}
        kspace = file.get("kspace")
        if beside and isinstance(kspace, h5py.Dataset) and len(kspace.shape or ()) in (3, 4):
            return "fastMRI"
        if any(is_cmrxrecon(name, _axes_of_matlab(path, node)) for name, node in zip(names, nodes, strict=True)):
            return "CMRxRecon"
        return "MATLAB" if _is_matlab(path) else "HDF5"


def is_ismrmrd(path: Path) -> bool:
    """Whether an HDF5 file is ISMRMRD; UnreadableError if it is truncated or damaged."""
    return convention_of(path) == "ISMRMRD"


def read_hdf5(
    path: Path, axes: str | None = None, variable: str | None = None, *, kind: str | None = None,
    drop_empty: bool = False,
) -> RawScan:  # fmt: skip
    """Read the scan in an HDF5 file that is not ISMRMRD.

    Parameters
    ----------
    axes : names of the stored axes; needed where the convention does not name them.
    variable : path of the data set in the file; needed where there are several.
    kind, drop_empty : as of `crnn_cli.io.kspace.choices.RawChoices`.

    Raises
    ------
    UnreadableError
        If the file is truncated or damaged, or claims more than it can hold.
    UnsupportedDataError
        If it has no complex data set, several, or nothing says what the axes are.
    """
    convention, choice = convention_of(path), RawChoices(kind, drop_empty=drop_empty)
    name = variable or _name_of_kspace(path, convention)
    stored = stored_hdf5(path, name, convention)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored), choice=choice)
    if convention == "fastMRI" and name == "kspace":
        return _fastmri(stored, choice)
    if convention == "CMRxRecon" and is_cmrxrecon(name, len(stored.shape)):
        names = cmrxrecon_axes(stored)
        with opened(path) as file:
            masks = [node for name, node in file.items() if name.startswith("mask") and isinstance(node, h5py.Dataset)]
            fits = len(masks) == 1 and 0 < (masks[0].size or 0) <= math.prod(stored.shape)
            mask = np.asarray(masks[0][()]).T if fits else None
        mask_TYX = None if mask is None else cmrxrecon_mask(mask, stored, names)
        return scan_from_array(stored, names, mask_TYX=mask_TYX, choice=choice)
    raise axes_in_doubt(stored)


def _fastmri(stored: StoredArray, choice: RawChoices) -> RawScan:
    """FastMRI scan: (slice, coil, h, w) or (slice, h, w), h the readout, w the phase encoding, one frame."""
    names = ("slice", "coil", "kx", "ky") if len(stored.shape) == 4 else ("slice", "kx", "ky")
    with opened(stored.path) as file:
        header = (
            text_of(dataset(file, "ismrmrd_header", stored.path), stored.path) if "ismrmrd_header" in file else None
        )
        lines = dataset(file, "mask", stored.path).size if "mask" in file else 0
        mask = np.asarray(file["mask"][()]).reshape(1, -1, 1) if lines == stored.shape[-1] else None
    if lines and mask is None:
        raise UnsupportedDataError(f"{stored.title}: its mask has {lines} lines, the k-space {stored.shape[-1]}")
    extent = None if header is None else extent_of(header, stored.shape[-2:], stored.path)
    mask_TYX = None if mask is None else boolean(mask, stored.title)
    return scan_from_array(stored, names, extent, mask_TYX, choice)


def _name_of_kspace(path: Path, convention: str) -> str:
    """Path of the data set to read: that of the convention, or the only complex one."""
    if convention == "fastMRI":
        return "kspace"
    datasets: dict[str, h5py.Dataset] = {}
    with opened(path) as file:
        file.visititems(lambda name, node: datasets.update({name: node}) if isinstance(node, h5py.Dataset) else None)
        listed = [f"{name} {node.shape} {_dtype_text(node)}" for name, node in datasets.items()]
        names = [name for name in datasets if is_cmrxrecon(name, _axes_of_matlab(path, datasets[name]))]
        names = names if convention == "CMRxRecon" else []
        names = names or [
            name for name, node in datasets.items() if is_complex(node.dtype) and len(node.shape or ()) > 1
        ]
    if len(names) == 1:
        return names[0]
    contents = "; ".join(listed) or "nothing"
    if names:
        raise UnsupportedDataError(
            f"{path} has several complex arrays. It holds {contents}", remedy=("choose one with ", Param("variable"))
        )
    raise UnsupportedDataError(
        f"{path} has no complex array, so no k-space. It holds {contents}. Real and imaginary part stored as two "
        "arrays or along an axis must be made one complex array first"
    )


def stored_only(path: Path) -> StoredArray:
    """Open the only complex data set of a file, left on disk.

    Raises
    ------
    UnreadableError
        If the file is damaged.
    UnsupportedDataError
        If there is none, or several.
    """
    convention = convention_of(path)
    return stored_hdf5(path, _name_of_kspace(path, convention), convention)


def stored_hdf5(path: Path, name: str, convention: str = "HDF5") -> StoredArray:
    """Open a data set, left on disk.

    Parameters
    ----------
    name : path of the data set in the file.
    convention : as `convention_of` names it; decides on the order of the axes.

    Raises
    ------
    UsageError
        If there is no such data set.
    UnsupportedDataError
        If it is not complex or is empty.
    """
    with opened(path) as file:
        node: Any = file.get(name)
        if not isinstance(node, h5py.Dataset):
            raise UsageError(f"{path} has no array {name!r}; at its top it has {', '.join(file) or 'nothing'}")
        shape, dtype = tuple(node.shape or ()), node.dtype
        matlab = "MATLAB_class" in node.attrs or convention == "CMRxRecon" or _is_matlab(path)
    require_sound(dtype, f"{path}, {name}")
    require_complex(dtype, shape, f"{path}, {name}")
    claimed, size = int(np.prod([dtype.itemsize, *shape], dtype=object)), path.stat().st_size
    require_measured(claimed, size, f"{path}, {name} {shape},")

    def fetch(index: Index) -> Values:
        with opened(path) as file:
            values = as_complex(file[name][tuple(index[::-1]) if matlab else index])
        return values.T if matlab else values

    remarks = (Fact("matlab-order", "the axes are in MATLAB's order"),) if matlab else ()
    return StoredArray(convention, path, name, shape[::-1] if matlab else shape, fetch, remarks)


def _is_matlab(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(10) == b"MATLAB 7.3"


def _axes_of_matlab(path: Path, node: Any) -> int | None:
    """Number of axes of a complex array that MATLAB wrote; None for anything else."""
    matlab = isinstance(node, h5py.Dataset) and ("MATLAB_class" in node.attrs or _is_matlab(path))
    return len(node.shape or ()) if matlab and is_complex(node.dtype) else None


def _dtype_text(node: h5py.Dataset) -> str:
    return "complex" if is_complex(node.dtype) else str(node.dtype)[:40]
