"""Text headers of NRRD and MetaImage files: what they say of the place, and where their voxels are.

SimpleITK follows a header to any file that it names. Here voxels must lie in the file itself, or in one beside it, so
that a file that was received cannot make the program read another one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from crnn_cli.data.input_files import require_file
from crnn_cli.errors import UnreadableError, UnsupportedDataError

_MOST = 2**16
"""Bytes that a header has at most."""
_DATA_FILES = ("data file", "datafile", "elementdatafile")
_REQUIRED = {True: ("type", "dimension", "sizes"), False: ("ndims", "dimsize", "elementtype", "elementdatafile")}
_DIRECTIONS = ("transformmatrix", "rotation", "orientation")
_SPACES = tuple(
    name.format(*words)
    for words in (("left", "posterior"), ("right", "anterior"), ("left", "anterior"))
    for name in ("{}-{}-superior", "{}-{}-superior-time")
)
_SPACES_SHORT = ("lps", "ras", "las", "lpst", "rast", "last")
_IN_SPACE = ("domain", "space", "???", "none")
_LENGTHS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3,
            "millimeter": 1.0, "millimeters": 1.0, "centimeter": 10.0, "meter": 1000.0}  # fmt: skip
_TIMES = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3}
_UNKNOWN = ("", "?", "???", "unknown", "none")
_SCALES = {"elementtointensityfunctionslope": 1.0, "elementtointensityfunctionoffset": 0.0}
"""Keys of MetaImage that scale the voxels, and the values that leave them as they are."""


@dataclass(frozen=True)
class ItkHeader:
    """Header of a NRRD or MetaImage file.

    Attributes
    ----------
    nrrd : whether it is NRRD.
    files : the file, and the one that holds the voxels where that is another.
    placed : whether it says how the image lies in the patient.
    mm : length of the unit of its lengths.
    unknown_spacing : axes in space whose spacing it does not give.
    time_unit : unit of its fourth axis in s; None where it states none.
    """

    nrrd: bool
    files: tuple[Path, ...]
    placed: bool
    mm: float = 1.0
    time_unit: float | None = None
    unknown_spacing: tuple[int, ...] = ()


def read_header(path: Path) -> ItkHeader:
    """Read the header of a file.

    Raises
    ------
    UnreadableError
        If it cannot be read, the file of its voxels is missing, or MetaImage has a spacing that is no length.
    UnsupportedDataError
        If the voxels are spread over several files, or lie in another folder; if it has an unknown unit of length, or
        scales the voxels.
    """
    require_file(path)
    try:
        with path.open("rb") as opened:
            start = opened.read(_MOST)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from None
    nrrd = start.startswith(b"NRRD0")
    fields = _fields(start, ":" if nrrd else "=")
    missing = [key for key in _REQUIRED[nrrd] if key not in fields]
    if missing:  # SimpleITK would write to standard error
        raise UnreadableError(f"{path} is damaged: its header lacks {', '.join(missing)}")
    files: tuple[Path, ...] = (path,)
    for key in _DATA_FILES:
        if key in fields and fields[key].upper() != "LOCAL":
            files = (path, _beside(path, fields[key]))
    _require_unscaled(fields, path)
    _require_lengths(fields.get("elementspacing", ""), path)
    axes = re.findall(r'"([^"]*)"', fields.get("units", ""))
    time_unit = _TIMES.get(axes[3].lower()) if len(axes) == 4 else None
    return ItkHeader(
        nrrd,
        files,
        _is_placed(fields, nrrd),
        _unit_of_length(fields, axes[:3], path),
        time_unit,
        _without_spacing(fields),
    )


def _is_placed(fields: dict[str, str], nrrd: bool) -> bool:
    """Whether the space is that of the patient: in NRRD it may be that of the scanner, or any other."""
    if not nrrd:
        return any(key in fields for key in _DIRECTIONS)
    return fields.get("space", "").lower() in (*_SPACES, *_SPACES_SHORT)


def _unit_of_length(fields: dict[str, str], axes: list[str], path: Path) -> float:
    """Length in mm of the unit of positions and spacings, which SimpleITK takes for mm."""
    space = re.findall(r'"([^"]*)"', fields.get("space units", "")) or axes
    units = {unit.strip().lower() for unit in (*space, fields.get("distanceunits", ""))} - {*_UNKNOWN}
    if len(units) > 1 or not units <= _LENGTHS.keys():
        raise UnsupportedDataError(
            f"{path} has lengths in {' and '.join(sorted(units))}", remedy=("save it with lengths in mm",)
        )
    return _LENGTHS[units.pop()] if units else 1.0


def _without_spacing(fields: dict[str, str]) -> tuple[int, ...]:
    """Axes in space of a NRRD whose step is not a number, for which SimpleITK takes 1."""
    kinds = fields.get("kinds", "").lower().split()
    steps = re.findall(r"none|\([^)]*\)", fields.get("space directions", "").lower())
    if steps:
        steps = [step for step in steps if step != "none"]
    else:
        given = fields.get("spacings", "").lower().split()
        steps = [step for i, step in enumerate(given) if len(kinds) != len(given) or kinds[i] in _IN_SPACE]
    return tuple(axis for axis, step in enumerate(steps[:3]) if "nan" in step)


def _require_lengths(spacing: str, path: Path) -> None:
    """Refuse a spacing of MetaImage that is no length; SimpleITK would say so in other words."""
    try:
        sound = all(math.isfinite(float(step)) and float(step) != 0 for step in spacing.split())
    except ValueError:
        sound = False
    if not sound:
        raise UnreadableError(
            f"{path} has the spacing {spacing[:60]}, which is no length",
            remedy=("correct ElementSpacing in its header",),
        )


def _require_unscaled(fields: dict[str, str], path: Path) -> None:
    for key, neutral in _SCALES.items():
        try:
            value = float(fields.get(key, neutral))
        except ValueError:
            raise UnreadableError(f"{path} is damaged: {key} is no number") from None
        if value != neutral:
            raise UnsupportedDataError(
                f"{path} scales its voxels ({key} {value:g}), which SimpleITK leaves out",
                remedy=("save the scaled values themselves",),
            )


def _fields(start: bytes, separator: str) -> dict[str, str]:
    """Keys, in lower case, and values of the lines up to the end of the header."""
    fields: dict[str, str] = {}
    for line in start.decode("latin-1").splitlines():
        if not line.strip() and separator == ":":
            break
        key, found, value = line.partition(separator)
        if found and not line.startswith("#"):
            fields[key.strip().lower()] = value.strip()
        if key.strip().lower() in _DATA_FILES[2:]:
            break
    return fields


def _beside(path: Path, name: str) -> Path:
    """File of the voxels, which must lie in the folder of the header."""
    if name.upper().startswith("LIST") or "%" in name or " " in name.strip():
        raise UnsupportedDataError(
            f"the voxels of {path} are spread over several files", remedy=("save the image as one file",)
        )
    data = path.parent / name
    if Path(name).name != name or data.resolve().parent != path.parent.resolve():
        raise UnsupportedDataError(
            f"{path} names a file in another place for its voxels",
            remedy=("put the two into one folder, or save the image as one file",),
        )
    if not data.is_file():
        raise UnreadableError(f"the file {name} with the voxels of {path} is missing beside it")
    return data
