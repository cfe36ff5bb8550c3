"""K-space in MATLAB files of version 5 to 7, through scipy.

Such a file is a list of named arrays, column-major, each compressed or not. An array is read whole, as the format has
no index into it. Files of version 7.3 are HDF5 (`crnn_cli.io.kspace.hdf5`).
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import DeviceError, Param, UnreadableError, UnsupportedDataError, UsageError, Words
from crnn_cli.io.kspace.axis_order import axes_in_doubt
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.cmrxrecon import cmrxrecon_axes, is_cmrxrecon
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.stored_array import StoredArray, parse_axes, require_complex
from crnn_cli.io.limits import require_measured
from crnn_cli.notices import Fact

_HEADER, _COMPRESSED, _BLOCK = 128, 15, 2**20
_NUMBERS = {"double": 8, "single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}


def read_matlab(
    path: Path, axes: str | None = None, variable: str | None = None, *, kind: str | None = None,
    drop_empty: bool = False,
) -> RawScan:  # fmt: skip
    """Read the scan in a MATLAB file of version 5 to 7.

    Parameters
    ----------
    axes : names of the axes as in MATLAB; needed unless the variable is named as in the CMRxRecon challenge.
    variable : name of the array; needed where there are several complex ones.
    kind, drop_empty : as of `crnn_cli.io.kspace.choices.RawChoices`.

    Raises
    ------
    UnreadableError
        If the file is truncated or damaged.
    UsageError
        If there is no such variable.
    UnsupportedDataError
        If there is no complex array, there are several, or nothing says what the axes are.
    """
    stored, choice = stored_matlab(path, variable), RawChoices(kind, drop_empty=drop_empty)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored), choice=choice)
    if is_cmrxrecon(stored.name, len(stored.shape)):
        return scan_from_array(stored, cmrxrecon_axes(stored), choice=choice)
    raise axes_in_doubt(stored)


def stored_matlab(path: Path, variable: str | None) -> StoredArray:
    """Read the named, or the only complex, array of a file into memory.

    Raises
    ------
    UsageError
        If there is no variable of that name.
    UnsupportedDataError
        If there is no complex array, or several and none is named.
    UnreadableError
        If the file is damaged.
    """
    listed = _listed(path)
    contents = "; ".join(f"{name} {shape} {matlab_class}" for name, shape, matlab_class in listed) or "nothing"
    if variable is not None and variable not in [name for name, _, _ in listed]:
        raise UsageError(f"{path} has no variable {variable!r}. It holds {contents}")
    wanted = [
        name
        for name, shape, matlab_class in listed
        if name == variable or (variable is None and matlab_class in _NUMBERS and _is_array(shape))
    ]
    arrays = {name: values for name, values in _loaded(path, wanted).items() if name in wanted}
    if variable is None:
        arrays = {name: values for name, values in arrays.items() if np.iscomplexobj(values)}
    if len(arrays) != 1:
        remedy: tuple[Words, ...] = ("choose one with ", Param("variable")) if arrays else ()
        problem = "several complex arrays" if arrays else "no complex array, so no k-space"
        raise UnsupportedDataError(f"{path} has {problem}. It holds {contents}", remedy=remedy)
    name, array = arrays.popitem()
    if not isinstance(array, np.ndarray):
        raise UnsupportedDataError(f"{path}, {name} is no array of numbers")
    require_complex(array.dtype, array.shape, f"{path}, {name}")
    text = "a MATLAB file of version 5 to 7 cannot be read in parts: the array was read whole"
    order = Fact("matlab-order", "the axes are in MATLAB's order")
    return StoredArray("MATLAB", path, name, array.shape, array.__getitem__, (order, Fact("read-whole", text)))


def _listed(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and MATLAB class of each variable, after checking that the file can hold that much."""
    try:
        _require_intact(path)
        listed: list[tuple[str, tuple[int, ...], str]] = scipy.io.whosmat(path, appendmat=False)
        size = path.stat().st_size
    except Exception as error:  # the parser meets damage with nearly any kind of error
        raise _damaged(path, error) from error
    for name, shape, matlab_class in listed:
        claimed = math.prod(map(int, shape)) * _NUMBERS.get(matlab_class, 1)
        if min(shape, default=0) < 0:
            raise UnreadableError(f"{path}, {name} claims a shape of {shape}: the file is damaged. Copy it again")
        require_measured(claimed, size, f"{path}, {name} {shape},")
    return listed


def _loaded(path: Path, names: list[str]) -> dict[str, Any]:
    try:
        return dict(scipy.io.loadmat(path, appendmat=False, variable_names=names)) if names else {}
    except MemoryError as error:
        raise DeviceError(f"{path}: its arrays do not fit into memory") from error
    except Exception as error:  # as above
        raise _damaged(path, error) from error


def _require_intact(path: Path) -> None:
    """Compare the checksum of each compressed variable; the parser of scipy can crash on damaged ones.

    Raises
    ------
    zlib.error, OSError
        If one is damaged.
    """
    with path.open("rb") as stream:
        order = ">" if stream.read(_HEADER)[-2:] == b"MI" else "<"
        while len(tag := stream.read(8)) == 8:
            kind, left = struct.unpack(f"{order}II", tag)
            if kind != _COMPRESSED:
                stream.seek(left, 1)
                continue
            inflater = zlib.decompressobj()
            while left and not inflater.eof:
                packed = stream.read(min(left, _BLOCK))
                left -= len(packed)
                if not packed:
                    raise OSError("a variable breaks off")
                while packed and not inflater.eof:
                    inflater.decompress(packed, _BLOCK)
                    packed = inflater.unconsumed_tail
            if not inflater.eof:
                raise OSError("a compressed variable breaks off")
            stream.seek(left, 1)


def _damaged(path: Path, error: Exception) -> UnreadableError:
    return UnreadableError(f"{path} is a damaged MATLAB file: {error or type(error).__name__}. Copy it again")


def _is_array(shape: tuple[int, ...]) -> bool:
    return sum(n > 1 for n in shape) > 1
