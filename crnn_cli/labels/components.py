"""Largest connected component of each label: the usual post-processing of segmentation networks.

Voxels are connected where they share a face, an edge or a corner (26-connectivity), whatever the voxel spacing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from SimpleITK import ConnectedComponent, GetArrayViewFromImage, GetImageFromArray

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


def _smaller_components(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of a 3-D mask that are not in a largest component."""
    if not mask.any():
        return mask
    image = ConnectedComponent(GetImageFromArray(mask.astype(np.uint8)), True)  # the view below borrows its memory
    components = GetArrayViewFromImage(image)
    sizes = np.bincount(components.ravel())
    smaller = sizes < sizes[1:].max()
    smaller[0] = False
    stray: NDArray[np.bool_] = smaller[components]
    return stray
