"""Matrix and field of view from the header of a fastMRI file, which is the XML header of ISMRMRD.

Lengths are in mm. The encoded space is what was measured, the reconstructed one what images show.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.grid import Extent

_NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"


def extent_of(header: bytes | str, shape_XY: tuple[int, ...], path: Path) -> Extent:
    """Matrix, share of the field of view and voxel size (mm) of the images, from the header.

    Where the reconstructed field of view is larger than the encoded one, the images show the encoded one, at the same
    pixel size.

    Parameters
    ----------
    header : XML.
    shape_XY : shape of the k-space, readout and phase encoding.
    path : of the file, for messages.

    Raises
    ------
    UnreadableError
        If the header is no XML, or sizes are missing in it or not above 0.
    UnsupportedDataError
        If the encoded matrix is not that of the k-space.
    """
    try:
        root = ElementTree.fromstring(header)
        sizes = {space: _sizes(root, space) for space in ("encodedSpace", "reconSpace")}
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableError(f"{path}: its ismrmrd_header cannot be read: {error}") from error
    (samples, _, _), fields = sizes["encodedSpace"]
    (columns, rows, _), (width, height, thickness) = sizes["reconSpace"]
    if round(samples) != shape_XY[0]:
        raise UnsupportedDataError(
            f"{path}: its header is of a scan with {samples:g} samples in a readout, the k-space has {shape_XY[0]}"
        )
    shares = {"kx": min(1.0, width / fields[0]), "ky": min(1.0, height / fields[1])}
    spacing = {"kx": width / columns, "ky": height / rows, "slice": thickness}
    matrix = {
        "kx": max(1, round(shares["kx"] * fields[0] / spacing["kx"])),
        "ky": max(1, round(shares["ky"] * fields[1] / spacing["ky"])),
    }
    return Extent(matrix, shares, spacing)


def _sizes(root: ElementTree.Element, space: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Matrix and field of view in mm (x, y, z) of a space."""
    sizes = []
    for part in ("matrixSize", "fieldOfView_mm"):
        node_path = "/".join(_NAMESPACE + step for step in ("encoding", space, part))
        node = root.find(node_path)
        if node is None:
            raise ValueError(f"it has no encoding/{space}/{part}")
        x, y, z = (float(node.findtext(_NAMESPACE + axis, "nan")) for axis in "xyz")
        if not all(0 < value < 1e5 for value in (x, y, z)):
            raise ValueError(f"its encoding/{space}/{part} is {x:g} x {y:g} x {z:g}")
        sizes.append((x, y, z))
    return sizes[0], sizes[1]
