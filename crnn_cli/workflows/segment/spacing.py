"""Spacing that a user gives where a file has lost it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crnn_cli import notices
from crnn_cli.errors import Param, UsageError

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.notices import Remark

_MM, _SECONDS = (0.01, 100.0), (0.001, 10.0)
_CURED = frozenset({"unit-spacing", "affine-lost-spacing", "implausible-spacing"})
_CURED_BY_TIME = frozenset({"no-frame-time", "unusual-frame-time"})

Spacing = tuple[float, ...]
"""Voxel size along x, y, z in mm, and perhaps the time between frames in s."""


def parse_spacing(text: str | None) -> Spacing | None:
    """Read ``x,y,z`` or ``x,y,z,t``; None from None.

    >>> parse_spacing("1.4,1.4,8"), parse_spacing("1.4, 1.4, 8, 0.033")
    ((1.4, 1.4, 8.0), (1.4, 1.4, 8.0, 0.033))

    Raises
    ------
    UsageError
        If there are not three or four numbers, or one is out of range: 0.01 to 100 mm, 0.001 to 10 s.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (3, 4):
        raise UsageError(
            Param("spacing", text), " is not understood: three numbers in mm, such as 1.4,1.4,8, perhaps a fourth in s"
        )
    for value, (least, most), unit in zip(values, (_MM, _MM, _MM, _SECONDS), ("mm", "mm", "mm", "s"), strict=False):
        if not least <= value <= most:
            raise UsageError(Param("spacing", text), f": {value:g} {unit} is not from {least:g} to {most:g} {unit}")
    return values


def with_spacing(image: Image, spacing: Spacing | None, name: str) -> Image:
    """Give an image another voxel size, and perhaps another frame time.

    Where the steps of the affine are all exactly 1 mm, it has lost its spacing: it stays as it is, so that results lie
    over the source in a viewer, and sizes go by the spacing given. Else the affine gets the new steps; directions and
    the first voxel stay.

    Parameters
    ----------
    spacing : x, y, z in mm, perhaps t in s; None leaves the image as it is.
    name : how messages call it.

    Raises
    ------
    UsageError
        If a frame time is given for one volume.
    """
    import numpy as np

    if spacing is None:
        return image
    if len(spacing) == 4 and image.frames == 1:
        raise UsageError(Param("spacing"), f" has a frame time, and {name} has one frame: give x,y,z")
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    said = " x ".join(f"{v:.4g}" for v in image.spacing)
    given = " x ".join(f"{v:.4g}" for v in spacing[:3])
    notices.note("spacing-given", f"voxels of {given} mm were given; {name} says {said} mm")
    time = spacing[3] if len(spacing) == 4 else image.frame_time
    if (steps == 1).all():
        stated = (spacing[0], spacing[1], spacing[2])
        return replace(image, pixdim=stated, frame_time=time, unknown_spacing=())
    affine = image.affine.copy()
    affine[:3, :3] *= np.array(spacing[:3]) / steps
    return replace(image, affine=affine, qform=None, pixdim=None, frame_time=time, unknown_spacing=())


def remaining(remarks: list[Remark], spacing: Spacing | None) -> list[Remark]:
    """Remarks about an image but for those that a given spacing has answered."""
    cured: frozenset[str] = frozenset() if spacing is None else _CURED
    if spacing is not None and len(spacing) == 4:
        cured |= _CURED_BY_TIME
    return [each for each in remarks if each.code not in cured]
