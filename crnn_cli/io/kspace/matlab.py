"""k-space in MATLAB files of version 5 to 7, through scipy: an array is read whole. Version 7.3 is HDF5."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import DeviceError, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.cmrxrecon import cmrxrecon_axes, is_cmrxrecon
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.stored_array import MOST_COMPRESSED, StoredArray, axes_in_doubt, parse_axes, require_complex

_NUMBERS = {"double": 8, "single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4}


def read_matlab(place: Path, axes: str | None = None, variable: str | None = None) -> RawScan:
    """Return the scan in a MATLAB file of version 5 to 7.

    Parameters
    ----------
    axes : names of the axes as in MATLAB; needed unless the variable is named as in the CMRxRecon challenge.
    variable : needed where there are several complex arrays.

    Raises
    ------
    UnreadableError
        If the file is truncated or damaged.
    UsageError
        If there is no such variable.
    UnsupportedDataError
        If there is no complex array, there are several, or nothing says what the axes are.
    """
    stored = stored_matlab(place, variable)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored))
    if is_cmrxrecon(stored.name):
        return scan_from_array(stored, cmrxrecon_axes(stored))
    raise axes_in_doubt(stored)


def stored_matlab(place: Path, variable: str | None) -> StoredArray:
    """Return the named, or the only complex, array of a file, in memory."""
    listed = _listed(place)
    told = "; ".join(f"{name} {shape} {kind}" for name, shape, kind in listed) or "nothing"
    if variable is not None and variable not in [name for name, _, _ in listed]:
        raise UsageError(f"{place} has no variable {variable!r}. It holds {told}")
    wanted = [
        n for n, shape, kind in listed if n == variable or (variable is None and kind in _NUMBERS and _big(shape))
    ]
    arrays = {name: values for name, values in _loaded(place, wanted).items() if name in wanted}
    if variable is None:
        arrays = {name: values for name, values in arrays.items() if np.iscomplexobj(values)}
    if len(arrays) != 1:
        problem = "several complex arrays: choose one with --variable" if arrays else "no complex array, so no k-space"
        raise UnsupportedDataError(f"{place} has {problem}. It holds {told}")
    name, array = arrays.popitem()
    if not isinstance(array, np.ndarray):
        raise UnsupportedDataError(f"{place}, {name} is no array of numbers")
    require_complex(array.dtype, array.shape, f"{place}, {name}")
    note = "a MATLAB file of version 5 to 7 cannot be read in parts: the array was read whole"
    return StoredArray("MATLAB", place, name, array.shape, array.__getitem__, (note,))


def _listed(place: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Return name, shape and class of what a file holds, after checking that it can hold that much."""
    try:
        listed: list[tuple[str, tuple[int, ...], str]] = scipy.io.whosmat(place, appendmat=False)
        size = place.stat().st_size
    except Exception as error:  # the parser meets damage with nearly any kind of error
        raise _damaged(place, error) from error
    for name, shape, kind in listed:
        claimed = math.prod(map(int, shape)) * _NUMBERS.get(kind, 1)
        if min(shape, default=0) < 0 or claimed > MOST_COMPRESSED * size:
            raise UnreadableError(
                f"{place}, {name}: {shape} would be {claimed} bytes, the whole file is {size}: damaged"
            )
    return listed


def _loaded(place: Path, names: list[str]) -> dict[str, Any]:
    try:
        return dict(scipy.io.loadmat(place, appendmat=False, variable_names=names)) if names else {}
    except MemoryError as error:
        raise DeviceError(f"{place}: its arrays do not fit into memory") from error
    except Exception as error:  # as above
        raise _damaged(place, error) from error


def _damaged(place: Path, error: Exception) -> UnreadableError:
    return UnreadableError(f"{place} is a damaged MATLAB file: {error or type(error).__name__}. Copy it again")


def _big(shape: tuple[int, ...]) -> bool:
    return sum(n > 1 for n in shape) > 1
