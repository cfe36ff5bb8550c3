"""How large, how bright and where: figures of each label in each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.names import Label

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class LabelStatistics:
    """Figures of one label in one frame; None from ``mean`` on where the label is absent.

    Attributes
    ----------
    frame : counted from 0. time : s from frame 0; None where the frame time is not known.
    volume : ml; voxels times |det| of the affine, which is the volume of a voxel however the axes stand.
    mean, deviation : of the intensity over the label's voxels, in the image's units; the deviation divides by N.
    centroid : mean of the voxel centres, RAS+ mm; None too where the affine has lost its spacing (`Image.pixdim`), for
        then no position is known. Sizes go by ``pixdim`` there.
    extent : size in mm of the box around the label along the three array axes, whole voxels times spacing.
    """

    value: int
    name: str
    frame: int
    time: float | None
    voxels: int
    volume: float
    mean: float | None = None
    deviation: float | None = None
    centroid: Triple | None = None
    extent: Triple | None = None


def label_statistics(labels: Image, image: Image, names: Sequence[Label]) -> list[LabelStatistics]:
    """Measure each label in each frame: all frames of the first label, then of the second.

    Parameters
    ----------
    labels : the label map; its geometry and frame time count.
    image : what was labelled, on the same grid; of complex values the magnitude is measured.
    names : the labels to measure; voxels of any other value are not reported.

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
            rows.append(_measured(label, frame, time, indices, values, labels))
    return rows


def _measured(
    label: Label, frame: int, time: float | None, indices: NDArray[np.intp], values: NDArray[np.generic], grid: Image
) -> LabelStatistics:
    """Return the figures of the voxels of a grid at ``indices`` (N, 3), whose intensities are ``values`` (N,)."""
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
