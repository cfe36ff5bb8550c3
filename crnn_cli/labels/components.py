"""Connected components of label maps, and which of them to keep.

Voxels are connected where they share a face, an edge or a corner (26-connectivity), whatever the voxel spacing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from SimpleITK import ConnectedComponent, GetArrayFromImage, GetImageFromArray, SignedMaurerDistanceMap

Labels = NDArray[np.uint8]


def keep_largest(labels: Labels, values: Sequence[int]) -> tuple[Labels, dict[int, int]]:
    """Keep the largest 3-D connected component of each label in each frame; the others become background.

    Size is the number of voxels. Components that tie for the largest are all kept: which is right is unknown, and the
    result must not depend on the storage order.

    Parameters
    ----------
    labels : (x, y, z) or (x, y, z, t); each frame on its own.
    values : labels to clean; voxels of other labels are unchanged.

    Returns
    -------
    A cleaned copy, and the number of voxels removed from each label, over all frames.

    Examples
    --------
    >>> labels = np.zeros((6, 2, 2), np.uint8)
    >>> labels[:2], labels[4] = 1, 1
    >>> keep_largest(labels, [1])[1]
    {1: 4}
    """
    cleaned = labels.copy()
    frames = cleaned[..., None] if cleaned.ndim == 3 else cleaned
    removed = dict.fromkeys(values, 0)
    for frame in range(frames.shape[3]):
        for value in removed:
            stray = _smaller_components(frames[..., frame] == value)
            frames[..., frame][stray] = 0
            removed[value] += int(stray.sum())
    return cleaned, removed


def keep_near_largest(labels: Labels, spacing: Sequence[float], distance: float) -> tuple[Labels, dict[int, int]]:
    """Remove what lies far from the heart, or whatever a model labels.

    In each frame the largest 3-D component of all labels together is kept, and every other component that comes within
    ``distance`` of it; then the same for each label by itself. Components that tie for the largest are all kept.

    Parameters
    ----------
    labels : (x, y, z) or (x, y, z, t); each frame on its own.
    spacing : of the voxels along x, y, z in mm.
    distance : between voxel centres, mm.

    Returns
    -------
    A cleaned copy, and the number of voxels removed from each label that lost any, over all frames.

    Examples
    --------
    >>> labels = np.zeros((9, 2, 2), np.uint8)
    >>> labels[:2], labels[4], labels[8] = 1, 2, 2
    >>> keep_near_largest(labels, (1.0, 1.0, 1.0), 3.0)[1]
    {2: 4}
    """
    cleaned = labels.copy()
    frames = cleaned[..., None] if cleaned.ndim == 3 else cleaned
    removed: dict[int, int] = {}
    for frame in range(frames.shape[3]):
        volume, before = frames[..., frame], np.bincount(frames[..., frame].ravel(), minlength=256)
        volume[_far_components(volume > 0, spacing, distance)] = 0
        for value in np.flatnonzero(before[1:]) + 1:
            volume[_far_components(volume == value, spacing, distance)] = 0
        lost = before - np.bincount(volume.ravel(), minlength=256)
        for value in np.flatnonzero(lost[1:]) + 1:
            removed[int(value)] = removed.get(int(value), 0) + int(lost[value])
    return cleaned, removed


def component_sizes(mask: NDArray[np.bool_]) -> list[int]:
    """Number of voxels of each component of a 3-D mask, in no particular order.

    >>> component_sizes(np.array([[[True, True, False, True]]]))
    [2, 1]
    """
    if not mask.any():
        return []
    sizes: list[int] = np.bincount(_numbered(mask[_box(mask)]).ravel())[1:].tolist()
    return sizes


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Bounding box of a mask that is not empty: most of a volume is background, and takes no time then."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _numbered(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Components of a 3-D mask, numbered from 1; 0 is outside."""
    image = ConnectedComponent(GetImageFromArray(mask.astype(np.uint8)), True)
    numbered: NDArray[np.uint32] = GetArrayFromImage(image)
    return numbered


def _far_components(mask: NDArray[np.bool_], spacing: Sequence[float], distance: float) -> NDArray[np.bool_]:
    """Voxels of a 3-D mask in components that are farther than ``distance`` from every largest one."""
    far = _smaller_components(mask)
    if not far.any():
        return far
    box = _box(mask)
    inside, stray = mask[box], far[box]
    largest = GetImageFromArray((inside & ~stray).astype(np.uint8))
    largest.SetSpacing([float(v) for v in spacing[::-1]])
    away = GetArrayFromImage(SignedMaurerDistanceMap(largest, False, False, True))
    components = _numbered(inside)
    near = np.zeros(int(components.max()) + 1, bool)
    near[components[inside & (away <= distance)]] = True
    far[box] = stray & ~near[components]
    return far


def _smaller_components(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a 3-D mask that are not in a largest component."""
    stray = np.zeros_like(mask)
    if not mask.any():
        return stray
    box = _box(mask)
    components = _numbered(mask[box])
    sizes = np.bincount(components.ravel())
    smaller = sizes < sizes[1:].max()
    smaller[0] = False
    stray[box] = smaller[components]
    return stray
