"""Image: an array that knows where it lies in space and how fast its frames follow each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.mapped_arrays import drop_pages, parts
from crnn_cli.errors import UnsupportedDataError

Array = NDArray[np.generic]
Affine = NDArray[np.float64]


def affine_of_slice(affine: Affine, z: int) -> Affine:
    """Return the affine of slice z (third axis) alone, of the affine of all slices."""
    moved = affine.copy()
    moved[:3, 3] += z * affine[:3, 2]
    return moved


@dataclass(frozen=True)
class Image:
    """Voxels with geometry.

    Attributes
    ----------
    array : (x, y, z) or (x, y, z, t), real or complex, finite or not: `require_finite` tells.
    affine : (4, 4) voxel index to RAS+ position in mm.
    frame_time : seconds between frames; None where the source does not say.
    codes : NIfTI qform and sform codes of the source.
    qform : the source's qform where it says another place than ``affine`` (which is the sform then); else None.
    unnamed_step : the frame step of the source, where it does not say in which unit; else 0.
    pixdim : the voxel size in mm that the source states beside an affine whose steps are all exactly 1 mm, so that the
        affine must have lost it; else None. The affine is kept as it is, sizes go by this.

    Raises
    ------
    UnsupportedDataError
        If the array is not 3-D or 4-D, has an empty axis, or the affine is singular or not finite.
    """

    array: Array
    affine: Affine
    frame_time: float | None = None
    codes: tuple[int, int] = (1, 1)
    qform: Affine | None = None
    unnamed_step: float = 0.0
    pixdim: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or 0 in self.array.shape:
            raise UnsupportedDataError(f"an image has axes x, y, z and perhaps t; this array is {self.array.shape}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise UnsupportedDataError("the affine is not a finite 4 x 4 matrix: the header has no usable geometry")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise UnsupportedDataError("the affine is singular: two of the voxel axes point the same way")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def frames(self) -> int:
        """Frames, 1 for a 3-D image."""
        return self.array.shape[3] if self.array.ndim == 4 else 1

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the array axes in mm."""
        if self.pixdim is not None:
            return self.pixdim
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def is_complex(self) -> bool:
        """Whether the voxels are complex."""
        return bool(np.iscomplexobj(self.array))

    def one_slice(self, z: int) -> Image:
        """Return slice z (third axis) alone, where it lies; not a copy."""
        qform = None if self.qform is None else affine_of_slice(self.qform, z)
        return replace(self, array=self.array[:, :, z : z + 1], affine=affine_of_slice(self.affine, z), qform=qform)

    def doubts(self) -> list[str]:
        """Return what looks wrong in the geometry, in words; nothing here stops anything."""
        found = []
        if self.pixdim is not None:
            stated = " x ".join(f"{v:.4g}" for v in self.pixdim)
            found.append(
                f"the affine has steps of exactly 1 x 1 x 1 mm, the voxel size beside it is {stated} mm: the affine "
                "has lost its spacing; sizes go by the latter, positions are written as they were read"
            )
        elif self.spacing == (1.0, 1.0, 1.0):
            found.append("the voxel spacing is exactly 1 x 1 x 1 mm: the header may have lost it")
        elif max(self.spacing) > 100 or min(self.spacing) < 0.01:
            found.append(f"the voxel spacing {tuple(round(v, 4) for v in self.spacing)} mm is implausible")
        if self.frames > 1 and self.frame_time is None:
            found.append("the header gives no frame time")
        elif self.frames > 1 and self.frame_time is not None and not 0.005 <= self.frame_time < 1:
            found.append(f"a frame time of {1000 * self.frame_time:g} ms is unusual for cine: lost or repetition time?")
        if self.codes == (0, 0):
            found.append("neither qform nor sform is set: the position in space is unknown")
        return found

    def require_finite(self, name: str) -> None:
        """Raise UnsupportedDataError, naming the first place, where a voxel is NaN or infinite."""
        count, first = 0, list[tuple[int, ...]]()
        for part in parts(self.array.shape, self.array.itemsize):
            bad = np.argwhere(~np.isfinite(self.array[part]))
            if len(bad):
                *places, last = (int(v) for v in bad[0])
                count, first = count + len(bad), [*first, (*places, last + part[-1].start)]
            drop_pages(self.array)
        if count:
            raise UnsupportedDataError(
                f"{name} has {count} NaN or infinite voxels, the first at {min(first)}: "
                "replace them, for instance by zeros, first"
            )
