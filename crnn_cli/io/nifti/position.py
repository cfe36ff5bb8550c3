"""Where a NIfTI image lies: sform, qform and their codes, as they are and where they are damaged.

The sform counts where its code is set, else the qform, else pixdim alone, which gives no position (codes 0 and 0). An
sform that is damaged gives way to a qform, and a doubt says so. Affines map voxel indices to RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import imageglobals

from crnn_cli.data.image import Affine
from crnn_cli.notices import Doubt, Remark

_ROUNDING = 1e-4
_QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
_NORM = "norm of the quaternion"
_NO_SPACING = "axes without spacing"


@contextmanager
def silence_nibabel() -> Iterator[None]:
    """Keep nibabel from writing to standard error: what is odd about a header is told in our words."""
    logger = imageglobals.logger
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def with_unit_quaternion(image_class: Any, raw: bytes) -> Any:
    """Parse a file whose quaternion may be longer than 1, which nibabel refuses: it is scaled, as in NIfTI's code.

    A pixdim that is no length, 0 or not a number, becomes 1, and its axis is noted (`Place.unknown_spacing`).

    Parameters
    ----------
    image_class : `nibabel.Nifti1Image` or `nibabel.Nifti2Image`.
    raw : the file, or its start.
    """
    kind = image_class.header_class
    header = kind(raw[: kind.sizeof_hdr], check=False)
    norm = float(np.linalg.norm([float(header[name]) for name in _QUATERNION]))
    shape = [int(n) for n in header["dim"]]
    axes = [axis for axis in range(min(3, max(0, shape[0]))) if not _is_length(header["pixdim"][1 + axis])]
    if not norm > 1 and not axes:  # a NaN in the quaternion too: left to nibabel
        return image_class.from_bytes(raw)
    for name in _QUATERNION if norm > 1 else ():
        header[name] = float(header[name]) / (norm * (1 + 1e-7))
    for axis in axes:
        header["pixdim"][1 + axis] = 1
    nifti = image_class.from_bytes(header.binaryblock + raw[kind.sizeof_hdr :])
    nifti.extra |= {_NO_SPACING: tuple(axes)} | ({_NORM: norm} if norm > 1 else {})
    return nifti


def _is_length(stated: Any) -> bool:
    return bool(np.isfinite(stated) and stated != 0)


@dataclass(frozen=True)
class Place:
    """Where an image lies.

    Attributes
    ----------
    affine : voxel indices to RAS+ mm.
    codes : qform_code and sform_code, 0 for a form that is not used because it is damaged.
    qform : where both codes are set and the qform differs from the affine, in mm; else None.
    remarks : what is doubtful.
    unknown_spacing : axes whose spacing the header does not give.
    """

    affine: Affine
    codes: tuple[int, int]
    qform: Affine | None
    remarks: tuple[Remark, ...]
    unknown_spacing: tuple[int, ...] = ()


def place_of(nifti: Any, unit: float) -> Place:
    """Determine the place of a nibabel image.

    Parameters
    ----------
    unit : length of the header's unit in mm.
    """
    header, remarks = nifti.header, list[Remark]()
    qcode, scode = int(header["qform_code"]), int(header["sform_code"])
    norm = nifti.extra.get(_NORM, 1.0)
    if qcode > 0 and scode <= 0 and norm > 1 + _ROUNDING:
        text = f"the quaternion of the qform has the length {norm:.4g}: it is taken as the rotation that it points to"
        remarks.append(Doubt("qform-no-rotation", text))
    qform = _in_mm(header.get_qform(), unit) if qcode > 0 else None
    sform = _in_mm(header.get_sform(), unit) if scode > 0 else None
    unknown: tuple[int, ...] = nifti.extra.get(_NO_SPACING, ())
    if unknown and sform is not None and _is_usable(sform):
        qform, qcode = None, 0  # its steps are those of pixdim
        unknown = unknown if (np.linalg.norm(sform[:3, :3], axis=0) == unit).all() else ()
    if sform is not None and qform is not None and not _is_usable(sform):
        text = "the sform is no affine (singular or not finite): the qform counts"
        remarks.append(Doubt("sform-unusable", text))
        sform, scode = None, 0
    if qform is not None and not _is_usable(qform) and sform is not None:
        qform, qcode = None, 0
    best = sform if sform is not None else qform if qform is not None else _in_mm(header.get_base_affine(), unit)
    differs = sform is not None and qform is not None and not np.allclose(qform, sform, atol=1e-3)
    if differs and norm > 1 + _ROUNDING:
        differs = False  # a damaged qform beside a sound sform says nothing
    return Place(best, (qcode, scode), qform if differs else None, tuple(remarks), unknown)


def _in_mm(affine: Any, unit: float) -> Affine:
    scaled: Affine = np.array(affine, dtype=np.float64)
    scaled[:3] *= unit
    return scaled


def _is_usable(affine: Affine) -> bool:
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) >= 1e-9)
