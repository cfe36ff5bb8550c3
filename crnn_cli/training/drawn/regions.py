"""Regions of an image as structures to learn from where nothing is labelled: a watershed of its gradient.

Basins of the gradient's magnitude in the slice, connected through the slices, are regions whose outline follows what is
seen. They are no anatomy; a network that is to follow any structure learns from them that outlines lie at edges.

Legend: S slice, Y row, X column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from SimpleITK import GetArrayFromImage, GetImageFromArray, MorphologicalWatershed

_SMOOTHING = (0.5, 1.2, 1.2)  # standard deviation in slices and pixels
_LEAST_SLICES, _LEAST_PIXELS, _SIDES = 3, 30, (12, 120)


def watershed_regions(image_SYX: NDArray[np.float32], level: float) -> NDArray[np.uint16]:
    """Regions of a stack, numbered from 1; 0 elsewhere.

    Only regions that can be drawn are kept: in 3 slices or more, at least 30 pixels a slice on the mean, 12 to 120
    pixels long. Their outlines are smoothed by a median.

    Parameters
    ----------
    image_SYX : intensities scaled to about 0 ... 1.
    level : depth up to which basins are merged; larger gives fewer and larger regions. Usual: 0.1 to 0.6.
    """
    smooth = ndimage.gaussian_filter(image_SYX, _SMOOTHING)
    slope = np.hypot(ndimage.sobel(smooth, 1), ndimage.sobel(smooth, 2)).astype(np.float32)
    basins = GetArrayFromImage(
        MorphologicalWatershed(GetImageFromArray(slope), level=level, markWatershedLine=False, fullyConnected=False)
    )
    kept = np.zeros(image_SYX.shape, np.uint16)
    number = 0
    for value, place in enumerate(ndimage.find_objects(basins), start=1):
        if place is None or not _is_drawable(basins[place] == value):
            continue
        number += 1
        kept[place][ndimage.median_filter(basins[place] == value, (1, 5, 5))] = number
    return kept


def _is_drawable(mask_SYX: NDArray[np.bool_]) -> bool:
    slices, *sides = mask_SYX.shape
    long_enough: bool = _SIDES[0] <= max(sides) <= _SIDES[1]
    return slices >= _LEAST_SLICES and long_enough and int(mask_SYX.sum()) >= _LEAST_PIXELS * slices
