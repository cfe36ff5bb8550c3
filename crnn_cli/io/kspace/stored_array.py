"""A complex array in a file, and the names of its axes.

Names: slice, coil, t (frames), ky (phase encoding), kx (readout), kz (second phase encoding), average (repeats, of
which the mean is taken); "-" is an axis of length 1 that means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.mapped_arrays import drop_pages
from crnn_cli.errors import DeviceError, UnreadableError, UnsupportedDataError, UsageError

NAMES = ("slice", "coil", "t", "ky", "kx", "kz", "average")
MOST_COMPRESSED = 1100
"""Bytes that one byte of a file may stand for after compression; what claims more is damaged."""
Index = tuple[int | slice, ...]
Values = NDArray[Any]


@dataclass(frozen=True)
class StoredArray:
    """A complex array that stays in its file until a part of it is fetched.

    Attributes
    ----------
    format : in the field's words, as in `RawScan`.
    place : the file.
    name : of the variable, empty where the file holds one array only.
    shape : as people of that format write it: MATLAB's order for MATLAB.
    fetch : returns the part that an index, one entry per axis, selects: complex, axes as in ``shape``.
    notes : what is odd about the file.
    """

    format: str
    place: Path
    name: str
    shape: tuple[int, ...]
    fetch: Callable[[Index], Values]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The file, the variable and the shape, for messages."""
        return f"{self.place}{f', {self.name}' if self.name else ''} {self.shape}"

    def part(self, index: Index) -> Values:
        """Return a part as complex64, checked, in memory of its own.

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
                f"in {_told(index)}: zero or rescale them first"
            )
        return values


def mapped_part(place: Path, kind: Any, start: int, shape: tuple[int, ...], order: Any, index: Index) -> Values:
    """Return a copy of a part; the file is mapped for it alone, and what was copied is let go of on the way."""
    part = np.memmap(place, kind, "r", start, shape, order)[index]
    made = np.empty_like(part, subok=False)
    slowest = int(np.argmax(part.strides)) if part.ndim else 0
    for target, source in zip(*(np.moveaxis(np.atleast_1d(each), slowest, 0) for each in (made, part)), strict=True):
        target[...] = source
        drop_pages(part)
    return made


def require_complex(kind: np.dtype[Any], shape: tuple[int, ...], title: str) -> None:
    """Raise UnsupportedDataError unless an array is complex and holds something."""
    if 0 in shape or not shape:
        raise UnsupportedDataError(f"{title} is empty {shape}: there is no k-space in it")
    if kind.hasobject:
        raise UnsupportedDataError(
            f"{title} holds Python objects, not numbers; they are never unpickled, since that can run code. Store the "
            "k-space as a plain complex64 array"
        )
    if is_complex(kind):
        return
    if kind.kind in "fiu" and 2 in (shape[0], shape[-1]):
        axis = "a[..., 0] + 1j * a[..., 1]" if shape[-1] == 2 else "a[0] + 1j * a[1]"
        raise UnsupportedDataError(
            f"{title} is real ({kind}) {shape}. If the axis of length 2 is real and imaginary part, store the array as "
            f"complex64 first: {axis}"
        )
    raise UnsupportedDataError(
        f"{title} is {kind}, not complex: it has no phase, so it is no k-space. Magnitude images go in as NIfTI"
    )


def is_complex(kind: np.dtype[Any]) -> bool:
    """Return whether values are complex, or compounds of a real and an imaginary part as MATLAB 7.3 writes them."""
    names = tuple(kind.names or ())
    if names in (("real", "imag"), ("r", "i"), ("re", "im")):
        return all(kind[name].kind == "f" and kind[name].shape == () for name in names)
    return kind.kind == "c"


def as_complex(values: Values) -> Values:
    """Return compounds of a real and an imaginary part as complex numbers; others as they are."""
    if values.dtype.names is None:
        return values
    real, imaginary = (values[name] for name in values.dtype.names)
    whole: Values = real + np.complex64(1j) * imaginary
    return whole


def parse_axes(text: str, stored: StoredArray) -> tuple[str, ...]:
    """Return a name for each stored axis; axes of length 1 may be left out of ``text``, all of them or none.

    Raises
    ------
    UsageError
        If a name is unknown or given twice, ky or kx is missing, or the number of axes does not fit.
    """
    names = [part.strip() for part in text.split(",")]
    unknown = [name for name in names if name not in (*NAMES, "-")]
    if unknown:
        raise UsageError(f"--axes {text}: {unknown[0]!r} is no axis of k-space; choose from {', '.join(NAMES)}, or -")
    doubled = [name for name in NAMES if names.count(name) > 1]
    missing = [name for name in ("ky", "kx") if name not in names]
    if doubled or missing:
        what = f"{doubled[0]} is there twice" if doubled else f"{missing[0]} is missing"
        raise UsageError(f"--axes {text}: {what}")
    wide = [axis for axis, n in enumerate(stored.shape) if n > 1]
    if len(names) == len(stored.shape):
        found = tuple(names)
    elif len(names) == len(wide):
        found = tuple(dict(zip(wide, names, strict=True)).get(axis, "-") for axis in range(len(stored.shape)))
    else:
        raise UsageError(
            f"--axes {text} names {len(names)} axes, but {stored.title} has {len(stored.shape)}"
            + (f", {len(wide)} of them longer than 1" if len(wide) < len(stored.shape) else "")
        )
    for name, n in zip(found, stored.shape, strict=True):
        if name == "-" and n > 1:
            raise UsageError(f"--axes {text}: '-' stands for an axis of length 1, in {stored.title} it has length {n}")
    return found


def describe_axes(names: tuple[str, ...], shape: tuple[int, ...]) -> str:
    """Return what the stored axes were taken to be, in words."""
    return ", ".join(f"{name} {n}" for name, n in zip(names, shape, strict=True) if name != "-")


EXAMPLES = {2: "ky,kx", 3: "coil,ky,kx", 4: "coil,t,ky,kx", 5: "slice,coil,t,ky,kx", 6: "average,slice,coil,t,ky,kx"}


def axes_in_doubt(stored: StoredArray) -> UnsupportedDataError:
    """Return the error for an array whose axes nothing tells."""
    wide = sum(n > 1 for n in stored.shape)
    example = EXAMPLES.get(len(stored.shape), EXAMPLES.get(wide, EXAMPLES[5]))
    return UnsupportedDataError(
        f"{stored.title}: nothing in the file says which axis is which, and a guess could turn time into space. Name "
        f"them in this order, for instance --axes {example} (from {', '.join(NAMES)}, or - for one of length 1)"
    )


def _told(index: Index) -> str:
    places = [str(i) for i in index if not isinstance(i, slice)]
    return f"slice {places[0]}" if places else "it"
