"""Complex arrays that stay in their file, and the names of their axes.

Axes are named slice, coil, t (frames), ky (phase encoding), kx (readout), kz (second phase encoding) and average
(repetitions, of which the mean is taken); "-" is an axis of length 1 without meaning. Axes x, y and z are those of
images: they are transformed to kx, ky and kz.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import DeviceError, Param, UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.notices import Remark

NAMES = ("slice", "coil", "t", "ky", "kx", "kz", "average", "x", "y", "z")
_PARTS = (("real", "imag"), ("r", "i"), ("re", "im"))
_BLOCK = 2**26
Index = tuple[int | slice, ...]
Values = NDArray[Any]


@dataclass(frozen=True)
class StoredArray:
    """A complex array that stays in its file until a part of it is fetched.

    Attributes
    ----------
    format : name of the format, as in `RawScan`.
    path : the file.
    name : of the variable, empty where the file holds one array only.
    shape : in the order of the format: column-major for MATLAB and BART.
    fetch : gives the part that an index selects, one entry per axis; complex, axes as in ``shape``.
    remarks : oddities of the file.
    """

    format: str
    path: Path
    name: str
    shape: tuple[int, ...]
    fetch: Callable[[Index], Values]
    remarks: tuple[Remark, ...] = ()

    @property
    def title(self) -> str:
        """File, variable and shape, for messages."""
        return f"{self.path}{f', {self.name}' if self.name else ''} {self.shape}"

    def part(self, index: Index) -> Values:
        """Fetch a part as complex64 into memory of its own.

        Raises
        ------
        UnreadableError
            If the file breaks off or is damaged there.
        UnsupportedDataError
            If a value is NaN or infinite, or beyond single precision.
        DeviceError
            If memory runs out.
        """
        try:
            with np.errstate(over="ignore"):
                values = np.asarray(self.fetch(index))
                values = values.astype(np.complex64, copy=not values.flags.owndata)
        except MemoryError as error:
            raise DeviceError(f"{self.title}: one slice of it does not fit into memory") from error
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise UnreadableError(f"{self.title} cannot be read: {error}. Copy the file again") from error
        bad = sum(int((~np.isfinite(each)).sum()) for each in np.atleast_1d(values))
        if bad:
            raise UnsupportedDataError(
                f"{self.title} has {bad} values that are NaN, infinite or too large for single precision "
                f"in {_index_text(index)}: zero or rescale them first"
            )
        return values


def read_part(
    path: Path, dtype: np.dtype[Any] | str, start: int, shape: tuple[int, ...], order: Literal["C", "F"], index: Index
) -> Values:
    """Read a part of an array in a file of plain values.

    The file is read and not mapped: if it is cut off meanwhile, a map would end the process by a signal. Memory holds
    the part, and one block of about 64 MiB.

    Parameters
    ----------
    start : byte at which the array begins.
    order : C for row-major, F for column-major.
    index : the part, one entry per axis.

    Raises
    ------
    OSError
        If the file ends before the part.
    """
    dtype = np.dtype(dtype)
    lengths = [len(range(n)[i]) for n, i in zip(shape, index, strict=True) if isinstance(i, slice)]
    part = np.empty(lengths, dtype, order)
    with path.open("rb") as file:
        if order == "C":
            _fill(part, file, start, shape, index)
        else:
            _fill(part.T, file, start, shape[::-1], index[::-1])
    return part


def _fill(part: Values, file: BinaryIO, start: int, shape: tuple[int, ...], index: Index) -> None:
    """Read a part of a row-major array; as few axes as possible are taken apart, so that what is read is long."""
    size = math.prod(shape) * part.itemsize
    if len(shape) < 2 or (size <= _BLOCK and index[0] == slice(None)):
        file.seek(start)
        block = np.fromfile(file, part.dtype, math.prod(shape))
        if block.nbytes < size:
            raise OSError(f"the file ends {size - block.nbytes} bytes too early")
        part[...] = block.reshape(shape)[index]
        return
    step, first = size // shape[0], range(shape[0])[index[0]]
    if isinstance(first, int):
        _fill(part, file, start + first * step, shape[1:], index[1:])
        return
    for number, each in enumerate(first):
        _fill(part[number, ...], file, start + each * step, shape[1:], index[1:])


def require_complex(dtype: np.dtype[Any], shape: tuple[int, ...], title: str) -> None:
    """Refuse arrays that are empty, real, or of Python objects.

    Parameters
    ----------
    title : name of the array in messages.

    Raises
    ------
    UnsupportedDataError
        The message of a real array with an axis of length 2 tells how to combine real and imaginary part.
    """
    if 0 in shape or not shape:
        raise UnsupportedDataError(f"{title} is empty {shape}: there is no k-space in it")
    if dtype.hasobject:
        raise UnsupportedDataError(
            f"{title} holds Python objects, not numbers; they are never unpickled, since that can run code. Store the "
            "k-space as a plain complex64 array"
        )
    if is_complex(dtype):
        return
    if dtype.kind in "fiu" and 2 in (shape[0], shape[-1]):
        axis = "a[..., 0] + 1j * a[..., 1]" if shape[-1] == 2 else "a[0] + 1j * a[1]"
        raise UnsupportedDataError(
            f"{title} is real ({dtype}) {shape}. If the axis of length 2 is real and imaginary part, store the array "
            f"as complex64 first: {axis}"
        )
    raise UnsupportedDataError(
        f"{title} is {dtype}, not complex: it has no phase, so it is no k-space. Magnitude images go in as NIfTI"
    )


def is_complex(dtype: np.dtype[Any]) -> bool:
    """Whether values are complex, or compounds of a real and an imaginary part as MATLAB 7.3 writes them."""
    parts = _parts(dtype)
    return dtype.kind == "c" if parts is None else all(dtype[n].kind in "fiu" and dtype[n].shape == () for n in parts)


def as_complex(values: Values) -> Values:
    """Convert compounds of a real and an imaginary part to complex numbers; other values stay as they are."""
    parts = _parts(values.dtype)
    if parts is None:
        return values
    whole: Values = values[parts[0]] + np.complex64(1j) * values[parts[1]]
    return whole


def _parts(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """Names of the real and the imaginary part of a compound, in this order; None for any other type."""
    named = {name.lower(): name for name in dtype.names or ()}
    pairs = [(real, imaginary) for real, imaginary in _PARTS if set(named) == {real, imaginary}]
    return (named[pairs[0][0]], named[pairs[0][1]]) if len(dtype.names or ()) == 2 and pairs else None


def parse_axes(text: str, stored: StoredArray) -> tuple[str, ...]:
    """Give each stored axis its name, from a list such as ``coil,t,ky,kx``.

    Parameters
    ----------
    text : names from `NAMES` or "-", separated by commas; axes of length 1 may be left out, all of them or none.

    Raises
    ------
    UsageError
        If a name is unknown or given twice, ky or kx is missing, or the number of axes does not fit.
    """
    names = [part.strip() for part in text.split(",")]
    axes = Param("axes", text)
    unknown = [name for name in names if name not in (*NAMES, "-")]
    if unknown:
        raise UsageError(axes, f": {unknown[0]!r} is no axis of k-space; choose from {', '.join(NAMES)}, or -")
    spaces = [{"x": "kx", "y": "ky", "z": "kz"}.get(name, name) for name in names]
    doubled = [name for name in NAMES if spaces.count(name) > 1]
    missing = [name for name in ("ky", "kx") if name not in spaces]
    if doubled or missing:
        raise UsageError(axes, f": {doubled[0]} is there twice" if doubled else f": {missing[0]} is missing")
    wide = [axis for axis, n in enumerate(stored.shape) if n > 1]
    if len(names) == len(stored.shape):
        by_axis = tuple(names)
    elif len(names) == len(wide):
        by_axis = tuple(dict(zip(wide, names, strict=True)).get(axis, "-") for axis in range(len(stored.shape)))
    else:
        raise UsageError(
            axes,
            f" names {len(names)} axes, but {stored.title} has {len(stored.shape)}"
            + (f", {len(wide)} of them longer than 1" if len(wide) < len(stored.shape) else ""),
        )
    for name, n in zip(by_axis, stored.shape, strict=True):
        if name == "-" and n > 1:
            raise UsageError(axes, f": '-' stands for an axis of length 1, in {stored.title} it has length {n}")
    return by_axis


def describe_axes(names: tuple[str, ...], shape: tuple[int, ...]) -> str:
    """Names and lengths of the stored axes as text.

    >>> describe_axes(("coil", "-", "ky", "kx"), (8, 1, 144, 192))
    'coil 8, ky 144, kx 192'
    """
    return ", ".join(f"{name} {n}" for name, n in zip(names, shape, strict=True) if name != "-")


def _index_text(index: Index) -> str:
    numbers = [str(i) for i in index if not isinstance(i, slice)]
    return f"slice {numbers[0]}" if numbers else "it"
