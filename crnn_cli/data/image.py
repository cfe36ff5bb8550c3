"""Image: voxels with their position in space and the time between frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crnn_cli.data.mapped_arrays import chunk_indices, drop_pages
from crnn_cli.data.orientation import Affine
from crnn_cli.data.thumbnail import middle_slice_png
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.notices import Doubt

Array = NDArray[np.generic]

__all__ = ["Affine", "Array", "Image", "affine_of_slice", "magnitude_of"]


def magnitude_of(array: Array) -> NDArray[np.floating[Any]]:
    """Magnitude of voxels of any type; of integers in single precision, as not each has one of its own type.

    >>> magnitude_of(np.array([-128, 127], np.int8)), magnitude_of(np.array([3 + 4j], np.complex64))
    (array([128., 127.], dtype=float32), array([5.], dtype=float32))
    """
    values: NDArray[np.floating[Any]] = np.abs(array.astype(np.float32) if array.dtype.kind in "biu" else array)
    return values


def affine_of_slice(affine: Affine, z: int) -> Affine:
    """Affine of slice z (third axis) alone: that of the volume, its origin moved by z steps along the third axis.

    >>> affine_of_slice(np.diag([1.0, 1.0, 8.0, 1.0]), 2)[:3, 3].tolist()
    [0.0, 0.0, 16.0]
    """
    shifted = affine.copy()
    shifted[:3, 3] += z * affine[:3, 2]
    return shifted


@dataclass(frozen=True, init=False, repr=False)
class Image:
    """A volume or a series of volumes with its geometry.

    In a notebook an image shows its middle slice; its ``repr`` states shape, spacing and frame time. Voxels are not
    copied and not checked for NaN on construction: call `require_finite` where it matters.

    Parameters
    ----------
    array : (x, y, z) or (x, y, z, t), real or complex; any array-like.
    affine : (4, 4) voxel index to RAS+ position in mm; the identity where not given. The slice order and all sizes
        come from it, so a wrong affine gives wrong volumes and orientations without an error.
    frame_time : seconds between frames; None where unknown.
    codes : NIfTI qform and sform codes of the source.
    qform : the qform of the source where it differs from ``affine`` (which is then the sform); else None.
    unitless_frame_step : the frame step of a source that gives it without a unit; else 0.
    pixdim : voxel size in mm that the header states beside an affine whose steps are all exactly 1 mm, and which must
        therefore have lost its spacing; else None. Sizes follow ``pixdim``; the affine is written as it was read.
    unknown_spacing : axes, from 0, whose spacing the source does not give; a step of 1 mm stands in.

    Raises
    ------
    UnsupportedDataError
        If the array is not numeric, not 3-D or 4-D, or has an empty axis; if the affine is singular or not finite.

    Examples
    --------
    >>> Image(np.zeros((256, 256, 10, 20), np.float32), np.diag([0.82, 0.82, 10, 1]), frame_time=0.038)
    Image(256 x 256 x 10 x 20, 0.82 x 0.82 x 10 mm, frame time 38 ms, float32)
    """

    array: Array
    affine: Affine
    frame_time: float | None = None
    codes: tuple[int, int] = (1, 1)
    qform: Affine | None = None
    unitless_frame_step: float = 0.0
    pixdim: tuple[float, float, float] | None = None
    unknown_spacing: tuple[int, ...] = ()

    def __init__(
        self,
        array: ArrayLike,
        affine: ArrayLike | None = None,
        frame_time: float | None = None,
        codes: tuple[int, int] = (1, 1),
        *,
        qform: Affine | None = None,
        unitless_frame_step: float = 0.0,
        pixdim: tuple[float, float, float] | None = None,
        unknown_spacing: tuple[int, ...] = (),
    ) -> None:
        fields = {
            "array": array, "affine": affine, "frame_time": frame_time, "codes": codes, "qform": qform,
            "unitless_frame_step": unitless_frame_step, "pixdim": pixdim,
            "unknown_spacing": unknown_spacing,
        }  # fmt: skip
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Convert array and affine to numpy, and check them; classes derived from `Image` call it too."""
        values = self.array if isinstance(self.array, np.ndarray) else np.asarray(self.array)
        matrix = np.eye(4) if self.affine is None else np.asarray(self.affine, np.float64)
        if values.dtype.kind not in "biufc":
            raise UnsupportedDataError(f"an image has numbers; this array has values of type {values.dtype}")
        if values.ndim not in (3, 4) or 0 in values.shape:
            raise UnsupportedDataError(f"an image has axes x, y, z and perhaps t; this array is {values.shape}")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise UnsupportedDataError("the affine is not a finite 4 x 4 matrix: the header has no usable geometry")
        if abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
            raise UnsupportedDataError("the affine is singular: two of the voxel axes point the same way")
        object.__setattr__(self, "array", values)
        object.__setattr__(self, "affine", matrix)

    def __repr__(self) -> str:
        """Shape, spacing, frame time and type of the voxels."""
        shape, spacing = (" x ".join(format(v, "g") for v in values) for values in (self.shape, self._rounded_spacing))
        time = "" if self.frame_time is None else f"frame time {1000 * self.frame_time:.4g} ms, "
        return f"Image({shape}, {spacing} mm, {time}{self.array.dtype})"

    def _repr_png_(self) -> bytes:
        """Picture in a notebook: the middle slice, up to four frames side by side."""
        png = middle_slice_png(self.array, self.affine, self.spacing)
        drop_pages(self.array)
        return png

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def frames(self) -> int:
        """Number of frames; 1 for a 3-D image."""
        return self.array.shape[3] if self.array.ndim == 4 else 1

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the array axes in mm: ``pixdim`` where set, else the column norms of the affine."""
        if self.pixdim is not None:
            return self.pixdim
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def _rounded_spacing(self) -> tuple[float, ...]:
        return tuple(float(f"{value:.3g}") for value in self.spacing)

    @property
    def is_complex(self) -> bool:
        """Whether the voxels are complex."""
        return bool(np.iscomplexobj(self.array))

    def select_slice(self, z: int) -> Image:
        """Slice z (third axis) alone, at its position in space; a view.

        >>> Image(np.zeros((8, 8, 3, 5)), frame_time=0.04).select_slice(1)
        Image(8 x 8 x 1 x 5, 1 x 1 x 1 mm, frame time 40 ms, float64)
        """
        qform = None if self.qform is None else affine_of_slice(self.qform, z)
        return replace(self, array=self.array[:, :, z : z + 1], affine=affine_of_slice(self.affine, z), qform=qform)

    def with_stated_spacing(self) -> Image:
        """Image whose affine has the steps of ``pixdim``, for formats that cannot state both; itself without one.

        Directions and the position of the first voxel stay.

        >>> Image(np.zeros((2, 2, 2)), pixdim=(1.5, 1.5, 8)).with_stated_spacing().affine.diagonal().tolist()
        [1.5, 1.5, 8.0, 1.0]
        """
        if self.pixdim is None:
            return self
        affine = self.affine.copy()
        affine[:3, :3] *= self.pixdim
        return replace(self, affine=affine, pixdim=None, qform=None)

    def doubts(self) -> list[Doubt]:
        """Doubts about geometry or timing that are implausible: lost spacing, missing or unusual frame time.

        None of them stops a command; the caller reports them.
        """
        doubts: list[Doubt] = []
        if self.unknown_spacing:
            axes = " and ".join("xyz"[axis] for axis in self.unknown_spacing)
            text = f"the header gives no spacing along {axes}: 1 mm stands in, and sizes are not known"
            doubts.append(Doubt("implausible-spacing", text))
        elif self.pixdim is not None:
            stated = " x ".join(f"{v:.4g}" for v in self.pixdim)
            doubts.append(Doubt(
                "affine-lost-spacing",
                f"the affine has steps of exactly 1 x 1 x 1 mm, the voxel size beside it is {stated} mm: the affine "
                "has lost its spacing; sizes go by the latter, positions are written as they were read",
            ))  # fmt: skip
        elif self.spacing == (1.0, 1.0, 1.0):
            text = "the voxel spacing is exactly 1 x 1 x 1 mm: the header may have lost it"
            doubts.append(Doubt("unit-spacing", text))
        elif max(self.spacing) > 100 or min(self.spacing) < 0.01:
            text = f"the voxel spacing {tuple(round(v, 4) for v in self.spacing)} mm is implausible"
            doubts.append(Doubt("implausible-spacing", text))
        if self.frames > 1 and self.frame_time is None:
            doubts.append(Doubt("no-frame-time", "the header gives no frame time"))
        elif self.frames > 1 and self.frame_time is not None and not 0.005 <= self.frame_time < 1:
            text = f"a frame time of {1000 * self.frame_time:g} ms is unusual for cine: lost or repetition time?"
            doubts.append(Doubt("unusual-frame-time", text))
        doubts += self._doubts_of_forms()
        if self.codes == (0, 0):
            text = "neither qform nor sform is set: the position in space is unknown"
            doubts.append(Doubt("position-unknown", text))
        return doubts

    def _doubts_of_forms(self) -> list[Doubt]:
        """Doubt that sform and qform of one and the same code place a voxel more than its own size apart."""
        if self.qform is None or self.codes[0] != self.codes[1]:
            return []
        corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in self.shape[:3]))], np.float64)
        nearest = without_shear(self.affine)  # a qform cannot have one
        apart, *others = (
            float(np.linalg.norm(corners @ (self.qform - form)[:3].T, axis=1).max()) for form in (self.affine, nearest)
        )
        if min(apart, *others) <= min(self.spacing):
            return []
        mirrored = np.linalg.det(self.qform[:3, :3]) * np.linalg.det(self.affine[:3, :3]) < 0
        how = ", one the mirror image of the other" if mirrored else ""
        text = f"sform and qform place voxels up to {apart:.4g} mm apart{how}: the sform counts"
        return [Doubt("sform-and-qform-differ", text)]

    def require_finite(self, name: str) -> None:
        """Refuse NaN and infinite voxels.

        Parameters
        ----------
        name : how the message calls the image.

        Raises
        ------
        UnsupportedDataError
            If there are any; it states their number and the index of the first.
        """
        count, first = self.not_finite()
        if count:
            raise UnsupportedDataError(
                f"{name} has {count} NaN or infinite voxels, the first at {first}: "
                "replace them, for instance by zeros, first"
            )

    def not_finite(self) -> tuple[int, tuple[int, ...]]:
        """Number of NaN and infinite voxels, and the index of the first; (0, ()) where there are none."""
        count, first = 0, list[tuple[int, ...]]()
        for chunk in chunk_indices(self.array.shape, self.array.itemsize):
            bad = np.argwhere(~np.isfinite(self.array[chunk]))
            if len(bad):
                *leading, last = (int(v) for v in bad[0])
                count, first = count + len(bad), [*first, (*leading, last + chunk[-1].start)]
            drop_pages(self.array)
        return count, min(first, default=())


def without_shear(affine: Affine) -> Affine:
    """Nearest affine whose axes are at right angles, with steps of the same lengths."""
    nearest = affine.copy()
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(affine[:3, :3] / steps)
    nearest[:3, :3] = u @ vt * steps
    return nearest
