"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd) files to images, through SimpleITK.

Both hold x, y, z, in LPS mm, and perhaps t: as a fourth axis, or in NRRD as a list of values in each voxel, as 3D
Slicer writes sequences. The frame time is unknown, unless the fourth axis of a NRRD has a unit. Segmentations of 3D
Slicer (.seg.nrrd) are label maps.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from crnn_cli.data.image import Affine, Array, Image
from crnn_cli.data.slice_stack import LPS_TO_RAS
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.itk.header import ItkHeader, read_header
from crnn_cli.io.itk.segmentation import as_labels, segments_of, with_background
from crnn_cli.io.limits import require_memory, require_possible
from crnn_cli.io.loaded_image import LoadedImage
from crnn_cli.io.nifti.header import in_own_precision, to_single_precision
from crnn_cli.io.nifti.intent import LABELS

_IMAGE_IO = {True: "NrrdImageIO", False: "MetaImageIO"}
_TIME_KINDS = {"list", "time"}


def load_itk(path: Path, keep_type: bool = False) -> LoadedImage:
    """Read a NRRD or MetaImage file with the facts about its source.

    Parameters
    ----------
    keep_type : keep integers and doubles as they are stored; float32 or complex64 otherwise.

    Raises
    ------
    UnreadableError
        If it is damaged, or its voxels are missing.
    UnsupportedDataError
        If it has more than four axes, vectors or colours, or segments that overlap.
    DeviceError
        If it does not fit into memory.
    """
    header = read_header(path)
    array, itk = _read(path, header)
    facts = {key: itk.GetMetaData(key) for key in itk.GetMetaDataKeys()}
    segments = segments_of(facts)
    frames = _as_xyzt(array, itk, facts, path, bool(segments))
    values = in_own_precision(frames, False) if keep_type or segments else to_single_precision(frames, path)
    step = float(itk.GetSpacing()[3]) if itk.GetDimension() == 4 else 0.0
    frame_time = step * header.time_unit if header.time_unit and step > 0 else None
    image = Image(
        values, _affine(itk, header.mm), frame_time, (1, 1) if header.placed else (0, 0),
        unitless_frame_step=step if frame_time is None and step != 1 else 0.0,
        unknown_spacing=header.unknown_spacing,
    )  # fmt: skip
    if segments:
        image = with_background(as_labels(image, segments, path), facts)
    return LoadedImage(
        image, {"file": str(path), "format": _name(header), "sha256": _sha256(header)}, max(2, itk.GetDimension()),
        dtype=str(array.dtype), intent=LABELS if segments else 0, format=_name(header),
    )  # fmt: skip


def _name(header: ItkHeader) -> str:
    return "NRRD" if header.nrrd else "MetaImage"


def _read(path: Path, header: ItkHeader) -> tuple[NDArray[Any], Any]:
    """Voxels as SimpleITK orders them, (t,) z, y, x and components last, and the image."""
    process: Any = sitk.ProcessObject
    shown = process.GetGlobalWarningDisplay()
    process.SetGlobalWarningDisplay(False)  # to standard error
    try:
        reader: Any = sitk.ImageFileReader()
        reader.SetImageIO(_IMAGE_IO[header.nrrd])
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
        claimed = size * np.dtype(_voxel_type(reader.GetPixelID(), path)).itemsize
        require_possible(claimed, sum(file.stat().st_size for file in header.files), str(path))
        require_memory(2 * claimed, str(path))
        itk = reader.Execute()
        return sitk.GetArrayFromImage(itk), itk
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        if "number of domain axes" in reason:
            raise UnsupportedDataError(
                f"{path} places three of its four axes in space, and says that the fourth is of the same kind",
                remedy=("call it list in the line kinds of its header, such as kinds: domain domain domain list",),
            ) from None
        raise UnreadableError(f"{path} is a damaged {_name(header)} file: {reason[:200]}") from None
    finally:
        process.SetGlobalWarningDisplay(shown)


def _voxel_type(pixel: int, path: Path) -> str:
    """Numpy type of the voxels, or of their components."""
    names = {
        "Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8",
        "UInt64": "u8", "Float32": "f4", "Float64": "f8", "ComplexFloat32": "c8", "ComplexFloat64": "c16",
    }  # fmt: skip
    for name, dtype in names.items():
        if pixel in (getattr(sitk, f"sitk{name}"), getattr(sitk, f"sitkVector{name}", None)):
            return dtype
    raise UnsupportedDataError(f"{path} has voxels of a type that is not read: {sitk.GetPixelIDValueAsString(pixel)}")


def _as_xyzt(
    array: NDArray[Any], itk: Any, facts: dict[str, str], path: Path, layered: bool
) -> Array:  # fmt: skip
    """Bring the axes to x, y, z and, where there are times or layers of segments, those."""
    axes, parts = itk.GetDimension(), itk.GetNumberOfComponentsPerPixel()
    if parts > 1:
        if axes != 3 or (not layered and facts.get("NRRD_kinds[pixel]", "").lower() not in _TIME_KINDS):
            raise UnsupportedDataError(f"{path} holds vectors or colours of {parts} components, not measured values")
        return array.transpose(2, 1, 0, 3)
    if axes == 2:
        return array.T[..., None]
    if axes > 4:
        raise UnsupportedDataError(f"{path} has {axes} axes; x, y, z and t are read")
    return array.transpose(*range(axes)[::-1])


def _affine(itk: Any, mm: float) -> Affine:
    """Voxel indices to RAS+ mm; SimpleITK gives LPS, in units of ``mm``."""
    axes = itk.GetDimension()
    direction = np.array(itk.GetDirection()).reshape(axes, axes)
    lps = np.eye(3, 4)
    space = min(axes, 3)
    lps[:space, :space] = direction[:space, :space] * np.array(itk.GetSpacing())[:space]
    lps[:space, 3] = np.array(itk.GetOrigin())[:space]
    affine: Affine = np.eye(4)
    affine[:3] = mm * LPS_TO_RAS @ lps
    return affine


def _sha256(header: ItkHeader) -> str:
    """SHA-256 of the file, and of that of its voxels where it is another."""
    digest = hashlib.sha256()
    for file in header.files:
        with file.open("rb") as opened:
            while block := opened.read(2**20):
                digest.update(block)
    return digest.hexdigest()
