"""Slices between drawn ones without a network: the nearest drawn slice again, or interpolated signed distances.

Both are what people do today; the network has to beat them.

Legend: K structure (from 1), S slice, Y row, X column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.labels.shape_interpolation import interpolate_distances, nearest_drawn
from crnn_cli.segmentation.drawn.stack import Numbers


def copy_nearest(drawn_SYX: Numbers, known_S: NDArray[np.bool_]) -> Numbers:
    """Label each slice as the drawn slice nearest to it is; of two as near, as the one before.

    Parameters
    ----------
    drawn_SYX : structures in the drawn slices; other slices are not looked at.
    known_S : which slices are drawn, at least one.
    """
    return drawn_SYX[nearest_drawn(known_S)]


def interpolate_shapes(drawn_SYX: Numbers, known_S: NDArray[np.bool_], spacing: tuple[float, float, float]) -> Numbers:
    """Label each slice by interpolated signed distances; where structures overlap, the deepest one counts.

    Parameters
    ----------
    drawn_SYX, known_S : as of `copy_nearest`.
    spacing : between slices, of rows, of columns.
    """
    labels_SYX = np.where(known_S[:, None, None], drawn_SYX, 0).astype(np.uint8)
    deepest_SYX = np.zeros(drawn_SYX.shape, np.float32)
    open_S = ~known_S
    for k in (int(value) for value in np.unique(labels_SYX) if value):
        depth_SYX = interpolate_distances(labels_SYX == k, known_S, spacing)
        deeper_SYX = (depth_SYX > deepest_SYX) & open_S[:, None, None]
        labels_SYX[deeper_SYX], deepest_SYX[deeper_SYX] = k, depth_SYX[deeper_SYX]
    return labels_SYX
