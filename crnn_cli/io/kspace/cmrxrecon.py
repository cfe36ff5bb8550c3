"""Names and axes of the CMRxRecon challenge: k-space is (kx, ky, coil, slice, t) in MATLAB's order.

Variables are named ``kspace_full``, ``kspace_sub04`` (fourfold undersampled), ``kspace_single_full`` (coils combined),
``kus``, or ``kspace`` (2025); masks are (kx, ky) or (kx, ky, t).
"""

from __future__ import annotations

import re

import numpy as np

from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import Param, UnsupportedDataError
from crnn_cli.io.kspace.axis_order import axes_in_doubt
from crnn_cli.io.kspace.stored_array import StoredArray, Values


def is_cmrxrecon(name: str, axes: int | None = None) -> bool:
    """Whether a variable has a name of the challenge for k-space: kspace_full, kspace_single_sub04, kus and alike.

    Parameters
    ----------
    axes : number of axes, where it is known; with five, ``kspace`` (2025) is such a name too.
    """
    return re.fullmatch(r"kspace_(single_)?(full|sub\d\d)|kus", name) is not None or (name == "kspace" and axes == 5)


def cmrxrecon_axes(stored: StoredArray) -> tuple[str, ...]:
    """Names of the axes of an array of the challenge, in MATLAB's order.

    Raises
    ------
    UnsupportedDataError
        If it is 4-D and its name does not say which axis is missing.
    """
    if len(stored.shape) == 5:
        return ("kx", "ky", "coil", "slice", "t")
    if len(stored.shape) == 4 and "single" in stored.name:
        return ("kx", "ky", "slice", "t")
    if len(stored.shape) == 4:
        raise UnsupportedDataError(
            f"{stored.title}: arrays of CMRxRecon have 5 axes (kx, ky, coil, slice, t); with 4, either the coils were "
            "combined, ",
            Param("axes", "kx,ky,slice,t"),
            ", or there is one slice, ",
            Param("axes", "kx,ky,coil,t"),
            ", or one frame, ",
            Param("axes", "kx,ky,coil,slice"),
        )
    raise axes_in_doubt(stored)


def cmrxrecon_mask(mask: Values, stored: StoredArray, names: tuple[str, ...]) -> Mask:
    """Bring a mask (kx, ky) or (kx, ky, t), in MATLAB's order, to (T, Y, X).

    Parameters
    ----------
    mask : values of 0 and 1; axes as long as those of the array, or 1.
    stored, names : the array that it belongs to, and the names of its axes.

    Raises
    ------
    UnsupportedDataError
        If it does not fit the array, or has other values.
    """
    sizes = dict(zip(names, stored.shape, strict=True))
    whole = mask if mask.ndim == 3 else mask[..., None]
    wanted = (sizes["kx"], sizes["ky"], sizes.get("t", 1))
    if whole.ndim != 3 or not all(m in (1, n) for m, n in zip(whole.shape, wanted, strict=True)):
        raise UnsupportedDataError(f"{stored.title}: the mask in the file is {mask.shape}; expected (kx, ky) or with t")
    return boolean(whole.transpose(2, 1, 0), stored.title)


def boolean(mask: Values, title: str) -> Mask:
    """Convert a mask of zeros and ones to booleans; UnsupportedDataError for other values, or zeros alone."""
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise UnsupportedDataError(f"{title}: the mask in the file must be of zeros and ones, not of zeros alone")
    return mask.astype(np.bool_)
