"""Siemens mosaics: the slices of a volume tiled into one picture.

The CSA header says how many slices there are and which way they run. ImagePositionPatient of a mosaic is that of a
picture as large as the mosaic around the same centre. A mosaic without CSA header is recognised, but not unpacked: the
direction of its slices is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from pydicom import dcmread

from crnn_cli.data.image import Array
from crnn_cli.data.slice_stack import Vector
from crnn_cli.io.dicom.frames.attributes import Facts, number, numbers, private_number, text, words

_CSA = [0x00290010, 0x00290011, 0x00290012, 0x00291010, 0x00291110, 0x00291210]
_WORD = "MOSAIC"
_SIEMENS = "SIEMENS"
_PARALLEL = 1e-3


@dataclass(frozen=True)
class Tile:
    """Place of a slice in a mosaic: first row and column, and size in rows and columns."""

    row: int
    column: int
    size: tuple[int, int]

    def cut(self, picture: Array) -> Array:
        """The slice of a mosaic (rows, columns)."""
        return picture[self.row : self.row + self.size[0], self.column : self.column + self.size[1]]


@dataclass(frozen=True)
class Mosaic:
    """The slices of a mosaic.

    Attributes
    ----------
    tiles, positions : of each slice; ImagePositionPatient (LPS, mm) as that of a slice on its own.
    problem : why it cannot be unpacked; "" if it can.
    """

    tiles: tuple[Tile, ...] = ()
    positions: tuple[tuple[float, float, float], ...] = ()
    problem: str = ""


def is_mosaic(data: Facts) -> bool:
    """Whether a picture is a mosaic by ImageType, private elements, or its size against the acquisition matrix."""
    siemens = text(data, "creator 0019").startswith(_SIEMENS) and (private_number(data, "images in mosaic") or 0) > 1
    words_of_type = text(data, "siemens type").upper() if text(data, "creator 0051").startswith(_SIEMENS) else ""
    return _WORD in words(data, "ImageType") or siemens or _WORD in words_of_type or _looks_tiled(data)


def _looks_tiled(data: Facts) -> bool:
    """Whether the picture has several times the acquired rows and columns, more than interpolation makes of them.

    Scanners interpolate to twice the matrix; echo-planar images are not interpolated.
    """
    maker = text(data, "Manufacturer").upper()
    acquired = [int(n) for n in numbers([data], "AcquisitionMatrix", 4) or () if n > 0]
    if len(acquired) != 2 or (maker and not maker.startswith(_SIEMENS)):
        return False
    rows, columns = number([data], "Rows") or 0, number([data], "Columns") or 0
    side = rows / acquired[0]
    planar = "EP" in words(data, "ScanningSequence")
    whole = side == columns / acquired[1] and side == int(side) and rows == columns
    return bool(whole and side >= (2 if planar else 3) and (planar or maker))


def unpack(opened: BinaryIO, data: Facts) -> Mosaic:
    """Find the slices of a mosaic.

    Parameters
    ----------
    opened : the file, read again for its CSA header.
    data : its attributes.
    """
    csa = _csa_header(opened)
    count = int(_first(csa, "NumberOfImagesInMosaic") or private_number(data, "images in mosaic") or 0)
    normal = np.array([float(v) for v in csa.get("SliceNormalVector", ())])
    rows, columns = int(data["Rows"]), int(data["Columns"])
    side = math.ceil(math.sqrt(count))
    if count < 1 or len(normal) != 3:
        return Mosaic(
            problem="a mosaic, many slices in one picture, without the CSA header that says which way they run"
        )
    if rows % side or columns % side:
        return Mosaic(problem=f"a mosaic of {count} slices that do not fill its {rows} rows and {columns} columns")
    if (_first(csa, "ProtocolSliceNumber") or 0) > 1:
        return Mosaic(problem="a mosaic whose slices are numbered backwards")
    size = rows // side, columns // side
    tiles = tuple(Tile(k // side * size[0], k % side * size[1], size) for k in range(count))
    return _placed(data, tiles, (rows, columns), normal)


def _placed(data: Facts, tiles: tuple[Tile, ...], whole: tuple[int, int], normal: Vector) -> Mosaic:
    """The slices at their places, one after the other along the normal."""
    spacing, step = numbers([data], "PixelSpacing", 2), number([data], "SpacingBetweenSlices")
    corner, directions = numbers([data], "ImagePositionPatient", 3), numbers([data], "ImageOrientationPatient", 6)
    if spacing is None or corner is None or directions is None or not (step and step > 0):
        return Mosaic(problem="a mosaic without position, orientation, pixel spacing or spacing between slices")
    row, column = np.array(directions[:3]), np.array(directions[3:])
    if np.abs(np.cross(np.cross(row, column), normal)).max() > _PARALLEL:
        return Mosaic(problem="a mosaic whose slices are stacked in another direction than their normal")
    hidden = [(w - t) / 2 for w, t in zip(whole, tiles[0].size, strict=True)]
    first = np.array(corner) + column * spacing[0] * hidden[0] + row * spacing[1] * hidden[1]
    places = [first + normal * step * k for k in range(len(tiles))]
    return Mosaic(tiles, tuple((float(p[0]), float(p[1]), float(p[2])) for p in places))


def _csa_header(opened: BinaryIO) -> dict[str, list[Any]]:
    """Values of the CSA image header by name; empty where there is none, or it is damaged."""
    from nibabel.nicom import csareader  # noqa: PLC0415 - for mosaics alone

    opened.seek(0)
    data = dcmread(opened, force=True, stop_before_pixels=True, specific_tags=_CSA)
    try:
        header = csareader.get_csa_header(data)
    except Exception:  # a parser of hostile files: whatever it raises, there is no header to go by
        return {}
    return {} if header is None else {name: tag["items"] for name, tag in header["tags"].items()}


def _first(csa: dict[str, list[Any]], name: str) -> float | None:
    items = csa.get(name) or [None]
    return None if items[0] is None else float(items[0])
