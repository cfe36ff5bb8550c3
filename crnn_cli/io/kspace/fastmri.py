"""The sizes in the header of a fastMRI file, which is an ISMRMRD header: matrix and field of view."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.grid import Extent

_NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"


def extent_of(header: bytes | str, shape_XY: tuple[int, ...], place: Path) -> Extent:
    """Return matrix, share of the field of view and voxel size of the images asked for.

    Where the field of view asked for is larger than the encoded one (phase oversampling less than none), the images
    are cut to what was encoded, at the same pixel size.

    Parameters
    ----------
    shape_XY : of the k-space, readout and phase encoding.

    Raises
    ------
    UnreadableError
        If the header is no XML, or sizes are missing in it or not above 0.
    UnsupportedDataError
        If it is about another matrix than that of the k-space.
    """
    try:
        root = ElementTree.fromstring(header)
        sizes = {space: _sizes(root, space) for space in ("encodedSpace", "reconSpace")}
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableError(f"{place}: its ismrmrd_header cannot be read: {error}") from error
    (samples, _, _), fields = sizes["encodedSpace"]
    (columns, rows, _), (width, height, thickness) = sizes["reconSpace"]
    if round(samples) != shape_XY[0]:
        raise UnsupportedDataError(
            f"{place}: its header is of a scan with {samples:g} samples in a readout, the k-space has {shape_XY[0]}"
        )
    shares = {"kx": min(1.0, width / fields[0]), "ky": min(1.0, height / fields[1])}
    spacing = {"kx": width / columns, "ky": height / rows, "slice": thickness}
    matrix = {
        "kx": max(1, round(shares["kx"] * fields[0] / spacing["kx"])),
        "ky": max(1, round(shares["ky"] * fields[1] / spacing["ky"])),
    }
    return Extent(matrix, shares, spacing)


def _sizes(root: ElementTree.Element, space: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the matrix and the field of view in mm (x, y, z) of a space."""
    found = []
    for part in ("matrixSize", "fieldOfView_mm"):
        path = "/".join(_NAMESPACE + step for step in ("encoding", space, part))
        node = root.find(path)
        if node is None:
            raise ValueError(f"it has no encoding/{space}/{part}")
        x, y, z = (float(node.findtext(_NAMESPACE + axis, "nan")) for axis in "xyz")
        if not all(0 < value < 1e5 for value in (x, y, z)):
            raise ValueError(f"its encoding/{space}/{part} is {x:g} x {y:g} x {z:g}")
        found.append((x, y, z))
    return found[0], found[1]
