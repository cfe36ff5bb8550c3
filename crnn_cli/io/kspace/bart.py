"""K-space in the files of BART, mapped and never loaded whole.

A pair: the .hdr is text, with the 16 dimensions in the line below ``# Dimensions``; the .cfl is the array, complex64,
column-major. Dimensions are read 0, phase 1, phase 2, coil 3, maps 4, time 10, slice 13, average 14 and others, which
must be 1. K-space is centred.

References
----------
Uecker et al., Berkeley Advanced Reconstruction Toolbox, Proc. ISMRM 23, 2486, 2015.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.formats import BART, first_bytes
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.grid import scan_from_array
from crnn_cli.io.kspace.stored_array import Index, StoredArray, Values, parse_axes, read_part

_DIMENSIONS = (
    "read", "phase 1", "phase 2", "coil", "maps", "echo", "coefficients", "coefficients 2", "iteration", "shift",
    "time", "time 2", "level", "slice", "average", "batch",
)  # fmt: skip
_LOOKED_AT, _FEWEST = 4096, 64
"""Numbers that their byte order is told by, and the fewest."""
_WIDE = 30.0
"""Decades that numbers of the wrong byte order span; samples of k-space span less than ten."""
_NAMES = {3: "coil", 10: "t", 13: "slice", 14: "average"}


def bart_files(path: Path) -> tuple[Path, Path]:
    """Paths of the .hdr and the .cfl that a name stands for: either of them, or the name without suffix."""
    start = path.with_suffix("") if path.suffix in BART.suffixes else path
    return start.with_name(start.name + ".hdr"), start.with_name(start.name + ".cfl")


def file_of_samples(path: Path) -> Path:
    """File that holds the samples of a scan: the .cfl of a BART pair, whichever name it was given by, else the path."""
    if BART.matches(path, first_bytes(path)):
        return bart_files(path)[1]
    return path


def read_bart(path: Path, axes: str | None = None, *, kind: str | None = None, drop_empty: bool = False) -> RawScan:
    """Read the scan in a pair of .cfl and .hdr.

    Where the dimension read has length 1, both phase encodings make a slice (one position of a 3-D scan).

    Parameters
    ----------
    axes : names of the 16 dimensions, or of those longer than 1; None for BART's own order.
    kind, drop_empty : as of `crnn_cli.io.kspace.choices.RawChoices`.

    Raises
    ------
    UnreadableError
        If one of the two is missing, the header is damaged, or the sizes disagree.
    UnsupportedDataError
        If another dimension is longer than 1.
    """
    stored, choice = stored_bart(path), RawChoices(kind, drop_empty=drop_empty)
    if axes is not None:
        return scan_from_array(stored, parse_axes(axes, stored), choice=choice)
    shape = stored.shape
    names = ["-"] * len(shape)
    for axis, name in _NAMES.items():
        names[axis] = name if shape[axis] > 1 else "-"
    wide = [axis for axis in range(3) if shape[axis] > 1]
    if len(wide) < 2:
        raise UnsupportedDataError(f"{stored.title}: two of its first three dimensions must be longer than 1")
    for axis, name in zip(wide, ("kx", "ky", "kz"), strict=False):
        names[axis] = name
    odd = [f"{_DIMENSIONS[a]} (dimension {a}) {n}" for a, n in enumerate(shape) if n > 1 and names[a] == "-"]
    if odd:
        raise UnsupportedDataError(
            f"{stored.title}: {', '.join(odd)} must be 1: this version reads read, phase 1, phase 2, coil, time, slice "
            "and average",
            remedy=("take one of them out with bart slice, or name all dimensions with ", Param("axes")),
        )
    return scan_from_array(stored, tuple(names), choice=choice)


def stored_bart(path: Path) -> StoredArray:
    """Open the array of a pair of .cfl and .hdr, left on disk; 16 dimensions.

    Raises
    ------
    UnreadableError
        If one of the two is missing, the header is damaged, or the sizes disagree.
    UnsupportedDataError
        When samples are fetched, if they are big-endian.
    """
    header, data = bart_files(path)
    for file in (header, data):
        if not file.is_file():
            raise UnreadableError(f"{path} is one half of a BART file: {file} is missing; it must lie beside it")
    try:
        shape = _dimensions(header.read_bytes()[:100_000].decode("ascii", "replace"))
        size = data.stat().st_size
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{header} is no header of a BART file: {error}") from error
    claimed = 8 * math.prod(shape)
    if claimed != size:
        raise UnreadableError(
            f"{header} and {data} disagree: the header claims {' x '.join(map(str, shape))} complex64 values, "
            f"{claimed} bytes, the data are {size} bytes. Copy both again"
        )

    def fetch(index: Index) -> Values:
        values = read_part(data, "<c8", 0, shape, "F", index)
        _require_little_endian(values, data)
        return values

    return StoredArray("BART", data, "", shape, fetch)


def _require_little_endian(values: Values, path: Path) -> None:
    """Refuse samples whose bytes are the other way round: their exponents are everywhere, and sound when turned.

    Raises
    ------
    UnsupportedDataError
        The remedy turns the file.
    """
    numbers = values.reshape(-1, order="F").view("<f4")
    turned = numbers.view(">f4")
    there = np.flatnonzero((numbers != 0) & (turned != 0))[:_LOOKED_AT]
    if len(there) >= _FEWEST and _decades(numbers[there]) > _WIDE and _decades(turned[there]) < _WIDE / 2:
        raise UnsupportedDataError(
            f"{path}: the bytes of its samples are in big-endian order, files of BART are little-endian",
            remedy=("turn them, in Python with numpy.fromfile(FILE, '>c8').astype('<c8').tofile(FILE)",),
        )


def _decades(numbers: Values) -> float:
    """Decades that the middle 80 % of the numbers span that are not NaN or infinite; infinite if those are few.

    Infinite as well where they are below all normal numbers, as those of which the turned bytes are NaN.
    """
    sizes = np.abs(numbers[np.isfinite(numbers)].astype(np.float64))
    low, high = np.quantile(sizes, (0.1, 0.9)) if len(sizes) > numbers.size / 2 else (0.0, 1.0)
    return math.log10(high / low) if low >= np.finfo(np.float32).tiny else math.inf


def _dimensions(text: str) -> tuple[int, ...]:
    lines = [line.strip() for line in text.splitlines()]
    if "# Dimensions" not in lines[:-1]:
        raise ValueError("it has no line '# Dimensions' with numbers below")
    words = lines[lines.index("# Dimensions") + 1].split()
    if not words or not all(word.lstrip("-").isascii() and word.lstrip("-").isdigit() for word in words):
        raise ValueError("the line below '# Dimensions' is no list of whole numbers")
    shape = [int(word) for word in words if len(word) < 20]
    if len(shape) < len(words) or min(shape) < 1:
        raise ValueError(f"its dimensions are {' '.join(words)[:200]}: each must be 1 or more")
    while len(shape) > len(_DIMENSIONS) and shape[-1] == 1:
        shape.pop()
    if len(shape) > len(_DIMENSIONS):
        raise ValueError(f"it has {len(shape)} dimensions, BART has {len(_DIMENSIONS)}")
    return tuple(shape) + (1,) * (len(_DIMENSIONS) - len(shape))
