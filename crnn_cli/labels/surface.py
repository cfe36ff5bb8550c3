"""How far apart the surfaces of two masks are, in mm: 95 % Hausdorff distance and mean surface distance.

The surface of a mask is its voxels with at least one of the six face neighbours outside; beyond the border of the array
all is outside. An array axis of length 1 has no neighbours, so that one slice has an outline; in an array of one voxel,
that is the surface. For each surface voxel of one mask the distance to the nearest surface voxel of the other is taken,
between voxel centres: two directed sets.
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
"""Largest |cosine| between two voxel axes of an orthogonal grid (0.06 degrees): what rounding leaves, not a shear."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces in mm.

    Attributes
    ----------
    hd95 : the larger of the 95th percentiles of the two directed sets, interpolated linearly.
    mean : sum of both directed sets over the number of voxels in both (average symmetric surface distance).
    """

    hd95: float
    mean: float


def orthogonal_spacing(grid: Image) -> Spacing:
    """Return the voxel size along the array axes in mm, of a grid whose axes are at right angles.

    Raises
    ------
    UnsupportedDataError
        If two voxel axes are not at right angles, to a |cosine| of 1e-3.
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
    """Return the surface voxels of a mask of any number of axes."""
    inside = mask.copy()
    for axis, length in enumerate(mask.shape):
        if length == 1:
            continue
        along, kept = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        kept[1:] &= along[:-1]
        kept[:-1] &= along[1:]
        kept[[0, -1]] = False
    return mask & ~inside if mask.size > 1 else mask


def directed_distances(tested: Mask, reference: Mask, spacing: Spacing) -> tuple[Distances, Distances] | None:
    """Return the distance in mm from each surface voxel of one mask to the other's surface, both ways.

    Parameters
    ----------
    tested, reference : (x, y, z), of one shape.
    spacing : voxel size along x, y, z in mm; the grid is orthogonal (`orthogonal_spacing`).

    Returns
    -------
    From tested to reference, and from reference to tested; None where a mask is empty, for then nothing is defined.

    Notes
    -----
    Exact Euclidean distance transform of Maurer et al., IEEE TPAMI 2003, by SimpleITK, within the box of both masks.
    """
    if not tested.any() or not reference.any():
        return None
    box = _box(tested | reference)
    first, second = surface(tested[box]), surface(reference[box])
    return _distance_to(second, spacing)[first], _distance_to(first, spacing)[second]


def surface_distances(tested: Mask, reference: Mask, spacing: Spacing) -> SurfaceDistances | None:
    """Return 95 % Hausdorff distance and mean surface distance; arguments as in `directed_distances`.

    HD95 = max(P95(tested to reference), P95(reference to tested)), as in MONAI and in DeepMind's surface-distance;
    each surface voxel counts once, as in MONAI (surface-distance weights by area). MedPy
    takes one percentile of both sets together: in general another number. The mean is MONAI's with ``symmetric=True``.

    Both are symmetric in the two masks, and None where one is empty. Huttenlocher et al., IEEE TPAMI 1993; Heimann et
    al., IEEE TMI 2009.
    """
    directed = directed_distances(tested, reference, spacing)
    if directed is None:
        return None
    hd95 = max(float(np.percentile(distances, 95)) for distances in directed)
    return SurfaceDistances(hd95, float(np.concatenate(directed).mean()))


def _box(mask: Mask) -> tuple[slice, ...]:
    """Return the box around a mask and one voxel more, so that no axis becomes 1 long that was longer."""
    found = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        found.append(slice(max(int(used[0]) - 1, 0), int(used[-1]) + 2))
    return tuple(found)


def _distance_to(target: Mask, spacing: Spacing) -> Distances:
    """Return for each voxel the distance in mm to the nearest True one."""
    image = GetImageFromArray(target.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    signed = SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.maximum(GetArrayFromImage(signed).astype(np.float64), 0)
