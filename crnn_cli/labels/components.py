"""The largest connected piece of each label: what a network leaves beside a structure is taken away.

Voxels are connected where they share a face, an edge or a corner (26 neighbours), as in the usual post-processing of
segmentation networks. All axes count the same, whatever the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from SimpleITK import ConnectedComponent, GetArrayViewFromImage, GetImageFromArray

Labels = NDArray[np.uint8]


def keep_largest(labels: Labels, values: Sequence[int]) -> tuple[Labels, dict[int, int]]:
    """Keep the largest 3-D connected piece of each label in each frame; its other pieces become background.

    Size is the number of voxels. Pieces that tie for the largest are all kept: which of them is right is not known, and
    the result does not depend on how the array is stored.

    Parameters
    ----------
    labels : (x, y, z) or (x, y, z, t); each frame on its own.
    values : the labels to treat; voxels of any other value stay as they are.

    Returns
    -------
    The new labels, and for each value how many voxels were removed, of all frames together.
    """
    kept = labels.copy()
    frames = kept[..., None] if kept.ndim == 3 else kept
    removed = dict.fromkeys(values, 0)
    for frame in range(frames.shape[3]):
        for value in removed:
            stray = _smaller_pieces(frames[..., frame] == value)
            frames[..., frame][stray] = 0
            removed[value] += int(stray.sum())
    return kept, removed


def _smaller_pieces(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a 3-D mask that are not in a largest piece."""
    if not mask.any():
        return mask
    found = ConnectedComponent(GetImageFromArray(mask.astype(np.uint8)), True)
    pieces = GetArrayViewFromImage(found)
    sizes = np.bincount(pieces.ravel())
    smaller = sizes < sizes[1:].max()
    smaller[0] = False
    stray: NDArray[np.bool_] = smaller[pieces]
    return stray
