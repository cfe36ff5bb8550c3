"""Surface distances of two masks in mm: 95 % Hausdorff distance and mean surface distance.

The surface of a mask are its voxels with at least one of six face neighbours outside the mask; beyond the border of the
array everything is outside. An array axis of length 1 has no neighbours, so that a single slice has an outline; the
surface in an array of one voxel is that voxel. Distances run between voxel centres, from each surface voxel of one mask
to the nearest surface voxel of the other: two directed sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from SimpleITK import GetArrayFromImage, GetImageFromArray, SignedMaurerDistanceMap

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]
Spacing = tuple[float, float, float]

ORTHOGONAL = 1e-3
"""Largest |cosine| between two voxel axes of an orthogonal grid (0.06 degrees): rounding, not shear."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces in mm.

    Attributes
    ----------
    hd95 : 95 % Hausdorff distance: the larger 95th percentile of the two directed sets, linearly interpolated.
    mean : average symmetric surface distance: sum of both directed sets over the number of voxels in both.
    """

    hd95: float
    mean: float


def orthogonal_spacing(grid: Image) -> Spacing:
    """Voxel size along the array axes in mm, of a grid whose axes must be perpendicular.

    Raises
    ------
    UnsupportedDataError
        If the |cosine| between two voxel axes exceeds 1e-3.
    """
    axes = grid.affine[:3, :3]
    unit = axes / np.linalg.norm(axes, axis=0)
    shear = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if shear > ORTHOGONAL:
        degrees = np.degrees(np.arcsin(min(shear, 1.0)))
        raise UnsupportedDataError(
            f"the voxel grid is sheared: two of its axes are {degrees:.3g} degrees off a right angle, and surface "
            "distances are measured on orthogonal grids only. Resample both label maps onto one"
        )
    return grid.spacing


def surface(mask: Mask) -> Mask:
    """Surface voxels of a mask of any number of axes: those with a face neighbour outside.

    >>> surface(np.ones((3, 3), bool)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    inside = mask.copy()
    for axis, length in enumerate(mask.shape):
        if length == 1:
            continue
        neighbours, interior = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        interior[1:] &= neighbours[:-1]
        interior[:-1] &= neighbours[1:]
        interior[[0, -1]] = False
    return mask & ~inside if mask.size > 1 else mask


def directed_distances(tested: Mask, reference: Mask, spacing: Spacing) -> tuple[Distances, Distances] | None:
    """Distances in mm from each surface voxel of one mask to the surface of the other, in both directions.

    Parameters
    ----------
    tested, reference : (x, y, z), of one shape.
    spacing : voxel size along x, y, z in mm; the grid must be orthogonal (`orthogonal_spacing`).

    Returns
    -------
    From tested to reference, and from reference to tested; None where a mask is empty, as nothing is defined then.

    References
    ----------
    Maurer et al., IEEE TPAMI 25, 2003: exact Euclidean distance transform, as implemented in SimpleITK.
    """
    if not tested.any() or not reference.any():
        return None
    box = _box(tested | reference)
    first, second = surface(tested[box]), surface(reference[box])
    return _distance_to(second, spacing)[first], _distance_to(first, spacing)[second]


def surface_distances(tested: Mask, reference: Mask, spacing: Spacing) -> SurfaceDistances | None:
    """95 % Hausdorff distance and mean surface distance; None where a mask is empty.

    HD95 = max(P95(tested to reference), P95(reference to tested)), as in MONAI and DeepMind's surface-distance. Each
    surface voxel counts once, as in MONAI (surface-distance weights by area). MedPy takes one percentile of both sets
    together, in general another number. The mean is that of MONAI with ``symmetric=True``. Both are symmetric.

    Parameters
    ----------
    tested, reference, spacing : as in `directed_distances`.

    References
    ----------
    Huttenlocher et al., IEEE TPAMI 15, 1993; Heimann et al., IEEE TMI 28, 2009.

    Examples
    --------
    >>> mask = np.zeros((8, 4, 4), bool)
    >>> mask[1:3, 1:3, 1:3] = True
    >>> surface_distances(mask, np.roll(mask, 3, axis=0), (2.0, 1.0, 1.0))
    SurfaceDistances(hd95=6.0, mean=5.0)
    """
    directed = directed_distances(tested, reference, spacing)
    if directed is None:
        return None
    hd95 = max(float(np.percentile(distances, 95)) for distances in directed)
    return SurfaceDistances(hd95, float(np.concatenate(directed).mean()))


def _box(mask: Mask) -> tuple[slice, ...]:
    """Bounding box of a mask, one voxel larger on each side so that no longer axis shrinks to length 1."""
    box = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(int(used[0]) - 1, 0), int(used[-1]) + 2))
    return tuple(box)


def _distance_to(target: Mask, spacing: Spacing) -> Distances:
    """Distance in mm from each voxel to the nearest True one."""
    image = GetImageFromArray(target.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    signed = SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.maximum(GetArrayFromImage(signed).astype(np.float64), 0)
