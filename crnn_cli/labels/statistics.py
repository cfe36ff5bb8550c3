"""Statistics of each label in each frame: volume, intensity, centroid, extent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.names import Label

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class LabelStatistics:
    """Statistics of one label in one frame; None from ``mean`` on where the label is absent.

    Attributes
    ----------
    value, name : of the label.
    frame : counted from 0.
    time : seconds from frame 0; None where the frame time is unknown.
    voxels : number of voxels.
    volume : in ml; voxels times the volume of a voxel, |det| of the affine. None, as are ``centroid`` and ``extent``,
        where the size of a voxel is not known.
    mean, deviation : mean and standard deviation (divided by N) of the intensity, in the units of the image.
    centroid : mean of the voxel centres, RAS+ in mm; None too where the affine has lost its spacing (`Image.pixdim`),
        as no position is known then. Sizes follow ``pixdim`` there.
    extent : size in mm of the bounding box along the three array axes, whole voxels times spacing.
    """

    value: int
    name: str
    frame: int
    time: float | None
    voxels: int
    volume: float | None
    mean: float | None = None
    deviation: float | None = None
    centroid: Triple | None = None
    extent: Triple | None = None


def label_statistics(
    labels: Image, image: Image, names: Sequence[Label], *, sizes: bool = True
) -> list[LabelStatistics]:
    """Measure each label in each frame: all frames of the first label, then of the second, and so on.

    Parameters
    ----------
    labels : label map; geometry and frame time are taken from it.
    image : the labelled image on the same grid; magnitudes of complex values are measured.
    names : labels to measure; voxels of other values are ignored without a message.
    sizes : whether the size of a voxel is known, so that there are volumes and lengths.

    Raises
    ------
    UnsupportedDataError
        If the two are not on the same grid, or the image has NaN or infinite voxels.
    """
    if labels.shape != image.shape or not np.allclose(labels.affine, image.affine, atol=1e-3):
        raise UnsupportedDataError(
            f"the label map {labels.shape} and the image {image.shape} differ in shape or affine: "
            "resample one onto the grid of the other first"
        )
    image.require_finite("the image")
    shape = (*labels.shape[:3], labels.frames)
    label_frames, frames = labels.array.reshape(shape), image.array.reshape(shape)
    rows = []
    for label in names:
        for frame in range(labels.frames):
            indices = np.argwhere(label_frames[..., frame] == label.value)
            values = frames[..., frame][tuple(indices.T)]
            time = None if labels.frame_time is None else frame * labels.frame_time
            row = _measure(label, frame, time, indices, values, labels)
            rows.append(row if sizes else replace(row, volume=None, centroid=None, extent=None))
    return rows


def _measure(
    label: Label, frame: int, time: float | None, indices: NDArray[np.intp], values: NDArray[np.generic], grid: Image
) -> LabelStatistics:
    """Statistics of the voxels at ``indices`` (N, 3) of a grid, with intensities ``values`` (N,)."""
    voxels, axes = len(indices), grid.affine[:3, :3]
    spacing = np.array(grid.spacing)
    volume = voxels * abs(float(np.linalg.det(axes / np.linalg.norm(axes, axis=0) * spacing))) / 1000
    if not voxels:
        return LabelStatistics(label.value, label.name, frame, time, voxels, volume)
    intensity = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float64)
    steps = indices.max(axis=0) - indices.min(axis=0) + 1
    centroid = _triple(axes @ indices.mean(axis=0) + grid.affine[:3, 3]) if grid.pixdim is None else None
    return LabelStatistics(
        label.value,
        label.name,
        frame,
        time,
        voxels,
        volume,
        mean=float(intensity.mean()),
        deviation=float(intensity.std()),
        centroid=centroid,
        extent=_triple(steps * spacing),
    )


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = values.tolist()
    return x, y, z
